"""What a metric is: a value of its own, one entry in a table.

Said (q of some tuples, what people posted, the truth) ─► Metric.of ─► values, one a row ─► Metric.score

A score is made from the mean of the values alone. So it can be made again from other means, which is how its
interval comes about: posts are drawn again, and their values averaged anew.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ids = NDArray[np.integer]
Value = TypeVar("Value", float, Floats)
Judged = TypeVar("Judged")
Number = TypeVar("Number", np.float64, np.integer)


@dataclass(frozen=True)
class Said:
    """What a model says of n held-out tuples, and what there is to compare it with. V emojis.

    Everything is float64. A row of `q` and of `truth` is a distribution over the union of what the model, the
    truth and the posts can say.
    """

    q: Floats  # [n, V]
    observed: Ids  # [n], the emoji that somebody posted, below V
    vectors: Floats  # [V, d], of length 1; 0 for an emoji without a vector
    distance: Floats  # [V, V], between them
    shares: Floats  # [V], how often each emoji is posted; what no model can know is 0
    truth: Floats | None = None  # [n, V]
    groups: Ids | None = None  # [n], photograph or class of each image, where the truth is known
    features: Floats | None = None  # [n, f], of the images, the same for all models
    clusters: Ids | None = None  # [n], of images whose features are alike

    def __post_init__(self) -> None:
        n, num_emojis = self.q.shape
        of_tuples = [self.observed, self.truth, self.groups, self.features, self.clusters]
        fits = all(each is None or len(each) == n for each in of_tuples)
        fits &= self.truth is None or self.truth.shape == self.q.shape
        fits &= all(len(each) == num_emojis for each in (self.vectors, self.distance, self.shares))
        if not fits:
            raise ValueError(f"q {self.q.shape} and what it is compared with do not fit")


@dataclass(frozen=True)
class Metric(Generic[Judged]):
    """What one number means to its reader, and how it is made."""

    key: str  # its name in an evaluation and in MLflow
    label: str
    better: Literal["lower", "higher", "one"]
    explanation: str
    of: Callable[[Judged], Floats | None]
    """The values, [rows] or [rows, k]; None where they cannot be had; nan in rows that do not count."""
    rows: Literal["tuple", "reaction", "image", "all"] = "tuple"
    """What a row is of. `all`: it is of all posts together; then there is no interval, for posts drawn again
    would add their noise to it."""
    fold: Callable[[Floats], Floats] | None = None
    """The score from mean values, [..., k] → [...]; where a row has one value it is their mean."""

    def score(self, values: Floats) -> float:
        """The score of values; nan where none counts."""
        values = values[~np.isnan(values).reshape(len(values), -1).any(axis=1)]
        if not len(values):
            return float("nan")
        mean = values.mean(axis=0)
        return float(self.fold(mean) if self.fold else mean)

    def loss(self, value: Value) -> Value:
        """A score on a scale where less is better; nan stays nan."""
        return {"lower": value, "higher": -value, "one": abs(value - 1)}[self.better]


def values(metrics: Iterable[Metric[Judged]], said: Judged) -> dict[str, Floats]:
    """Of each metric that can be had, by its key."""
    found = {metric.key: metric.of(said) for metric in metrics}
    return {key: each for key, each in found.items() if each is not None}


def scores(metrics: Iterable[Metric[Any]], found: Mapping[str, Floats]) -> dict[str, float]:
    """Of each metric that has values that count, by its key."""
    of_each = {metric.key: metric.score(found[metric.key]) for metric in metrics if metric.key in found}
    return {key: score for key, score in of_each.items() if not np.isnan(score)}


def distributions(name: str, rows: Floats) -> Floats:
    """The rows in float64, summing to 1 to the last bit that a softmax in float32 may lack.

    Raises:
        ValueError: one of them is no distribution.
    """
    rows = np.asarray(rows, np.float64)
    sums = rows.sum(-1, keepdims=True)
    if not (rows.ndim == 2 and len(rows) and (rows >= 0).all() and np.allclose(sums, 1, rtol=0, atol=1e-4)):
        raise ValueError(f"{name} must be [n, V] with rows that are distributions")
    return rows / sums


def at(values: NDArray[Number], column: Ids) -> NDArray[Number]:
    """One value of each row, [n, V] and [n] → [n]."""
    return values[np.arange(len(values)), column]


def with_truth(measure: Callable[[Floats, Floats], Floats]) -> Callable[[Said], Floats | None]:
    """A measure of q and p, each [n, V], as a metric has it: None where p is not known."""

    def of(said: Said) -> Floats | None:
        return None if said.truth is None else measure(said.q, said.truth)

    return of
