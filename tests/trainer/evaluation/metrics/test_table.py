"""Metrics as a table: keys, values, scores, what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest

from emojigan.trainer.evaluation.metrics.metric import Metric, Said, distributions, scores, values
from emojigan.trainer.evaluation.metrics.reactions import REACTION_METRICS
from emojigan.trainer.evaluation.metrics.table import METRICS


def said(seed: int = 0, n: int = 12, num_emojis: int = 9) -> Said:
    """Anything."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(num_emojis, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    q, truth = rng.dirichlet(np.full(num_emojis, 0.3), size=(2, n))
    return Said(
        q=q,
        observed=rng.integers(num_emojis, size=n),
        vectors=vectors,
        distance=np.linalg.norm(vectors[:, None] - vectors, axis=-1),
        shares=truth.mean(axis=0),
        truth=truth,
        groups=rng.integers(3, size=n),
        features=rng.normal(size=(n, 2)),
        clusters=rng.integers(2, size=n),
    )


def test_scores_come_under_the_keys_of_the_table_and_in_its_order():
    found = scores(METRICS, values(METRICS, said()))
    keys = [metric.key for metric in METRICS]
    assert list(found) == keys
    both = [*keys, *(metric.key for metric in REACTION_METRICS)]
    assert len({*both}) == len(both)
    assert all(key.isidentifier() and key.isascii() for key in both)
    assert all(type(value) is float and math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.key)
def test_a_metric_has_values_for_each_row_or_one_for_all(metric: Metric[Said]):
    found = metric.of(said())
    assert found is not None
    assert len(found) == 12 or metric.rows == "all"
    assert (found.ndim == 2) == (metric.fold is not None)


def test_the_truth_is_perfect_but_for_sampling():
    asked = said()
    found = scores(METRICS, values(METRICS, replace(asked, q=asked.truth)))
    for key in ("tv", "js", "junk", "pooled_tv", "emd"):
        assert found[key] == pytest.approx(0, abs=1e-12)
    for key in ("modes_covered", "entropy_ratio", "precision", "recall"):
        assert found[key] == pytest.approx(1)


def test_an_emoji_that_a_model_cannot_say_costs_no_infinity():
    asked = said(n=1)
    never = replace(asked, q=np.eye(9)[[0]], observed=np.array([3]))
    assert scores(METRICS, values(METRICS, never))["nll"] == pytest.approx(math.log(9 / 0.001))


def test_a_value_that_is_not_known_does_not_count():
    some, none = (replace(METRICS[0], key=key) for key in ("some", "none"))
    found = {"some": np.array([1.0, math.nan, 3.0]), "none": np.array([math.nan])}
    assert scores([some, none], found) == {"some": 2}


@pytest.mark.parametrize(
    "q", [np.full((2, 3), 0.5), np.array([[1.5, -0.5, 0]]), np.array([[np.nan, 1, 0]]), np.empty((0, 3))]
)
def test_rows_that_are_no_distributions_are_refused(q: np.ndarray):
    with pytest.raises(ValueError, match="distributions"):
        distributions("q", q)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="do not fit"):
        replace(said(), observed=np.arange(5))
    with pytest.raises(ValueError, match="do not fit"):
        replace(said(), shares=np.ones(4))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.key)
def test_loss_orders_values_from_good_to_bad(metric: Metric[Said]):
    good, bad = {"lower": (0.1, 0.2), "higher": (0.9, 0.8), "one": (1.05, 0.9)}[metric.better]
    assert metric.loss(good) < metric.loss(bad)
