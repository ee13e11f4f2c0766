"""From the vectors of a free output to emojis, and whose fault the junk among them is.

    outputs [images, latents, d] ─► nearest by cosine, less what each emoji is too near to all ─► frequencies

Some vectors are the nearest of far more points than others: hubs. The paper's pig nose is one of emoji2vec.
Two corrections take an emoji's nearness to the outputs in general off its nearness to one of them. And the
audit decodes what people posted itself, moved as far as the outputs lie from their emojis: its junk is the
geometry's, and what a model has beyond that is its own.
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.special import logsumexp

from ...datasets.emojis.vectors.word2vec import unit
from ...datasets.emojis.weights import undo
from ..model.snapshot import Snapshot
from .baselines.baseline import Candidate, Given
from .baselines.neighbours import counts
from .metrics.metric import Floats, Ids
from .metrics.scene import Scene, spread

LATENTS = 50  # of each image, as in the paper
BANK = 5000  # outputs on val, which say how near each emoji is in general
NEIGHBOURS = 10  # of an emoji among them, for CSLS; more where there are more outputs for each emoji
SHARPNESS = 30.0  # of the inverted softmax


def decodings(snapshot: Snapshot, given: Given) -> Iterator[Candidate]:
    """A free output decoded otherwise, and the audit; nothing of a tied one, or without a val split."""
    if snapshot.is_tied or given.val is None:
        return
    scene = given.scene
    vectors = unit(snapshot.generator.vectors.cpu().double().numpy())
    bank = _outputs(snapshot, given.val.images).reshape(-1, vectors.shape[1])
    bank = bank[np.random.default_rng(0).permutation(len(bank))[:BANK]]
    outputs = _outputs(snapshot, scene.held_out.images)
    for label, explanation, offsets in (
        (
            "EmojiGAN, CSLS",
            "The same outputs; off each emoji's nearness, its mean nearness to the outputs that are nearest "
            "to it (Conneau et al. 2018).",
            csls(bank, vectors),
        ),
        (
            "EmojiGAN, inverted softmax",
            "The same, less what a softmax over the outputs gives it (Smith et al. 2017).",
            inverted_softmax(bank, vectors),
        ),
    ):
        q = frequencies(decode(outputs, vectors, offsets), len(vectors))
        if snapshot.is_weighted:
            q = undo(q, snapshot.weights)
        yield Candidate(label, explanation, spread(q, scene), None)
    yield _audit(bank, vectors, scene, snapshot.facts.vocabulary)


def _audit(bank: Floats, vectors: Floats, scene: Scene, vocabulary: tuple[str, ...]) -> Candidate:
    """The truth, or what was posted where it is not known, as vectors that are off as the outputs are."""
    rng = np.random.default_rng(0)
    off = bank - vectors[decode(bank[:, None], vectors, np.zeros(len(vectors)))[:, 0]]
    said = counts(scene.held_out, vocabulary)
    if scene.truth is not None:
        said = scene.truth[scene.first_tuple][:, : len(vocabulary)]
    sums = said.sum(axis=1, keepdims=True)
    said = np.where(sums > 0, said / np.maximum(sums, 1e-300), 1 / len(vocabulary))
    emojis = []
    for p in said:
        drawn = rng.choice(len(vocabulary), LATENTS, p=p)
        moved = unit(vectors[drawn] + off[rng.integers(len(off), size=LATENTS)])
        emojis.append(decode(moved[None], vectors, np.zeros(len(vectors)))[0])
    q = frequencies(np.stack(emojis), len(vectors))
    return Candidate(
        "Geometry alone",
        "What people would write, as vectors that are moved as far as the outputs lie from their emojis, and "
        "decoded: what is wrong here no generator of vectors could help.",
        spread(q, scene),
        None,
    )


def csls(bank: Floats, vectors: Floats) -> Floats:
    """Half the mean cosine r of each emoji to its nearest outputs, [V]: for 2 cos − r is what counts.

    Args:
        bank: unit vectors, [m, d].
        vectors: the same, [V, d].
    """
    number = max(NEIGHBOURS, len(bank) // len(vectors))
    nearest = np.sort(bank @ vectors.T, axis=0)[-number:]
    return nearest.mean(axis=0) / 2


def inverted_softmax(bank: Floats, vectors: Floats) -> Floats:
    """The logarithm of what a softmax over outputs divides each emoji by, as a cosine, [V]."""
    return logsumexp(SHARPNESS * (bank @ vectors.T), axis=0) / SHARPNESS


def decode(outputs: Floats, vectors: Floats, offsets: Floats) -> Ids:
    """The emoji of the largest cosine less its offset, [images, latents, d] → [images, latents]."""
    return np.stack([(each @ vectors.T - offsets).argmax(axis=1) for each in outputs])


def frequencies(emojis: Ids, number: int) -> Floats:
    """[images, latents] → [images, V]"""
    return np.stack([np.bincount(each, minlength=number) for each in emojis]) / emojis.shape[1]


def _outputs(snapshot: Snapshot, images: torch.Tensor) -> np.ndarray:
    """Unit vectors, float32 [images, LATENTS, d]."""
    outputs = snapshot.outputs(images, num_samples=LATENTS, seed=0)
    return unit(outputs.reshape(-1, outputs.shape[2])).reshape(outputs.shape)
