"""How good a model is on the val split, while it is trained: what chooses its snapshot.

val split ─► read_val ─► HeldOut ─┐
model ─► q(emoji | image) ────────┴─► val_loss
"""

from dataclasses import replace

import numpy as np

from ..datasets.errors import InputError
from ..datasets.stream.held_out import HeldOut, read_split
from .inputs import Inputs

VAL_IMAGES = 2000
VAL_SAMPLES = 16  # latents for each image that scores a snapshot
EVEN_SHARE = 0.01  # of the probability, spread evenly: an emoji that no sample hit must not cost infinity


def read_val(inputs: Inputs) -> HeldOut | None:
    """The held-out images that choose a snapshot; None if all that could are forgotten since the run began.

    Raises:
        InputError: none of them has an emoji that can be learned, so that they could choose nothing.
    """
    if inputs.forgotten and not inputs.train.manifest.of_split("val"):
        return None
    held_out = read_split(replace(inputs.train, name="val"), VAL_IMAGES)
    if set(held_out.emojis).isdisjoint(inputs.vocabulary):
        if inputs.forgotten:
            return None
        raise InputError(
            f"{inputs.train.folder}: the val split has no emoji that can be learned: those of all "
            f"{len(held_out.emojis):,} tuples are rare in train or have no vector. Build from more posts, or "
            "with another --val-share or --min-count, or give other vectors."
        )
    return held_out


def val_loss(distribution: np.ndarray, held_out: HeldOut, inputs: Inputs) -> float:
    """Mean of −log q over held-out tuples, weighted as in training; the lower, the better.

    It is not the `nll` of an evaluation, which counts every tuple once, also of emojis that no model can say.

    Args:
        distribution: float64 [images, V].
        held_out: as `read_val` gives it.
    """
    row = {emoji: number for number, emoji in enumerate(inputs.vocabulary)}
    tuples = zip(held_out.image, held_out.emojis, strict=True)
    known = [(image, row[emoji]) for image, emoji in tuples if emoji in row]
    assert known  # else read_val had refused
    image, emoji = np.array(known, np.int64).T
    smoothed = (1 - EVEN_SHARE) * distribution + EVEN_SHARE / distribution.shape[1]
    weight = inputs.weights[emoji]
    return float(-(weight * np.log(smoothed[image, emoji])).sum() / weight.sum())
