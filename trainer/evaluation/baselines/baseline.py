"""What a model is compared with: a function of what it is made from, one file each.

    Given (posts, scene, the classifier) ─► baseline ─► Candidate: q of tuples, values of reactions

A new one is a file here and an entry in table.py.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ....datasets.stream.held_out import HeldOut
from ...config import Config
from ...inputs import Inputs
from ...model.networks import Classifier
from ...validation import read_val
from ..metrics.metric import Floats
from ..metrics.reactions import Answers, Posted, judge
from ..metrics.scene import Scene, spread

CHUNK_BYTES = 2**25  # of the answers of all latents that are looked at together


@dataclass(frozen=True)
class Candidate:
    """A model to be judged, with what it answered; None where it has no such answer."""

    label: str
    explanation: str
    q: Floats | None  # [tuples, S]
    reactions: Mapping[str, Floats] | None  # values, by the key of a metric


@dataclass(frozen=True)
class Given:
    """What a baseline is made from."""

    config: Config  # of the run that it is compared with
    inputs: Inputs
    scene: Scene
    run: Path  # whose folder keeps what was trained
    steps: int | None  # batches to train on; by default as many tuples, or reactions, as the run saw
    classifier: Classifier  # trained

    @cached_property
    def val(self) -> HeldOut | None:
        """What settings are chosen by, read once; None where it is forgotten."""
        return read_val(self.inputs)

    def says(self, label: str, explanation: str, q: Floats) -> Candidate:
        """A model that knows of single emojis alone, [images, V]."""
        alone = values_of(chunked(q[:, None]), self.scene)
        return Candidate(label, explanation, spread(q, self.scene), alone)


Baseline = Callable[[Given], Candidate | None]
"""None where there is nothing that it could say."""


def chunked(q: Floats) -> Iterator[Answers]:
    """Answers of latents of equal share, [images, K, V], a few images at a time."""
    size = max(1, CHUNK_BYTES // (8 * q.shape[1] * q.shape[2]))
    return (Answers.equal(q[first : first + size]) for first in range(0, len(q), size))


def values_of(chunks: Iterable[Answers], scene: Scene) -> dict[str, Floats] | None:
    """What answers say of whole reactions; None where no reaction has two emojis."""
    if not scene.has_pairs:
        return None
    return judge(chunks, scene.posted, len(scene.support), scene.pairs_of)


def reactions_of(held_out: HeldOut, vocabulary: tuple[str, ...]) -> Posted:
    """Held-out reactions by the emojis that can be said."""
    row = {emoji: number for number, emoji in enumerate(vocabulary)}
    emoji = np.array([row.get(each, -1) for each in held_out.emojis])
    known = emoji >= 0
    return Posted.of(held_out.image[known], emoji[known], held_out.reaction[known])
