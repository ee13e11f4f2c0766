"""Whether a configuration is called better than another, by scores of which all is known."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from emojigan.trainer.sweep.report import Result, results_of

from .test_study import sweep_in

FOLDS, TABLES = 5, 200


@pytest.fixture
def judged(tmp_path: Path):
    """What the report says of configurations by their scores, of which less is better."""
    sweep = sweep_in(tmp_path, folds=tuple(range(FOLDS)))

    def of(scores: Sequence[Mapping[int, float]]) -> tuple[Result, ...]:
        return results_of(sweep, {(("rate", number),): each for number, each in enumerate(scores)})

    return of


@pytest.mark.parametrize("shared", [0.0, 1 / FOLDS], ids=["independent", "as Nadeau and Bengio have it"])
def test_of_equal_configurations_one_is_called_worse_in_a_table_of_twenty_at_most(judged, shared: float):
    """The scores of a configuration on its folds are as alike as the posts make them that it learned from."""
    rng, called = np.random.default_rng(0), 0
    for _ in range(TABLES):
        luck = shared**0.5 * rng.normal(size=(20, 1)) + (1 - shared) ** 0.5 * rng.normal(size=(20, FOLDS))
        scores = 5 + 3 * rng.normal(size=FOLDS) + luck
        called += "worse" in [each.beside_best for each in judged([dict(enumerate(row)) for row in scores])]
    assert called <= 0.05 * TABLES


def test_one_that_is_far_worse_on_each_fold_is_called_so(judged):
    good = {0: 1.0, 1: 1.1, 2: 0.9, 3: 1.0, 4: 1.05}
    bad = {fold: score + 0.5 + fold / 100 for fold, score in good.items()}
    assert [each.beside_best for each in judged([bad, good])] == [None, "worse"]


def test_before_a_sweep_is_complete_the_folds_that_both_have_are_compared(judged):
    best = {0: 5.0, 1: 5.1, 2: 1.0, 3: 1.1, 4: 0.9}
    found = judged([{0: 5.1, 1: 5.0}, best, {0: 9.0}])
    assert [each.beside_best for each in found] == [None, "level", None]
    assert [len(each.scores) for each in found] == [5, 2, 1]


def test_an_interval_knows_that_trainings_share_most_of_what_they_learn_from(judged):
    (only,) = judged([dict(enumerate([1.0, 2.0, 3.0, 4.0, 5.0]))])
    half = 2.7764451 * 2.5**0.5 * (1 / 5 + 1 / 4) ** 0.5  # Student's t of 4 degrees of freedom
    assert only.interval is not None
    assert (only.interval.low, only.interval.high) == pytest.approx((3 - half, 3 + half))
