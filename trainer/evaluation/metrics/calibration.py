"""Whether a probability means what it says: of all emojis that got 10 %, a tenth should be posted."""

from dataclasses import dataclass

import numpy as np

from .metric import Floats, Ids, Metric, Said, at

EDGES = np.array([0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0])  # of the bins of probabilities
BANDS = 3  # of emojis, from often to rarely posted, each with as many posts


@dataclass(frozen=True)
class Reliability:
    """Of the probabilities in each bin that has any: their mean, how often these emojis were posted, their
    number."""

    told: Floats  # [bins]
    posted: Floats  # [bins]
    number: Ids  # [bins]


def reliability(q: Floats, observed: Ids) -> Reliability:
    """The reliability curve of all probabilities of all emojis (Murphy & Winkler 1977).

    Args:
        q: [n, V].
        observed: [n].
    """
    size = len(EDGES) - 1
    bins = _bins(q)
    number = np.bincount(bins.ravel(), minlength=size)
    told = np.bincount(bins.ravel(), q.ravel(), size)
    posted = np.bincount(at(bins, observed), minlength=size)
    there = number > 0
    return Reliability(told[there] / number[there], posted[there] / number[there], number[there])


def calibration_values(q: Floats, observed: Ids) -> Floats:
    """What each row adds to the bins: the probabilities in it, less 1 where the observed emoji's is. [n, B]

    The mean over the rows, its absolute values added up, is an expected calibration error over all emojis
    (after Nixon et al. 2019): probability that would have to be told otherwise, for an image.
    """
    size, bins = len(EDGES) - 1, _bins(q)
    place = bins + size * np.arange(len(q))[:, None]
    added = np.bincount(place.ravel(), q.ravel(), size * len(q))
    found = np.asarray(added, np.float64).reshape(len(q), size)
    found[np.arange(len(q)), at(bins, observed)] -= 1
    return found


def band_values(q: Floats, observed: Ids, shares: Floats) -> Floats:
    """What each row gives to the bands of emojis, less 1 for that of the observed one. [n, BANDS]"""
    order = np.argsort(-shares, kind="stable")
    before = np.cumsum(shares[order]) - shares[order]
    band = np.empty(len(shares), int)
    band[order] = np.minimum((BANDS * before / max(shares.sum(), 1e-300)).astype(int), BANDS - 1)
    found = q @ np.eye(BANDS)[band]
    found[np.arange(len(q)), band[observed]] -= 1
    return found


def _bins(q: Floats) -> Ids:
    return np.clip(np.searchsorted(EDGES, q, side="right") - 1, 0, len(EDGES) - 2)


METRICS: tuple[Metric[Said], ...] = (
    Metric(
        "calibration_error",
        "Calibration error",
        "lower",
        "Probability that would have to be told otherwise for 10 % to mean a tenth, in bins of probability. "
        "Who ignores the image may be calibrated.",
        lambda said: calibration_values(said.q, said.observed),
        fold=lambda mean: np.abs(mean).sum(axis=-1),
    ),
    Metric(
        "frequency_error",
        "Error by frequency",
        "lower",
        "The same between emojis that are posted often, sometimes and rarely: whether the rare are told too "
        "seldom.",
        lambda said: band_values(said.q, said.observed, said.shares),
        fold=lambda mean: np.abs(mean).sum(axis=-1) / 2,
    ),
)
