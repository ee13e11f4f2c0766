"""What the networks are shown of a batch in training.

images as streamed, emojis as positions in the manifest, place ─► Sight ─► Seen, with all noise of the update
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from .augment import augment, normalise
from .noise import kept, normal, uniform


@dataclass(frozen=True)
class Seen:
    """A batch as the networks see it: reactions, in slots. A tuple has one."""

    images: torch.Tensor  # float32 [batch, 3, size, size], changed a little
    latents: torch.Tensor  # z, float32 [batch, latents, latent_dim]
    pick: torch.Tensor  # float32 [batch, slots] in [0, 1), which emojis are drawn
    mix: torch.Tensor  # ε, float32 [batch, 1] in [0, 1)
    choice: torch.Tensor  # float32 [batch, 1] in [0, 1), which of the emojis is seen where one is
    emoji: torch.Tensor  # int64 [batch, slots], position in the vocabulary; any where there is none
    present: torch.Tensor  # float32 [batch, slots], 1 where there is an emoji with a vector: the first ones
    weight: torch.Tensor  # float32 [batch], mean of its emojis'
    kept: (
        torch.Tensor | None
    )  # float32 [batch, feature_dim], factors of the features, where some are left out


@dataclass(frozen=True)
class Sight:
    """How the networks are shown a batch."""

    seed: int  # of the noise
    augments: bool
    precision: torch.dtype
    ids: torch.Tensor  # int64 [M], position of each of the manifest's emojis in the vocabulary, or -1
    tuple_weights: torch.Tensor  # float32 [M], 0 for one that has none
    latent_dim: int
    feature_dim: int
    dropout: float

    def see(self, images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor, latents: int) -> Seen:
        """The batch, and all noise of the update."""
        emoji = emoji.view(len(emoji), -1)
        slots, numbers = emoji.shape[1], latents * self.latent_dim
        columns = (5, slots, 1, numbers + numbers % 2, 1, self.feature_dim if self.dropout else 0)
        drawn = uniform(self.seed, place, len(emoji), sum(columns))
        of_images, pick, mix, of_latents, choice, of_features = drawn.split(columns, dim=1)
        seen = augment(images, of_images) if self.augments else normalise(images)
        ids = torch.where(emoji >= 0, self.ids[emoji.clamp(min=0)], -1)
        if slots > 1:  # those that have a vector come first: see `expected_scores`
            order = (ids < 0).byte().argsort(dim=1, stable=True)
            emoji, ids = emoji.gather(1, order), ids.gather(1, order)
        present = (ids >= 0).float()
        weights = self.tuple_weights[emoji.clamp(min=0)] * present
        return Seen(
            images=seen,
            latents=normal(of_latents)[:, :numbers].unflatten(1, (latents, self.latent_dim)),
            pick=pick,
            mix=mix,
            choice=choice,
            emoji=ids.clamp(min=0),
            present=present,
            weight=weights.sum(dim=1) / present.sum(dim=1).clamp(min=1),
            kept=kept(of_features, self.dropout) if self.dropout else None,
        )

    def autocast(self) -> AbstractContextManager:
        """The precision of the trunks."""
        enabled = self.precision != torch.float32
        return torch.autocast(self.ids.device.type, self.precision, enabled=enabled)
