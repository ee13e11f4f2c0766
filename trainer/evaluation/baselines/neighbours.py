"""What people wrote under the most similar images: each of them is a reader, and nothing is trained."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from sklearn.neighbors import NearestNeighbors

from ....datasets.errors import InputError
from ....datasets.store.trouble import tell
from ....datasets.stream.held_out import HeldOut, read_split
from ..metrics.metric import Floats
from ..metrics.reactions import Answers, likelihoods
from ..metrics.scene import spread
from .baseline import CHUNK_BYTES, Candidate, Given, reactions_of, values_of
from .classifier import features

MAX_IMAGES = 20_000  # of the train split, among which neighbours are looked for
NUMBERS = (10, 30, 100)  # of neighbours, of which the val split takes one
ALIKE = (0.1, 0.3, 0.6, 0.9, 1.0)  # how much of a neighbour's answer is that of all of them; the same
FROM_MARGINAL = (0.01, 0.1)  # how much of that is the marginal; the same
CHOSEN_BY = 500  # images of the val split


@dataclass(frozen=True)
class Settings:
    """How answers are made of neighbours."""

    number: int
    alike: float
    from_marginal: float


class Neighbours:
    """The images of the train split, and what was written under them.

    Args:
        seen: features of some of them, [n, f].
        said: how often each emoji was written under each, [n, V].
        shares: of each emoji, [V].
    """

    def __init__(self, seen: Floats, said: Floats, shares: Floats) -> None:
        self._said, self._shares = said, shares
        self._index = NearestNeighbors(metric="cosine").fit(seen)

    def nearest(self, seen: Floats) -> np.ndarray:
        """To images by their features, [images, f]: as many as any settings take, the nearest first."""
        number = min(max(NUMBERS), len(self._said))
        return self._index.kneighbors(seen, number, return_distance=False)

    def answers(self, nearest: np.ndarray, settings: Settings) -> Iterator[Answers]:
        """Of images by what is nearest to them, a few at a time; each neighbour is a latent."""
        nearest = nearest[:, : settings.number]
        size = max(1, CHUNK_BYTES // (8 * nearest.shape[1] * self._said.shape[1]))
        for first in range(0, len(nearest), size):
            yield Answers.equal(self._of(nearest[first : first + size], settings))

    def _of(self, nearest: np.ndarray, settings: Settings) -> Floats:
        """[images, number] → [images, number, V]"""
        said = self._said[nearest]
        all_of_them = said.sum(axis=1, keepdims=True)
        together = all_of_them / all_of_them.sum(axis=2, keepdims=True)
        together = (1 - settings.from_marginal) * together + settings.from_marginal * self._shares
        own = said / said.sum(axis=2, keepdims=True)
        return (1 - settings.alike) * own + settings.alike * together


def neighbours(given: Given) -> Candidate | None:
    """With the settings that foretell the reactions of val best; nothing where train has damaged images."""
    inputs, scene = given.inputs, given.scene
    try:
        of_train = read_split(replace(inputs.train, name="train"), MAX_IMAGES)
    except InputError as error:  # a training goes on without them, and evaluates without this
        tell(f"Without nearest neighbours: {error}")
        return None
    said = counts(of_train, inputs.vocabulary)
    some = said.sum(axis=1) > 0  # under the others only what cannot be said was written
    seen = features(given.classifier, of_train.images)[some]
    found = Neighbours(seen, said[some], scene.shares[: len(inputs.vocabulary)])
    settings = _choose(found, given)
    of_test = found.nearest(features(given.classifier, scene.held_out.images))
    q = np.concatenate([each.marginal.q[:, 0] for each in found.answers(of_test, settings)])
    return Candidate(
        "Nearest neighbours",
        f"What was written under the {settings.number} most similar images of the train split, by the "
        "features of the classifier; each of them is a reader.",
        spread(q, scene),
        values_of(found.answers(of_test, settings), scene),
    )


def _choose(found: Neighbours, given: Given) -> Settings:
    if (held_out := given.val) is None:
        return Settings(NUMBERS[1], ALIKE[2], FROM_MARGINAL[1])
    vocabulary = given.inputs.vocabulary
    posted = reactions_of(held_out, vocabulary).under(0, CHOSEN_BY)
    nearest = found.nearest(features(given.classifier, held_out.images[:CHOSEN_BY]))

    def loss(settings: Settings) -> float:
        total, first = 0.0, 0
        for answers in found.answers(nearest, settings):
            last = first + len(answers.q)
            says = answers.saying_all(len(vocabulary))
            total += likelihoods(says, posted.under(first, last)).sum()
            first = last
        return total

    return min((Settings(*each) for each in product(NUMBERS, ALIKE, FROM_MARGINAL)), key=loss)


def counts(held_out: HeldOut, vocabulary: tuple[str, ...]) -> Floats:
    """How often each emoji was written under each image, [images, V]."""
    row = {emoji: number for number, emoji in enumerate(vocabulary)}
    found = np.zeros((len(held_out.images), len(row)))
    for image, emoji in zip(held_out.image, held_out.emojis, strict=True):
        if emoji in row:
            found[image, row[emoji]] += 1
    return found
