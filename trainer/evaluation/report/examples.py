"""A model picture by picture, and emoji by emoji: some of each, and those that it knows least of.

q [tuples, S] + Scene ─► some, worst ─► Example
                     └─► errors ─► EmojiError
"""

from dataclasses import dataclass, replace

import numpy as np

from ..metrics.by_emoji import OfEmoji, by_emoji
from ..metrics.divergences import total_variation
from ..metrics.proper_scores import negative_log_likelihood
from ..metrics.scene import Scene, tuples_of_some
from .figures import Bar, Example

NUM_EXAMPLES, NUM_WORST = 8, 6  # pictures
NUM_ERRORS = 20  # emojis
TOP = 10  # emojis of a picture,
MISSED, MODE = 3, 0.05  # and of those that it has not, so many at most of which people write so much


@dataclass(frozen=True)
class EmojiError:
    """An emoji, and how the first model does on it."""

    emoji: str
    found: OfEmoji


def some(q: np.ndarray, scene: Scene) -> tuple[Example, ...]:
    """Fig. 4: the likeliest emojis of some images."""
    return tuple(_example(q[row], row, scene) for row in tuples_of_some(scene, NUM_EXAMPLES).tolist())


def worst(q: np.ndarray, scene: Scene) -> tuple[Example, ...]:
    """The images that the model knows least of; of those that show the same only one, where that is known.

    By the total variation from the truth, or where that is not known by the surprise at what was posted.
    """
    first = scene.first_tuple
    if scene.truth is not None:
        off, told = total_variation(q[first], scene.truth[first]), "total variation"
    else:
        surprise, image = negative_log_likelihood(q, scene.observed), scene.held_out.image
        off, told = np.bincount(image, surprise) / np.bincount(image), "surprise in nats"
    order = np.argsort(-off, kind="stable")
    if scene.groups is not None:
        order = order[np.sort(np.unique(scene.groups[first][order], return_index=True)[1])]
    found = []
    for image in order[:NUM_WORST].tolist():
        row = int(first[image])
        example = _example(q[row], row, scene)
        found.append(replace(example, caption=f"{example.caption}: {told} {off[image]:.2f}"))
    return tuple(found)


def errors(q: np.ndarray, scene: Scene) -> tuple[EmojiError, ...]:
    """The emojis that the model errs most on."""
    return tuple(EmojiError(scene.support[each.emoji], each) for each in by_emoji(scene.said(q))[:NUM_ERRORS])


def _example(q: np.ndarray, row: int, scene: Scene) -> Example:
    image = scene.held_out.image[row]
    truth = None if scene.truth is None else scene.truth[row]
    posted = np.flatnonzero(scene.held_out.image == image)
    likeliest = np.argsort(-q, kind="stable")[:TOP].tolist()
    if truth is not None:
        missed = [e for e in np.argsort(-truth, kind="stable").tolist() if e not in likeliest]
        likeliest += [e for e in missed[:MISSED] if truth[e] >= MODE]
    return Example(
        image=scene.held_out.images[image].permute(1, 2, 0).numpy(),
        caption=f"post {scene.held_out.posts[image]}",
        observed=tuple(scene.held_out.emojis[n] for n in posted),
        bars=tuple(
            Bar(scene.support[e], float(q[e]), None if truth is None else float(truth[e])) for e in likeliest
        ),
    )
