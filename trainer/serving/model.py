"""A model that is asked about photos: what people react with to them.

photos ─► pixels ─► Model ─┬─► ask       p(emoji | photo), each with its interval
                           ├─► readings  the kinds of reactions that a photo has
                           └─► complete  what people add to emojis that are there

    model = load("runs/first")
    (answer,) = model.ask(["photo.jpg"])
    answer.emojis[0].emoji, answer.emojis[0].p
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...datasets.emojis.text import canonical, display
from ...datasets.errors import InputError
from ...datasets.images.average import average_square
from ...datasets.images.read import load_image, read_image
from ...datasets.images.refused import ImageError, unreadable
from ...datasets.posts.post import ImageFile
from ..model.estimate import Asked, Estimate
from ..model.readings import LATENTS, Mixture, completion, latents_of, readings, without

Photo = str | Path | bytes | np.ndarray  # a file, what is in one, or pixels: uint8 [height, width, 3], RGB
MAX_SAMPLES = 10_000


@dataclass(frozen=True)
class Likely:
    """An emoji, and how likely people write it."""

    emoji: str
    p: float


@dataclass(frozen=True)
class Estimated(Likely):
    """The same with the 95 % interval of what all latents would say."""

    low: float
    high: float


@dataclass(frozen=True)
class Answer:
    """p(emoji | photo)."""

    emojis: tuple[Estimated, ...]  # the top_k, the likeliest first
    likeliest: tuple[Estimated, ...]  # those that are not told apart from the first: one of them is the mode
    latents: int  # how many were asked


@dataclass(frozen=True)
class Reading:
    """A kind of reaction to a photo."""

    share: float  # of the people
    emojis: tuple[Likely, ...]  # the likeliest first


@dataclass(frozen=True)
class Model:
    """A snapshot that speaks of photos and emojis, and not of tensors.

    What it says of a photo does not depend on the others that it is asked about; the same seed gives the same
    answer. `deny` are emojis that are never said: the others keep their ratios; those that the model does not
    know change nothing, and one without skin tone and gender denies all its variants.
    """

    snapshot: Asked
    most_readings: int | None  # as many as held-out posts support; None where that is not known

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The emojis that it knows, canonical."""
        return self.snapshot.facts.vocabulary

    @property
    def image_size(self) -> int:
        """Pixels of a side of what it sees of a photo."""
        return self.snapshot.facts.image_size

    def ask(
        self,
        photos: Sequence[Photo],
        *,
        top_k: int = 10,
        samples: int = 0,
        seed: int = 0,
        deny: Collection[str] = (),
    ) -> list[Answer]:
        """What people react with to each photo, the shift of training weights undone.

        Args:
            samples: latents of a photo; 0 for as many as it takes until the likeliest emoji parts from the
                others, of 256 to 4,096.

        Raises:
            InputError: a photo cannot be read, or it cannot say what is asked for.
        """
        _check(top_k, samples, seed)
        denied = self.denied(deny)
        found = self.snapshot.estimates(self._images(photos), num_samples=samples, seed=seed, denied=denied)
        names = [_name(photos, number) for number in range(len(photos))]
        return [self._answer(*each, top_k, denied) for each in zip(names, found, strict=True)]

    def readings(
        self, photos: Sequence[Photo], *, top_k: int = 10, seed: int = 0, deny: Collection[str] = ()
    ) -> list[tuple[Reading, ...]]:
        """The kinds of reactions to each photo that two draws of latents both have, the largest share first.

        Raises:
            InputError: a photo cannot be read, or the model has no readings.
        """
        _check(top_k, 0, seed)
        denied = self.denied(deny)
        self._check_whole("readings")
        if (most := self.most_readings) is None:
            raise InputError(
                "This model has no readings: it was not evaluated, or by an earlier version, or the posts "
                "that tell how many there are were forgotten."
            )
        images = self._images(photos)
        draws = [latents_of(self.snapshot, images, number=LATENTS, seed=each) for each in (seed, seed + 1)]
        both = ((without(one, denied), without(other, denied)) for one, other in zip(*draws, strict=True))
        return [self._told(readings(*each, most), top_k, denied) for each in both]

    def complete(
        self,
        photos: Sequence[Photo],
        given: Collection[str],
        *,
        top_k: int = 10,
        samples: int = 0,
        seed: int = 0,
        deny: Collection[str] = (),
    ) -> list[tuple[Likely, ...]]:
        """What people who wrote the given emojis under each photo add, over the other emojis.

        Raises:
            InputError: a photo cannot be read, an emoji is unknown, or the model says nothing of emojis
                together.
        """
        _check(top_k, samples, seed)
        denied, rows = self.denied(deny), [*dict.fromkeys(self._row(str(emoji)) for emoji in given)]
        self._check_whole("completion")
        if len({*rows, *denied}) == len(self.vocabulary):
            raise InputError("With all of its emojis given or denied, there is none that could be next.")
        number = max(samples, LATENTS)
        latents = latents_of(self.snapshot, self._images(photos), number=number, seed=seed)
        unsaid = {*rows, *denied}
        return [self._top(completion(each, rows, denied), top_k, unsaid) for each in latents]

    def _images(self, photos: Sequence[Photo]) -> np.ndarray:
        """uint8 [n, 3, size, size]"""
        size = self.image_size
        pixels = [pixels_of(photo, size, _name(photos, number)) for number, photo in enumerate(photos)]
        return np.stack(pixels).transpose(0, 3, 1, 2)

    def _check_whole(self, what: str) -> None:
        if not self.snapshot.is_tied:
            raise InputError(
                f"The output of this model is free: it has no {what}, and says nothing of emojis together."
            )

    def _row(self, emoji: str) -> int:
        for known in (canonical(emoji, keep_variants=True), canonical(emoji)):
            if known in self.vocabulary:
                return self.vocabulary.index(known)
        raise InputError(f"{emoji} is none of the {len(self.vocabulary)} emojis that this model knows.")

    def denied(self, emojis: Collection[str]) -> list[int]:
        """Their rows; one without skin tone and gender denies all variants, as in a deny list.

        Raises:
            InputError: no emoji is left.
        """
        if not len(emojis):
            return []
        keep = any(canonical(known) != known for known in self.vocabulary)
        denied = {found for emoji in emojis if (found := canonical(str(emoji), keep_variants=keep))}
        rows = [row for row, known in enumerate(self.vocabulary) if denied & {known, canonical(known)}]
        if len(rows) == len(self.vocabulary):
            raise InputError("With all of its emojis denied, there is none that the model could say.")
        return rows

    def _answer(self, name: str, found: Estimate, top_k: int, denied: Collection[int]) -> Answer:
        if not found.p.any():
            raise InputError(f"{name}: all that the model says of it is denied.")
        first = found.p.argmax()
        likeliest = found.high >= found.low[first]
        rows = _likeliest(found.p, max(top_k, likeliest.sum()), denied)
        told = [
            Estimated(
                display(self.vocabulary[row]),
                *(float(each[row]) for each in (found.p, found.low, found.high)),
            )
            for row in rows
        ]
        apart = tuple(each for row, each in zip(rows, told, strict=True) if likeliest[row])
        return Answer(tuple(told[:top_k]), apart, found.latents)

    def _top(self, p: np.ndarray, top_k: int, unsaid: Collection[int]) -> tuple[Likely, ...]:
        rows = _likeliest(p, top_k, unsaid)
        return tuple(Likely(display(self.vocabulary[row]), float(p[row])) for row in rows)

    def _told(self, found: Mixture, top_k: int, denied: Collection[int]) -> tuple[Reading, ...]:
        parts = zip(found.share, found.p, strict=True)
        return tuple(Reading(float(share), self._top(p, top_k, denied)) for share, p in parts)


def pixels_of(photo: Photo, size: int, name: str) -> np.ndarray:
    """A photo as a model sees it, uint8 [size, size, 3]: its central square, made small.

    Args:
        name: what it is called where it cannot be read.

    Raises:
        InputError: it cannot be read; the message says why.
    """
    try:
        if isinstance(photo, np.ndarray):
            return _square(photo, size)
        return read_image(photo if isinstance(photo, bytes) else load_image(ImageFile(str(photo))), size)
    except ImageError as error:
        raise InputError(f"{name} {error.detail}.") from error
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}.") from error


def _square(pixels: np.ndarray, size: int) -> np.ndarray:
    if not (pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size):
        raise unreadable(f"is {pixels.dtype} {list(pixels.shape)}: pixels are uint8 [height, width, 3]")
    height, width, _ = pixels.shape
    return average_square(pixels, (width, height), (1, 1), size)


def _check(top_k: int, samples: int, seed: int) -> None:
    if not (top_k >= 1 and 0 <= samples <= MAX_SAMPLES and 0 <= seed < 2**63 - 1):
        raise InputError(
            f"top_k must be at least 1, samples 1 to {MAX_SAMPLES:,}, or 0 for as many as it takes, and seed "
            f"0 to 2⁶³ − 2: they are {top_k}, {samples} and {seed}."
        )


def _name(photos: Sequence[Photo], number: int) -> str:
    """What a photo is called."""
    photo = photos[number]
    return str(photo) if isinstance(photo, str | Path) else f"image {number}"


def _likeliest(p: np.ndarray, number: int, unsaid: Collection[int]) -> list[int]:
    """Rows of the likeliest emojis but the unsaid ones, the likeliest first."""
    p = p.copy()
    p[list(unsaid)] = -1
    number = min(number, len(p) - len(unsaid))
    rows = np.argpartition(-p, number - 1)[:number]
    return rows[np.lexsort((rows, -p[rows]))].tolist()
