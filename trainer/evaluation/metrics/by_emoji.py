"""Which emojis a model errs on."""

from dataclasses import dataclass

import numpy as np

from .metric import Said, at
from .proper_scores import UNSEEN


@dataclass(frozen=True)
class OfEmoji:
    """How a model does on one emoji, over all held-out tuples. What is not known is nan."""

    emoji: int  # position in the support
    tuples: int  # that are of it
    told: float  # its mean probability under the model
    true: float  # and in truth
    lacks: float  # mean of max(p − q, 0): half the sum of both over all emojis is the total variation
    exceeds: float  # mean of max(q − p, 0)
    gain: float  # mean of ln q(e | y) − ln share(e) where it was posted: nats by which the image helps


def by_emoji(said: Said) -> list[OfEmoji]:
    """All emojis of the support, those with the largest error first.

    Where the truth is not known, that is how far told and posted shares are apart.
    """
    size = said.q.shape[1]
    tuples = np.bincount(said.observed, minlength=size)
    told, nothing = said.q.mean(axis=0), np.full(size, np.nan)
    true = lacks = exceeds = nothing
    if said.truth is not None:
        difference = said.truth - said.q
        true = said.truth.mean(axis=0)
        lacks, exceeds = (np.maximum(sign * difference, 0).mean(axis=0) for sign in (1, -1))
    spoken = np.log((1 - UNSEEN) * at(said.q, said.observed) + UNSEEN / size)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(said.shares > 0, said.shares, np.nan)
        gain = np.bincount(said.observed, spoken, size) / tuples - np.log(shares)
    error = np.abs(told - tuples / tuples.sum()) if said.truth is None else lacks + exceeds
    columns = np.stack([told, true, lacks, exceeds, gain], axis=1).tolist()
    return [
        OfEmoji(emoji, int(tuples[emoji]), *columns[emoji])
        for emoji in np.argsort(-error, kind="stable").tolist()
    ]
