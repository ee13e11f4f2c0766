"""How good a model is on the val split, while it is trained: what chooses its snapshot.

val split ─► read_val ─► HeldOut ─┐
model ─► q(emoji | image) ────────┼─► val_loss, where it was trained on tuples
      ─► q(emoji | image, z) ─────┴─► val_reaction_loss, on reactions
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..datasets.errors import InputError
from ..datasets.stream.held_out import HeldOut, read_split
from .inputs import Inputs

VAL_IMAGES = 2000
VAL_SAMPLES = 16  # latents for each image that scores a snapshot
REACTION_SAMPLES = 64  # the same, of reactions: with few, the mean of products is too low
CHUNK = 256  # images asked about at a time
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
            f"{len(held_out.emojis):,} tuples are rare in train, denied, or have no vector. Build from more "
            "posts, or with another --val-share or --min-count, or give other vectors."
        )
    return held_out


def val_loss(distribution: np.ndarray, held_out: HeldOut, inputs: Inputs) -> float:
    """Mean of −log q over held-out tuples, weighted as in training; the lower, the better.

    It is not the `nll` of an evaluation, which counts every tuple once, also of emojis that no model can say.

    Args:
        distribution: float64 [images, V].
        held_out: as `read_val` gives it.
    """
    image, _, emoji = _known(held_out, inputs)
    smoothed = (1 - EVEN_SHARE) * distribution + EVEN_SHARE / distribution.shape[1]
    weight = inputs.weights[emoji]
    return float(-(weight * np.log(smoothed[image, emoji])).sum() / weight.sum())


def val_reaction_loss(
    by_latent: Callable[[torch.Tensor], np.ndarray], held_out: HeldOut, inputs: Inputs
) -> float:
    """Mean of −log 1/K Σ_k Π_i q_k(e_i) over held-out reactions, by their emojis; else as `val_loss`.

    Args:
        by_latent: of images [n, 3, size, size], float32 [n, K, V]: q(emoji | image, z) of K latents.
    """
    image, reaction, emoji = _known(held_out, inputs)
    total = weights = 0.0
    for first in range(0, len(held_out.images), CHUNK):
        inside = (first <= image) & (image < first + CHUNK)
        if not inside.any():
            continue
        q = by_latent(held_out.images[first : first + CHUNK])
        smoothed = (1 - EVEN_SHARE) * q + EVEN_SHARE / q.shape[2]
        of_each = np.log(smoothed[image[inside] - first, :, emoji[inside]])  # [tuples, K]
        begins = np.flatnonzero(np.diff(reaction[inside], prepend=-1))
        of_reactions = np.logaddexp.reduce(np.add.reduceat(of_each, begins), axis=1) - np.log(q.shape[1])
        number = np.diff(begins, append=len(of_each))
        weight = np.add.reduceat(inputs.weights[emoji[inside]], begins) / number
        total -= float((weight * of_reactions).sum())
        weights += float((weight * number).sum())
    return total / weights


def _known(held_out: HeldOut, inputs: Inputs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, reaction and position in the vocabulary of each tuple with an emoji that can be said."""
    row = {emoji: number for number, emoji in enumerate(inputs.vocabulary)}
    tuples = zip(held_out.image, held_out.reaction, held_out.emojis, strict=True)
    known = [(image, reaction, row[emoji]) for image, reaction, emoji in tuples if emoji in row]
    assert known  # else read_val had refused
    image, reaction, emoji = np.array(known, np.int64).T
    return image, reaction, emoji
