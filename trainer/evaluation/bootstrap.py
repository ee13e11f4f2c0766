"""How sure a score is, and whether one model's is better than another's: posts drawn again, with replacement.

values [rows] of a metric, post of each row ────────────┐
Resamples: how often each post is drawn [draws, posts] ─┴► means [draws] ─► Interval, compare ─► Comparison

All that hangs on a post is drawn with it, and all models are given the same draws: what makes a post hard for
all of them does not blur their difference (Efron & Tibshirani 1993, chapters 8 and 13). An interval says how
far other held-out posts might change a score; not how far another training would.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array

from .metrics.metric import Floats, Ids, Metric

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

    def scores(self, metric: Metric[Any], values: Floats, post: Ids) -> Floats:
        """The score in each draw, [draws]; nan in a draw without a row that counts.

        Args:
            values: [rows] or [rows, k], as the metric makes them; nan does not count.
            post: of each row, [rows], below the number of posts.
        """
        known = ~np.isnan(values).reshape(len(values), -1).any(axis=1)
        means = self.means(values[known].reshape(known.sum(), -1), post[known])
        if metric.fold is None:
            return means[:, 0]
        # Where errors are added up, what a draw adds by chance is one, too: its mean is taken off.
        found = metric.fold(means)
        return np.maximum(found - np.nanmean(found) + metric.score(values), 0)

    def means(self, values: Floats, post: Ids) -> Floats:
        """The mean of values [rows, k] of posts [rows] in each draw, [draws, k]; nan where it has no row."""
        of_post = csr_array(
            (np.ones(len(values)), (post, np.arange(len(values)))), (self._posts, len(values))
        )
        rows = self.counts @ of_post.sum(axis=1)  # [draws]
        with np.errstate(invalid="ignore"):
            return (self.counts @ (of_post @ values)) / rows[:, None]

    @property
    def _posts(self) -> int:
        return self.counts.shape[1]


def compare(metric: Metric[Any], ours: Floats, theirs: Floats, chance: Floats | float = 0.0) -> Comparison:
    """Two models in one metric, by its scores in the same draws, [draws] each.

    Args:
        chance: what the difference may be by chance beside that of the posts, [draws].
    """
    difference = Interval.of(metric.loss(ours) - metric.loss(theirs) + chance)
    if difference.high < 0:
        return Comparison("better", difference)
    return Comparison("worse" if difference.low > 0 else "level", difference)
