"""Kinds of reactions to one picture: its latents in groups; and what people add to emojis that are there.

    q(emoji | image, z) of K latents ─► Mixture ─┬─► coarser ─► a Mixture of few parts ─► readings
                                                 └─► completion ─► p(next emoji | image, emojis so far)

How many groups there are is decided on held-out posts, once for a snapshot: `supported`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from ...datasets.emojis.weights import undo
from ...datasets.errors import InputError
from .estimate import Asked

LATENTS = 128  # of a picture, to group
MOST = 6  # readings of a picture
SAME = 0.05  # Jensen–Shannon divergence in nats: distributions that are nearer say the same
SHARES = 0.2  # a share of 128 random latents is off by less than half of that, as a rule
NEXT_TO_NOTHING = 0.03  # nats: a reaction is likelier by 3 %
LEAST = 1e-9  # probability: an emoji that rounding took from a latent must not cost infinity
CHUNK = 16  # pictures at a time, of so many latents: these are large


@dataclass(frozen=True)
class Mixture:
    """p(reaction | image) in K parts, within which the emojis of a reaction are independent.

    The parts are latents, or readings.
    """

    share: np.ndarray  # float64 [K], sums to 1
    p: np.ndarray  # float64 [K, V], rows sum to 1


def latents_of(snapshot: Asked, images: np.ndarray, *, number: int, seed: int) -> Iterator[Mixture]:
    """The latents of each image, the shift of the training's weights undone.

    q(e, z) ∝ q(e | z) / w(e): where weights made emojis frequent, the latents that say them are rarer, too.

    Args:
        images: uint8 [n, 3, size, size].

    Raises:
        InputError: the weights are too far apart to be undone, or were those of reactions: of these the
            shift is undone for single emojis alone.
    """
    if snapshot.is_weighted and snapshot.facts.sizes:
        raise InputError(
            "This model was trained on reactions with weights: its readings, and what follows an emoji, "
            "are not known without them."
        )
    step = max(1, CHUNK * LATENTS // number)
    for first in range(0, len(images), step):
        few = images[first : first + step]
        for q in snapshot.by_latent(few, num_samples=number, seed=seed).astype(np.float64):
            undo(q.mean(axis=0, keepdims=True), snapshot.weights)  # refuses what cannot be undone
            joint = q / snapshot.weights
            yield _mixture(joint / joint.sum())


def without(mixture: Mixture, denied: Sequence[int]) -> Mixture:
    """The mixture of what else is said. An emoji at least must be left.

    The others keep their ratios, in each part and in the whole: parts that say denied emojis become smaller.
    """
    joint = mixture.share[:, None] * np.maximum(mixture.p, LEAST)
    joint[:, list(denied)] = 0
    return _mixture(joint / joint.sum())


def completion(mixture: Mixture, given: Sequence[int], denied: Sequence[int] = ()) -> np.ndarray:
    """p(another emoji | image, those that are given), float64 [V]; 0 for the given and the denied ones.

    Σ_k p(k | given) p_k(e), where p(k | given) ∝ share_k Π_i p_k(e_i). An emoji at least must be left.
    """
    p = np.maximum(mixture.p, LEAST)
    joint = np.log(mixture.share) + np.log(p[:, list(given)]).sum(axis=1)
    following = np.exp(joint - joint.max()) @ p
    following[[*given, *denied]] = 0
    return following / following.sum()


def log_probability(mixture: Mixture, reaction: Sequence[int]) -> float:
    """log p(reaction | image) of distinct emojis in their order, each a completion of those before it."""
    return sum(log(completion(mixture, reaction[:place])[emoji]) for place, emoji in enumerate(reaction))


def coarser(mixture: Mixture, most: int) -> Iterator[Mixture]:
    """The mixture in `most` parts, in one less, and so on down to one; the largest part first.

    Each time, the two parts become one that tell least of the emoji: Σ_k share_k KL(p_k ‖ p of both) is
    lost, in nats of I(k; e). Nothing is random in it (N. Slonim, N. Tishby, Agglomerative Information
    Bottleneck, NIPS 1999).
    """
    joint = mixture.share[:, None] * mixture.p
    own = _negative_entropy(joint)
    lost = np.full((len(joint), len(joint)), np.inf)  # by each pair that would be one
    for row in range(len(joint) - 1):
        lost[row, row + 1 :] = own[row] + own[row + 1 :] - _negative_entropy(joint[row] + joint[row + 1 :])
    left = [*range(len(joint))]
    while True:
        if len(left) <= most:
            yield _mixture(joint[left])
        if len(left) == 1:
            return
        kept, gone = divmod(int(lost.argmin()), len(joint))
        joint[kept] += joint[gone]
        own[kept] = _negative_entropy(joint[kept])
        left.remove(gone)
        lost[gone], lost[:, gone] = np.inf, np.inf
        others = np.array([other for other in left if other != kept], int)
        cost = own[kept] + own[others] - _negative_entropy(joint[kept] + joint[others])
        lost[np.minimum(kept, others), np.maximum(kept, others)] = cost


def readings(one: Mixture, other: Mixture, most: int) -> Mixture:
    """The parts that two draws of latents both have, as the mean of both; the largest first.

    As many as the draws agree on, up to `most`; of which no two say the same. Their shares sum to 1. If the
    draws do not even agree on the whole, there are none.
    """
    for both in zip(coarser(one, most), coarser(other, most), strict=True):
        agreed = _agreed(*map(_distinct, both))
        if agreed is not None:
            return _mixture(agreed)
    return _mixture(np.zeros((0, one.p.shape[1])))


def _distinct(parts: Mixture) -> Mixture:
    """Those that say the same become one."""
    while len(parts.share) > 1:
        apart = divergences(parts.p, parts.p) + np.diag(np.full(len(parts.p), np.inf))
        one, other = divmod(int(apart.argmin()), len(apart))
        if apart[one, other] >= SAME:
            break
        joint = parts.share[:, None] * parts.p
        joint[one] += joint[other]
        parts = _mixture(np.delete(joint, other, axis=0))
    return parts


def _agreed(one: Mixture, other: Mixture) -> np.ndarray | None:
    """The mean of p(k, e) of parts that are the same in both, each matched with the nearest; else None."""
    apart = divergences(one.p, other.p)
    apart[np.abs(one.share[:, None] - other.share) > SHARES] = np.inf
    found = []
    while len(one.share) == len(other.share) and apart.min() < SAME:
        row, column = divmod(int(apart.argmin()), len(apart))
        found.append((one.share[row] * one.p[row] + other.share[column] * other.p[column]) / 2)
        apart[row], apart[:, column] = np.inf, np.inf
    return np.array(found) if len(found) == len(one.share) else None


def supported(pictures: Iterable[tuple[Mixture, Sequence[Sequence[int]]]]) -> int:
    """How many parts held-out posts support: the fewest that they do not tell from the best number.

    Latents are replaced by 1 to MOST parts; the likelihood of an image's reactions is averaged over the
    images. A number is as good as the best where its mean is behind by no more than one standard error of
    the difference (the rule of L. Breiman et al., Classification and Regression Trees, 1984, section 3.4.3),
    or by next to nothing.

    Args:
        pictures: the latents of each, at least MOST, and the reactions under it, as in `log_probability`:
            of one emoji they are as likely in any number of parts.
    """
    rows = [
        [np.mean([log_probability(parts, each) for each in reactions]) for parts in coarser(latents, MOST)]
        for latents, reactions in pictures
    ]
    if len(rows) < 2:
        return 1
    likelihood = np.array(rows)[:, ::-1]  # [images, MOST], of 1 part first
    best = likelihood.mean(axis=0).argmax()
    behind = likelihood[:, [best]] - likelihood
    error = behind.std(axis=0, ddof=1) / np.sqrt(len(behind))
    return 1 + int((behind.mean(axis=0) <= np.maximum(error, NEXT_TO_NOTHING)).argmax())


def divergences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Jensen–Shannon divergence of every two rows in nats, [A, V] and [B, V] → [A, B]."""
    middle = _negative_entropy((one[:, None] + other) / 2)
    return (_negative_entropy(one)[:, None] + _negative_entropy(other)) / 2 - middle


def _mixture(joint: np.ndarray) -> Mixture:
    """That of p(k, e), [K, V]: the largest part first."""
    share = joint.sum(axis=1)
    order = np.argsort(-share, kind="stable")
    return Mixture(share[order], joint[order] / share[order, None])


def _negative_entropy(joint: np.ndarray) -> np.ndarray:
    """Σ_e a log a − (Σ_e a) log (Σ_e a), the share of a row times its entropy, negative: [..., V] → [...]."""
    total = joint.sum(axis=-1)
    return (joint * np.log(np.maximum(joint, 1e-300))).sum(axis=-1) - total * np.log(
        np.maximum(total, 1e-300)
    )
