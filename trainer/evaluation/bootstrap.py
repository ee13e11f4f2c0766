"""How sure a score is, and whether one model's is better than another's: posts drawn again, with replacement.

values [rows] of a metric, post of each row ────────────┐
Resamples: how often each post is drawn [draws, posts] ─┴► means [draws] ─► Interval, compare ─► Comparison

All that hangs on a post is drawn with it, and all models are given the same draws: what makes a post hard for
all of them does not blur their difference (Efron & Tibshirani 1993, chapters 8 and 13). An interval says how
far other held-out posts might change a score; not how far another training would.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .metrics import Floats, Ids, Metric

DRAWS = 1000
SURE = 0.95

Word = Literal["better", "level", "worse"]


@dataclass(frozen=True)
class Interval:
    """Where a number lies in 95 % of the draws; percentiles."""

    low: float
    high: float

    @classmethod
    def of(cls, means: Floats) -> "Interval":
        """From means [draws]."""
        low, high = np.nanquantile(means, [(1 - SURE) / 2, (1 + SURE) / 2])
        return cls(float(low), float(high))


@dataclass(frozen=True)
class Comparison:
    """How a model stands beside another in one metric: the interval of its loss less the other's."""

    word: Word
    difference: Interval  # below 0 the model is the better one, whichever way the metric goes


@dataclass(frozen=True)
class Resamples:
    """How often each post is in each draw; the same for all models."""

    counts: Floats  # [draws, posts]

    @classmethod
    def of(cls, num_posts: int, draws: int = DRAWS, seed: int = 0) -> "Resamples":
        """As many posts as there are, drawn with replacement."""
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(num_posts, np.full(num_posts, 1 / num_posts), size=draws)
        return cls(counts.astype(np.float64))

    def means(self, values: Floats, post: Ids) -> Floats:
        """The mean over rows in each draw, [draws].

        Args:
            values: [rows]; nan does not count.
            post: of each row, [rows], below the number of posts.
        """
        known = ~np.isnan(values)
        num_posts = self.counts.shape[1]
        sums = np.bincount(post[known], values[known], num_posts)
        rows = np.bincount(post[known], minlength=num_posts).astype(np.float64)
        with np.errstate(invalid="ignore"):  # a draw without a row that counts is nan, and counts for nothing
            return self.counts @ sums / (self.counts @ rows)


def compare(metric: Metric, ours: Floats, theirs: Floats) -> Comparison:
    """Two models in one metric, by its means in the same draws, [draws] each."""
    difference = Interval.of(metric.loss(ours) - metric.loss(theirs))
    if difference.high < 0:
        return Comparison("better", difference)
    return Comparison("worse" if difference.low > 0 else "level", difference)
