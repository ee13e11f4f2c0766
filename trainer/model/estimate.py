"""What is said of an image, and how sure that is.

    q(emoji | image, z) of 256 latents ─► p with its interval ─┬─► the likeliest emoji parts from the others
            ▲                                                  │
            └── as many again, up to 4,096 ◄── not yet ────────┘

It is about what the model says; how well that fits people is told by its evaluation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ...datasets.emojis.weights import undo, undo_by_latent, undo_in_reactions
from ..facts import Facts

if TYPE_CHECKING:
    import torch

Pixels: TypeAlias = "np.ndarray | torch.Tensor"  # uint8 [n, 3, size, size]

ROUNDS = (256, 512, 1024, 2048, 4096)  # latents after which it is looked whether they part
MISSED = 0.05  # of the intervals, at most
BESIDE = 16  # draws of single emojis: with fewer, intervals of generators that shout missed more than that


@dataclass(frozen=True)
class Estimate:
    """p(emoji | image) by some latents, and the 95 % interval of what it is by all that there are."""

    p: np.ndarray  # float64 [V], sums to 1; 0 everywhere if nothing was said but what is denied
    low: np.ndarray  # float64 [V]
    high: np.ndarray  # float64 [V]
    latents: int  # that were asked

    @property
    def parts(self) -> bool:
        """Whether the interval of the likeliest emoji lies above all others."""
        first = self.p.argmax()
        return bool(self.low[first] > np.delete(self.high, first).max(initial=0))


class Asked:
    """A generator that can be asked about images, whatever computes it. Images are uint8 [n, 3, size, size].

    What it says of an image does not depend on the others. It owes `about`, `averages` and `parts`.
    """

    facts: Facts
    weights: np.ndarray  # float64 [V], that it was trained with

    @property
    def is_tied(self) -> bool:
        """Whether a latent gives a distribution, and not a single emoji."""
        return self.facts.model["output"] == "tied"

    @property
    def is_weighted(self) -> bool:
        """Whether the samples of its training had weights, which shift what it says."""
        return bool((self.weights != self.weights[0]).any())

    def about(self, image: np.ndarray, *, num_samples: int, seed: int) -> Callable[[slice], np.ndarray]:
        """Of one image [3, size, size], what a slice of `num_samples` latents says: float32 [L, V].

        Its rows are q(emoji | image, z); of a free output, 1 for an emoji and 0 for the others.
        """
        raise NotImplementedError

    def averages(self, images: Pixels, *, num_samples: int, seed: int) -> np.ndarray:
        """q(emoji | image), the mean over `num_samples` latents, the shift of the training's weights left in.

        Returns:
            float64 [n, V], rows sum to 1.
        """
        raise NotImplementedError

    def parts(self, images: Pixels, *, num_samples: int, seed: int) -> Iterator[np.ndarray]:
        """q(emoji | image, z) of a few images at a time, float32 [images, num_samples, V].

        All images have the same latents. The shift of the training's weights is left in.
        """
        raise NotImplementedError

    def by_latent(self, images: Pixels, *, num_samples: int, seed: int) -> np.ndarray:
        """The same of all images, float32 [n, num_samples, V]; the output must be tied.

        Under one latent the emojis of a reaction are independent: its probability is the mean over the
        latents of their product.
        """
        assert self.is_tied
        return np.concatenate([*self.parts(images, num_samples=num_samples, seed=seed)])

    def distribution(self, images: Pixels, *, num_samples: int, seed: int, raw: bool = False) -> np.ndarray:
        """p(emoji | image), averaged over `num_samples` latents.

        A tied output gives the mean of q(e | y, z), a free one the frequencies of its nearest emojis.

        Args:
            raw: leave the shift of the training's weights in.

        Returns:
            float64 [n, V], rows sum to 1.

        Raises:
            InputError: the weights are too far apart to be undone.
        """
        distribution = self.averages(images, num_samples=num_samples, seed=seed)
        if raw or not self.is_weighted:
            return distribution
        undone = undo(distribution, self.weights)  # refuses what cannot be
        if not self.facts.sizes:
            return undone
        sizes, parts = np.array(self.facts.sizes), self.parts(images, num_samples=num_samples, seed=seed)
        by_latent = (sum_to_one(each).swapaxes(0, 1) for each in parts)
        return np.concatenate([undo_in_reactions(each, self.weights, sizes) for each in by_latent])

    def estimates(
        self, images: np.ndarray, *, num_samples: int, seed: int, denied: Sequence[int] = ()
    ) -> list[Estimate]:
        """p(emoji | image) of each image with its intervals, the shift of the training's weights undone.

        Args:
            num_samples: 0 for as many latents as it takes until the likeliest emoji parts, of ROUNDS.
            denied: rows of emojis that are never said; the others keep their ratios.

        Raises:
            InputError: the weights are too far apart to be undone.
        """
        rounds = (num_samples,) if num_samples else ROUNDS
        said = (self.about(image, num_samples=rounds[-1], seed=seed) for image in images)
        return [self._estimate(each, rounds, denied) for each in said]

    def _estimate(
        self, said: Callable[[slice], np.ndarray], rounds: Sequence[int], denied: Sequence[int]
    ) -> Estimate:
        sizes = np.array(self.facts.sizes if self.is_weighted else ())
        q = np.zeros((0, len(self.weights)))
        for number in rounds:
            q = np.concatenate([q, sum_to_one(said(slice(len(q), number)))])
            p, moved = undo_by_latent(q, self.weights, sizes)
            found = estimate(p, moved, self.weights, denied=denied, looks=len(rounds))
            if found.parts:
                break
        return found  # pyright: ignore[reportPossiblyUnboundVariable], there is a round


def sum_to_one(q: np.ndarray) -> np.ndarray:
    """Distributions without the rounding of float32, float64 [..., V]."""
    q = q.astype(np.float64)
    return q / q.sum(axis=-1, keepdims=True)


def estimate(
    p: np.ndarray, moved: np.ndarray, weights: np.ndarray, *, denied: Sequence[int] = (), looks: int = 1
) -> Estimate:
    """What latents say but for the denied emojis; the others keep their ratios.

    The interval is Wilson's, of as many draws of single emojis as would have this standard error: so it has
    room above an emoji that no latent said yet (E. B. Wilson, Probable Inference, the Law of Succession, and
    Statistical Inference, 1927; with an effective number of draws, E. L. Korn, B. I. Graubard, 1998). The
    standard error is that of independent latents: those that are spread evenly are nearer to the truth. An
    emoji that few latents shout has hardly any spread before one of them comes: therefore the spread is that
    of these latents and BESIDE draws of single emojis.

    Args:
        p: what the latents say together, float64 [V].
        moved: how far each of them moves it, as in `undo_by_latent`, float64 [L, V].
        weights: that are undone in it, float64 [V]: a latent that says an emoji counts 1 / w.
        denied: rows of emojis that are never said.
        looks: how often, at most, it is looked whether the latents are enough; any of them may be the last,
            so that all of them together may miss (Bonferroni).
    """
    number, said = len(moved), np.ones(len(p))
    said[list(denied)] = 0
    mass = p @ said or 1.0
    of_draws = (p @ weights) / weights / mass  # the spread if each latent says a single emoji
    p = p * said / mass
    moved = (moved * said - np.outer(moved @ said, p)) / mass
    single = p * (1 - p)  # the unit of a spread
    spread = of_draws.copy()
    np.divide((moved**2).mean(axis=0), single, out=spread, where=single > 0)
    spread = (number * spread + BESIDE * of_draws) / (number + BESIDE)
    reach = NormalDist().inv_cdf(1 - MISSED / 2 / looks) ** 2 * spread / number
    middle, half = p + reach / 2, np.sqrt(reach * single + reach**2 / 4)
    low, high = ((middle + side) / (1 + reach) for side in (-half, half))
    return Estimate(p, low.clip(min=0), high.clip(max=1) * said, number)
