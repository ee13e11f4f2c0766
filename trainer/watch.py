"""Whether a training is still sane, by the metrics that it has anyway.

    metrics, averaged over the ranks ─► Watch ─► a sign, told once each ─► the end, with --stop-on-collapse

What is sane is told by the data: how far apart its emoji vectors lie, and how many emojis its posts say.
"""

import math
from collections.abc import Mapping

import torch
from scipy.special import entr

from .config import Config
from .inputs import Inputs

BEYOND = 10.0
"""Of a slope of 1, a critic can tell two vectors by no more than their distance, and who knows nothing pays
the logarithm of the vocabulary for an emoji: with so many times either, nothing is learned any more."""
DRIFT = 1000.0
"""Distances, from which on rounding takes the digits in which the scores of two emojis differ."""
FEW, ENOUGH = 1 / 2, 2 / 3
"""Of the entropy of the data's emojis. A generator whose own falls below the first, after it was above the
second or after the first tenth of the steps, has collapsed; one that begins may say few."""
BEGINNING = 0.1  # of the steps
SIGNS = ("diverges", "drifts", "collapses")


class Watch:
    """Looks at the metrics of one training; alike on all ranks."""

    def __init__(self, config: Config, inputs: Inputs, rows: int) -> None:
        """Of batches of `rows` on each rank."""
        vectors = inputs.vectors - inputs.vectors.mean(dim=0)
        self._widest = 2 * float(torch.linalg.vector_norm(vectors, dim=1).max())
        self._unknowing = math.log(len(inputs.vocabulary))
        if config.data.unit == "reaction":  # of so many emojis, each of which adds its own
            self._widest *= math.sqrt(inputs.train.slots)
            self._unknowing *= inputs.train.slots
        self._entropy = float(entr(inputs.shares).sum())
        if config.model.output == "free":  # each row says one emoji
            self._entropy = min(self._entropy, math.log(rows))
        self._beginning = BEGINNING * config.optimizer.steps
        self._said_enough = False
        self._told: list[str] = []

    @property
    def signs(self) -> tuple[str, ...]:
        """Those that were seen, in a word each."""
        return tuple(self._told)

    def look(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """A line about a sign that is seen for the first time."""
        wasserstein, nll = abs(metrics["train/wasserstein"]), metrics["train/nll"]
        score, said = abs(metrics["train/score"]), metrics["train/emojis_said"]
        self._said_enough |= said > 0 and math.log(said) >= ENOUGH * self._entropy
        few = said > 0 and math.log(said) < FEW * self._entropy
        seen = {
            "diverges": (
                wasserstein > BEYOND * self._widest or nll > BEYOND * self._unknowing,
                f"it diverges: the critic tells real from drawn emojis by {wasserstein:.3g}, and their "
                f"vectors lie within {self._widest:.3g}; nll is {nll:.3g}",
            ),
            "drifts": (
                score > DRIFT * self._widest,
                f"the critic drifts: its mean score is {score:.3g}, and the vectors lie within "
                f"{self._widest:.3g}",
            ),
            "collapses": (
                few and (self._said_enough or step > self._beginning),
                f"the generator collapses: it says {said:.1f} emojis, where the data have "
                f"{math.exp(self._entropy):.1f}",
            ),
        }
        new = [(word, line) for word, (is_so, line) in seen.items() if is_so and word not in self._told]
        self._told += [word for word, _ in new]
        return f"Step {step:,}: " + "; ".join(line for _, line in new) + "." if new else None

    def state_dict(self) -> dict[str, float]:
        """The numbers that a training goes on with."""
        return {"said_enough": float(self._said_enough)} | {sign: 1.0 for sign in self._told}

    def load_state_dict(self, numbers: Mapping[str, float]) -> None:
        """Go on with them."""
        self._said_enough = bool(numbers["said_enough"])
        self._told = [sign for sign in SIGNS if sign in numbers]
