"""The conditional WGAN-GP, of reactions: the emojis of one post under one image. A tuple is one of one emoji.

    L_D = E[D(Ŝ|y)] − E[D(S|y)] + λ E[(‖∇_S̃ D(S̃|y)‖₂ − 1)²],  S̃ between S and Ŝ, slot by slot       (Eq. 1)
    L_G = −E[D(Ŝ|y)]  − log 1/K Σ_k Π_i q(x_i|y, z_k)                   (the latter where q is explicit)

each term weighted by its sample's w and divided by the batch. The penalty needs gradients by the emoji
vectors alone, so the image trunk runs once and is shared by S, Ŝ and S̃, and the head tells them in closed
form, in float32. What is done with a reaction takes its emojis in slots, and `present`, 1 for a slot with an
emoji and 0 for others, float32 [batch, slots].
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..model.networks import Critic


def critic_losses(
    critic: Critic,
    images: torch.Tensor,  # [batch, 3, size, size]
    real: torch.Tensor,  # [batch, slots, vector_dim]
    fake: torch.Tensor,  # [batch, slots, vector_dim], without gradient
    present: torch.Tensor,  # [batch, slots], of both
    mix: torch.Tensor,  # [batch, 1], ε
    penalty_weight: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """L_D of each sample without weights, [batch]; Wasserstein estimate and penalty, float32 [2]."""
    embedded = critic.embed(images).float()
    with torch.autocast(images.device.type, enabled=False):
        between = mix[..., None] * real + (1 - mix[..., None]) * fake
        gradient = critic.gradient(embedded, between, present)  # [batch, slots, vector_dim]
        penalty = (torch.linalg.vector_norm(gradient, dim=(1, 2)) - 1) ** 2
        difference = critic.score(embedded, fake, present) - critic.score(embedded, real, present)  # [batch]
        losses = difference + penalty_weight * penalty
    return losses, torch.stack([-mean(difference, present), mean(penalty, present)]).detach()


def free_scores(
    critic: Critic, images: torch.Tensor, vectors: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """D(Ŝ|y) of each sample, [batch], for the generator whose vectors they are; the critic is left alone."""
    with torch.no_grad():
        embedded = critic.embed(images).float()
    with torch.autocast(images.device.type, enabled=False):
        return critic.score(embedded, vectors, present)


def expected_scores(
    critic: Critic,
    images: torch.Tensor,  # [batch, 3, size, size]
    log_q: torch.Tensor,  # [batch, V], of one latent
    vectors: torch.Tensor,  # [V, vector_dim]
    drawn: torch.Tensor,  # int64 [batch, slots], of a reaction from q
    present: torch.Tensor,  # [batch, slots], of the first n
) -> torch.Tensor:
    """E[D(Ŝ|y)] over the emoji in the first slot, exactly, the others as they were drawn, [batch].

    No slot is another's than by its draw. So n times the gradient of this is, in expectation, that of
    E[D(Ŝ|y)] over all n slots, without the noise that sampling all of them would have.
    """
    with torch.no_grad():
        embedded = critic.embed(images).float()
        with torch.autocast(images.device.type, enabled=False):
            scores = critic.score_all(embedded, vectors, vectors[drawn], present)  # [batch, V]
    return (log_q.exp() * scores).sum(dim=1)


def negative_log_likelihood(
    log_q: torch.Tensor,  # [batch, latents, V]
    emoji: torch.Tensor,  # int64 [batch, slots]
    present: torch.Tensor,  # [batch, slots]
) -> torch.Tensor:
    """−log 1/K Σ_k Π_i q(x_i|y, z_k) of observed reactions, [batch]."""
    of_each = log_q.gather(2, emoji[:, None].expand(-1, log_q.shape[1], -1))  # [batch, latents, slots]
    return math.log(log_q.shape[1]) - (of_each * present[:, None]).sum(dim=2).logsumexp(dim=1)


def mean(of_each: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """The mean over the samples that have an emoji, [batch] → []; 0 where none has."""
    there = present.amax(dim=1)
    return (of_each * there).sum() / there.sum().clamp(min=1)


@torch.no_grad()
def draw(log_q: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Emojis drawn from q, float32 [batch, V], by as many numbers in [0, 1): int64 [batch, slots]."""
    cumulative = log_q.exp().cumsum(dim=1)
    drawn = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return drawn.clamp(max=log_q.shape[1] - 1)


@torch.no_grad()
def emojis_said(mean_q: torch.Tensor) -> torch.Tensor:
    """How many emojis a batch says: the perplexity of its mean distribution [V]."""
    return torch.special.entr(mean_q).sum().exp()


@torch.no_grad()
def latent_use(log_q: torch.Tensor) -> torch.Tensor:
    """I(z; e | y) in nats, of float32 [batch, latents, V]: what the latent decides. 0 where it is ignored."""
    each = -(log_q.exp() * log_q).sum(dim=2).mean(dim=1)
    return (torch.special.entr(log_q.exp().mean(dim=1)).sum(dim=1) - each).mean()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No gradients for a module's parameters: the generator's update needs none of the critic's."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
