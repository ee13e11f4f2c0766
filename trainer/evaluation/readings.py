"""How many readings a snapshot has, by the posts of the val split; and those of some held-out images.

val split ─► how many ─┬─► evaluation.json ─► the registered model
                       └─► the readings of some images ─► the report
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ..inputs import Inputs
from ..model.readings import LATENTS, latents_of, readings, supported
from ..model.snapshot import Snapshot
from ..validation import read_val
from .metrics.scene import Scene, tuples_of_some

CHOOSING = 300  # images with a reaction of several emojis
CARDS = 8  # images that are shown
TOP = 5  # emojis of a reading


@dataclass(frozen=True)
class Line:
    """A reading or a true mood: its share of the people, and its likeliest emojis with probabilities."""

    share: float
    emojis: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Card:
    """An image, its readings, of which there may be none, and the moods that people have, where known."""

    image: np.ndarray  # uint8 [H, W, 3]
    caption: str
    readings: tuple[Line, ...]
    moods: tuple[Line, ...]


@dataclass(frozen=True)
class Readings:
    """What an evaluation knows of the readings of a snapshot."""

    most: int  # of a picture, as held-out posts support
    cards: tuple[Card, ...]


def find_readings(snapshot: Snapshot, inputs: Inputs, scene: Scene) -> Readings | None:
    """The number of readings that a picture has at most, and the readings of some images.

    None where there is no telling: of a free output, whose latents say one emoji each, of a model that was
    trained with weights, and where the val split is forgotten.
    """
    most = choose(snapshot, inputs)
    if most is None:
        return None
    rows = tuples_of_some(scene, CARDS)
    images = scene.held_out.image[rows].tolist()
    pixels = scene.held_out.images[torch.tensor(images)].numpy()
    draws = [latents_of(snapshot, pixels, number=LATENTS, seed=seed) for seed in (0, 1)]
    found = [readings(one, other, most) for one, other in zip(*draws, strict=True)]
    vocabulary = snapshot.facts.vocabulary
    cards = [
        Card(
            image=scene.held_out.images[image].permute(1, 2, 0).numpy(),
            caption=f"post {scene.held_out.posts[image]}",
            readings=tuple(
                _line(share, dict(zip(vocabulary, p, strict=True)))
                for share, p in zip(each.share.tolist(), each.p.tolist(), strict=True)
            ),
            moods=_moods(scene, row),
        )
        for row, image, each in zip(rows, images, found, strict=True)
    ]
    return Readings(most, tuple(cards))


def choose(snapshot: Snapshot, inputs: Inputs) -> int | None:
    """How many readings a picture has at most: as many as the reactions of the val split support."""
    held_out = read_val(inputs) if snapshot.is_tied and not snapshot.is_weighted else None
    if held_out is None:
        return None
    row = {emoji: number for number, emoji in enumerate(snapshot.facts.vocabulary)}
    said: dict[int, dict[int, dict[int, None]]] = defaultdict(lambda: defaultdict(dict))  # of image, reaction
    for image, reaction, emoji in zip(held_out.image, held_out.reaction, held_out.emojis, strict=True):
        if emoji in row:
            said[image][reaction][row[emoji]] = None  # a set that keeps the order
    several = {
        image: found
        for image, reactions in said.items()
        if (found := [[*emojis] for emojis in reactions.values() if len(emojis) > 1])
    }
    images = [*several][:CHOOSING]
    if not images:
        return 1
    pixels = held_out.images[torch.tensor(images)].numpy()
    latents = latents_of(snapshot, pixels, number=LATENTS, seed=0)
    return supported((each, several[image]) for each, image in zip(latents, images, strict=True))


def _moods(scene: Scene, row: int) -> tuple[Line, ...]:
    """What people have under the image of a tuple, the most shared mood first."""
    if not scene.reactions or scene.groups is None:
        return ()
    moods = sorted(scene.reactions[int(scene.groups[row])].moods, key=lambda mood: -mood.share)
    return tuple(_line(mood.share, mood.p) for mood in moods)


def _line(share: float, p: Mapping[str, float]) -> Line:
    return Line(share, tuple(sorted(p.items(), key=lambda each: -each[1])[:TOP]))
