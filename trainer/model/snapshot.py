"""Weights to sample from, with all that sampling needs: what is evaluated, registered and served.

step-00000400/{generator.safetensors, vectors.safetensors, snapshot.json, SHA256SUMS}
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ...datasets.emojis.weights import undo, undo_by_latent, undo_in_reactions
from ...datasets.errors import InputError
from ...datasets.store.atomic import creating_folder, is_whole, remove_folder, telling_where
from ...datasets.store.trouble import MISSING
from ..config import ModelConfig
from .augment import normalise
from .estimate import ROUNDS, Estimate, estimate
from .head import Head
from .networks import Generator
from .noise import even_normal
from .tensors import not_finite, read_tensors, refuse_not_finite, write_tensors

GENERATOR, VECTORS, FACTS = "generator.safetensors", "vectors.safetensors", "snapshot.json"
CHUNK = 256  # images that the trunk sees at a time
ON_CPU, ON_GPU = (
    2**20,
    2**26,
)  # numbers of a layer at a time: 4 MB are in a core's cache, 256 MB keep a GPU busy


@dataclass(frozen=True)
class Facts:
    """What a snapshot says of itself; JSON in the folder."""

    step: int
    image_size: int  # pixels
    model: dict  # ModelConfig
    vocabulary: tuple[str, ...]  # canonical emojis, the order of the vectors
    dataset: str  # SHA-256 of the manifest when the training began: all that it saw was in it
    vectors: str  # SHA-256 of the vector file
    scores: dict[str, float]  # on the val split; empty where that was forgotten
    sizes: tuple[float, ...] = ()  # share of reactions with 1, 2, … emojis; empty if it learned from tuples


@dataclass(frozen=True)
class Snapshot:
    """A generator that can be asked."""

    facts: Facts
    generator: Generator
    weights: np.ndarray  # float64 [V], that it was trained with

    @torch.inference_mode()
    def distribution(
        self, images: torch.Tensor, *, num_samples: int, seed: int, raw: bool = False
    ) -> np.ndarray:
        """p(emoji | image), averaged over `num_samples` latents.

        A tied output gives the mean of q(e | y, z), a free one the frequencies of its nearest emojis.

        Args:
            images: uint8 [n, 3, size, size].
            raw: leave the shift of the training's weights in.

        Returns:
            float64 [n, V], rows sum to 1.
        """
        q = self._said(images, num_samples, seed)
        distribution = torch.cat([_sum_to_one(each.mean(dim=1)).cpu() for each in q]).numpy()
        if raw or not self.is_weighted:
            return distribution
        undone = undo(distribution, self.weights)  # refuses what cannot be
        if not self.facts.sizes:
            return undone
        sizes = np.array(self.facts.sizes)
        by_latent = (
            _sum_to_one(each).transpose(0, 1).cpu().numpy() for each in self._said(images, num_samples, seed)
        )
        return np.concatenate([undo_in_reactions(each, self.weights, sizes) for each in by_latent])

    @torch.inference_mode()
    def estimates(
        self, images: torch.Tensor, *, num_samples: int, seed: int, denied: Sequence[int] = ()
    ) -> list[Estimate]:
        """p(emoji | image) of each image, with intervals; by as many latents it is that of `distribution`.

        Args:
            images: uint8 [n, 3, size, size]; what is said of one does not depend on the others.
            num_samples: 0 for as many latents as it takes until the likeliest emoji parts, of ROUNDS.
            denied: rows of emojis that are never said; the others keep their ratios.

        Raises:
            InputError: the weights are too far apart to be undone.
        """
        rounds = (num_samples,) if num_samples else ROUNDS
        latents = self._latents(rounds[-1], seed)
        return [self._estimate(image.to(self._device), latents, rounds, denied) for image in images.split(1)]

    @torch.inference_mode()
    def by_latent(self, images: torch.Tensor, *, num_samples: int, seed: int) -> np.ndarray:
        """q(emoji | image, z) of each of `num_samples` latents, the same for all images.

        Under one latent the emojis of a reaction are independent: its probability is the mean over the
        latents of their product. The shift of the training's weights is left in; the output must be tied.

        Args:
            images: uint8 [n, 3, size, size].

        Returns:
            float32 [n, num_samples, V].
        """
        assert self.is_tied
        return torch.cat([each.cpu() for each in self._said(images, num_samples, seed)]).numpy()

    @torch.inference_mode()
    def outputs(self, images: torch.Tensor, *, num_samples: int, seed: int) -> np.ndarray:
        """The generator's vectors under each latent, float32 [n, num_samples, vector_dim]."""
        latents = self._latents(num_samples, seed)
        found = []
        for features in self._features(images):
            pairs = features[:, None].expand(-1, num_samples, -1), latents.expand(len(features), -1, -1)
            found.append(self.generator.head(*pairs).cpu())
        return torch.cat(found).numpy()

    @torch.inference_mode()
    def features(self, images: torch.Tensor) -> np.ndarray:
        """What the trunk sees in uint8 images [n, 3, size, size], float32 [n, feature_dim]."""
        return torch.cat([each.cpu() for each in self._features(images)]).numpy()

    @property
    def is_tied(self) -> bool:
        """Whether a latent gives a distribution, and not a single emoji."""
        return self.facts.model["output"] == "tied"

    @property
    def is_weighted(self) -> bool:
        """Whether the samples of its training had weights, which shift what it says."""
        return bool((self.weights != self.weights[0]).any())

    @property
    def _device(self) -> torch.device:
        return next(self.generator.parameters()).device

    def _latents(self, number: int, seed: int) -> torch.Tensor:
        """float32 [number, latent_dim]"""
        return even_normal(number, self.generator.latent_dim, seed).to(self._device)

    @cached_property
    def _head(self) -> Head:
        return Head.of(self.generator, tied=self.is_tied)

    def _features(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """float32 [images, feature_dim], of a few images at a time."""
        for chunk in images.split(CHUNK):
            yield self.generator.trunk(normalise(chunk.to(self._device)))

    def _said(self, images: torch.Tensor, num_samples: int, seed: int) -> Iterator[torch.Tensor]:
        """q(emoji | image, z) of a few images at a time, float32 [images, num_samples, V].

        All images have the same latents.
        """
        latents = self._latents(num_samples, seed)
        numbers = ON_GPU if latents.is_cuda else ON_CPU
        number = max(1, numbers // (num_samples * self._head.width))
        for features in self._features(images):
            for few in features.split(number):
                yield self._head.said(few, latents)

    def _estimate(
        self, image: torch.Tensor, latents: torch.Tensor, rounds: Sequence[int], denied: Sequence[int]
    ) -> Estimate:
        features = self.generator.trunk(normalise(image))  # [1, feature_dim]
        sizes = np.array(self.facts.sizes if self.is_weighted else ())
        q = np.zeros((0, len(self.weights)))
        for number in rounds:
            new = latents[len(q) : number]
            q = np.concatenate([q, _sum_to_one(self._head.said(features, new)[0]).cpu().numpy()])
            p, moved = undo_by_latent(q, self.weights, sizes)
            found = estimate(p, moved, self.weights, denied=denied, looks=len(rounds))
            if found.parts:
                break
        return found  # pyright: ignore[reportPossiblyUnboundVariable], there is a round


def _sum_to_one(q: torch.Tensor) -> torch.Tensor:
    """Distributions without the rounding of float32, float64 [..., V]."""
    return q.double() / q.double().sum(dim=-1, keepdim=True)


def save_snapshot(path: Path, facts: Facts, generator: Generator, weights: np.ndarray) -> None:
    """Write a snapshot as the folder `path`.

    Raises:
        InputError: a weight or a score is not finite; nothing is written.
    """
    scores = {name: torch.tensor(score) for name, score in facts.scores.items()}
    refuse_not_finite({**generator.state_dict(), **scores}, f"snapshot {path}")
    with creating_folder(path) as temporary:
        parameters = {key: tensor.cpu().contiguous() for key, tensor in generator.state_dict().items()}
        write_tensors(temporary / GENERATOR, parameters)
        vectors = {"vectors": generator.vectors.cpu().contiguous(), "weights": torch.from_numpy(weights)}
        write_tensors(temporary / VECTORS, vectors)
        (temporary / FACTS).write_text(
            json.dumps(facts.__dict__, ensure_ascii=False, indent=1), encoding="utf-8"
        )


def keep_snapshots(paths: Sequence[Path], last: int, checkpoints: Sequence[Path]) -> None:
    """Remove all of some snapshots, in the order of their steps, but the best and the `last` ones.

    Args:
        checkpoints: a training that is killed goes on from the last of them, and loses later snapshots: the
            best of the others is kept, too.
    """
    with suppress(InputError):  # one is damaged: none is removed, and `evaluate` tells of it
        sure = [path for path in paths if checkpoints and path.name <= checkpoints[-1].name]
        for other in {*paths[:-last]} - {best_snapshot(paths), best_snapshot(sure)}:
            other.rename(other.with_name(f".{other.name}.tmp"))  # else it may be left damaged
        for left in paths[-1].parent.glob(".step-*.tmp"):
            remove_folder(left)


def read_facts(path: Path) -> Facts:
    """What a snapshot says of itself.

    Raises:
        InputError: nothing that can be read.
    """
    try:
        with telling_where(path / FACTS):
            content = json.loads((path / FACTS).read_text(encoding="utf-8"))
        content["vocabulary"], content["sizes"] = (
            tuple(content["vocabulary"]),
            tuple(content.get("sizes", ())),
        )
        return Facts(**content)
    except (*MISSING, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is damaged. Remove it, and the best other snapshot is taken.") from error


def load_snapshot(path: Path, device: torch.device | str = "cpu") -> Snapshot:
    """Read a snapshot.

    Raises:
        InputError: it is not there, a file is damaged, or it holds what is no number.
    """
    if not is_whole(path):
        raise InputError(f"{path} is not a whole snapshot. Run `emojigan train` to make one.")
    facts = read_facts(path)
    tensors, parameters = read_tensors(path / VECTORS), read_tensors(path / GENERATOR)
    if bad := not_finite({**tensors, **parameters}):
        raise InputError(f"{path}: {bad[0]} holds NaN or infinity: its training diverged. Train again.")
    generator = Generator(ModelConfig(**facts.model), tensors["vectors"], facts.image_size)
    generator.load_state_dict(parameters)
    generator.eval().to(device).trunk.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return Snapshot(facts, generator, tensors["weights"].numpy())


def best_snapshot(paths: Iterable[Path]) -> Path | None:
    """Of some snapshots, the one with the lowest negative log-likelihood on the val split.

    Those without a score come after all others, and the last of them first.

    Raises:
        InputError: it is damaged; or another is so that its score is not known.
    """
    latest_first = sorted(paths, reverse=True)
    best = min(latest_first, key=lambda path: read_facts(path).scores.get("nll", math.inf), default=None)
    if best and not is_whole(best):
        raise InputError(f"{best} is the best snapshot, and damaged. Remove it, and the best other is taken.")
    return best
