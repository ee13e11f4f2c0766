"""Intervals of posts drawn again: how often they are right, and what they call better."""

import numpy as np
import pytest

from emojigan.trainer.evaluation.bootstrap import Comparison, Interval, Resamples, compare
from emojigan.trainer.evaluation.metrics.metric import Metric
from emojigan.trainer.evaluation.metrics.table import METRICS

BY_KEY = {metric.key: metric for metric in METRICS}
NLL = BY_KEY["nll"]


def two_models(rng: np.random.Generator, num_posts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of two models, the first better by .1, and the post of each row; a post is hard for both."""
    post = np.repeat(np.arange(num_posts), rng.integers(1, 6, num_posts))
    hard = 3 * rng.exponential(size=num_posts)[post]
    of_post = rng.normal(size=num_posts)[post]  # what only one finds hard: all rows of a post together
    theirs = hard + 0.5 * rng.normal(size=len(post))
    return theirs - 0.1 + 0.4 * of_post, theirs, post


def test_the_interval_has_the_true_difference_95_times_of_100():
    rng, times = np.random.default_rng(0), 400
    resamples = Resamples.of(150, draws=400)
    found = []
    for _ in range(times):
        ours, theirs, post = two_models(rng, 150)
        one, other = resamples.scores(NLL, ours, post), resamples.scores(NLL, theirs, post)
        difference = compare(NLL, one, other).difference
        found.append(difference.low < -0.1 < difference.high)
    assert 0.92 <= np.mean(found) <= 0.98


def test_pairing_finds_what_intervals_of_each_model_hide():
    ours, theirs, post = two_models(np.random.default_rng(1), 2000)
    resamples = Resamples.of(2000)
    one, other = resamples.scores(NLL, ours, post), resamples.scores(NLL, theirs, post)
    assert Interval.of(one).high > Interval.of(other).low  # they overlap
    assert compare(NLL, one, other).word == "better"
    assert compare(NLL, other, one).word == "worse"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.key)
def test_a_model_is_level_with_itself(metric: Metric):
    values, _, post = two_models(np.random.default_rng(2), 50)
    means = Resamples.of(50).scores(NLL, values, post)
    assert compare(metric, means, means.copy()) == Comparison("level", Interval(0, 0))


def test_the_word_goes_the_way_of_the_metric():
    low, high = np.full(100, 0.5), np.full(100, 0.75)
    assert compare(BY_KEY["tv"], low, high).word == "better"
    assert compare(BY_KEY["top1"], low, high).word == "worse"
    assert compare(BY_KEY["entropy_ratio"], low, high).word == "worse"
    assert compare(BY_KEY["entropy_ratio"], np.full(100, 1.25), high).word == "level"


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(3).normal(5, 2, size=3000)
    found = Interval.of(Resamples.of(3000).scores(NLL, values, np.arange(3000)))
    error = 1.96 * values.std() / np.sqrt(3000)
    assert [found.low, found.high] == pytest.approx([values.mean() - error, values.mean() + error], abs=0.01)


def test_more_rows_of_the_same_posts_are_no_more_evidence():
    values = np.random.default_rng(4).normal(size=200)
    resamples, post = Resamples.of(200), np.arange(200)
    once = resamples.scores(NLL, values, post)
    assert resamples.scores(NLL, np.repeat(values, 10), np.repeat(post, 10)) == pytest.approx(once)


def test_what_is_not_known_does_not_count():
    values, post = np.array([1.0, np.nan, 3.0, np.nan]), np.array([0, 0, 1, 2])
    resamples = Resamples(np.array([[1.0, 1, 1], [0, 2, 1], [0, 0, 3]]))
    np.testing.assert_array_equal(resamples.scores(NLL, values, post), [2, 3, np.nan])
    found = Interval.of(resamples.scores(NLL, values, post))
    assert 2 <= found.low < found.high <= 3


def test_draws_have_as_many_posts_as_there_are_and_are_the_same_for_all():
    counts = Resamples.of(40).counts
    assert counts.shape == (1000, 40) and (counts.sum(1) == 40).all()
    assert counts.mean(0) == pytest.approx(np.ones(40), abs=0.15)
    assert (counts == Resamples.of(40).counts).all()


def test_a_score_that_is_folded_is_folded_in_each_draw_and_is_their_mean():
    metric = BY_KEY["calibration_error"]
    values, post = np.array([[1.0, -1], [-1, 0], [0, 2], [np.nan, np.nan]]), np.array([0, 0, 1, 1])
    found = Resamples(np.array([[1.0, 1], [2, 0]])).scores(metric, values, post)
    assert found[1] - found[0] == pytest.approx((0 + 1 / 2) - (0 + 1 / 3))
    assert found.mean() == pytest.approx(metric.score(values)) == pytest.approx(1 / 3)
