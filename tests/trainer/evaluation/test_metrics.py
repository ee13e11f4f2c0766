"""Metrics against sums by hand, identities and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojigan.trainer.evaluation.metrics import (
    METRICS,
    brier,
    energy_score,
    entropy_ratio,
    floor,
    jensen_shannon,
    junk,
    means,
    modes_covered,
    negative_log_likelihood,
    pooled,
    sample_histogram,
    sampling_floor,
    top1,
    total_variation,
    values,
)

P = np.array([[0.5, 0.25, 0.25, 0.0]])
Q = np.array([[0.25, 0.25, 0.0, 0.5]])


def score(q: np.ndarray, observed: np.ndarray, **given: np.ndarray) -> dict[str, float]:
    return means(values(q, observed, **given))


def distributions(seed: int, n: int = 6, num_emojis: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(num_emojis, 0.3), size=n)  # [n, V]


def unit_distance(seed: int, num_emojis: int = 9) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(num_emojis, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.linalg.norm(vectors[:, None] - vectors, axis=-1)  # [V, V]


seeds = st.integers(0, 2**32 - 1)


def test_values_by_hand():
    line = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))  # emojis on a line, one apart
    assert total_variation(Q, P) == pytest.approx([0.5])
    # m = (.375, .25, .125, .25)
    divergence = (0.25 * math.log(2 / 3) + 0.5 * math.log(2) + 0.5 * math.log(4 / 3) + 0.25 * math.log(2)) / 2
    assert jensen_shannon(Q, P) == pytest.approx([divergence])
    assert junk(Q, P) == pytest.approx([0.5])
    assert modes_covered(Q, P) == pytest.approx([2 / 3])
    assert entropy_ratio(P, np.array([[0.25] * 4])) == pytest.approx([2 * math.sqrt(2) / 4])
    assert energy_score(Q, np.array([0]), line) == pytest.approx([1.75 - 0.6875])
    assert brier(Q, np.array([3])) == pytest.approx([0.375 - 1 + 1])
    assert negative_log_likelihood(Q, np.array([3])) == pytest.approx([math.log(2)])
    assert top1(Q, np.array([3])) == [1]


def test_an_impossible_emoji_has_infinite_nll_but_a_finite_score():
    observed = np.array([2])
    assert negative_log_likelihood(Q, observed) == [math.inf]
    assert score(Q, observed, distance=unit_distance(0, 4))["nll"] == pytest.approx(math.log(4 / 0.001))


@given(seeds)
def test_divergences_stay_in_their_ranges(seed: int):
    q, p = distributions(seed), distributions(seed + 1)
    tv, js = total_variation(q, p), jensen_shannon(q, p)
    assert ((tv >= 0) & (tv <= 1 + 1e-12)).all()
    assert ((js >= 0) & (js <= math.log(2) + 1e-12)).all()
    assert (js >= tv**2 / 2 - 1e-12).all()  # Pinsker, for both halves
    assert (js <= tv * math.log(2) + 1e-12).all()  # Lin 1991, theorem 3
    assert (junk(q, p) <= tv + 1e-12).all()


@given(seeds)
def test_proper_scores_are_least_in_expectation_for_the_truth(seed: int):
    q, p = distributions(seed, n=1), distributions(seed + 1, n=1)
    every, distance = np.arange(9), unit_distance(seed)

    def expected(values: np.ndarray) -> float:
        return float(p[0] @ values)

    for proper in (brier, lambda q, observed: energy_score(q, observed, distance)):
        of_q, of_p = (expected(proper(np.repeat(x, 9, axis=0), every)) for x in (q, p))
        assert of_p <= of_q + 1e-12


@given(seeds)
def test_excess_scores_are_distances(seed: int):
    q, p = distributions(seed, n=1), distributions(seed + 1, n=1)
    every, distance = np.arange(9), unit_distance(seed)
    rows_q, rows_p = np.repeat(q, 9, axis=0), np.repeat(p, 9, axis=0)
    excess = p[0] @ (energy_score(rows_q, every, distance) - energy_score(rows_p, every, distance))
    assert excess == pytest.approx(-((q - p) @ distance @ (q - p).T)[0, 0] / 2)  # half the energy distance
    excess = p[0] @ (brier(rows_q, every) - brier(rows_p, every))
    assert excess == pytest.approx(np.square(q - p).sum())


@given(seeds)
def test_pooling_never_increases_total_variation(seed: int):
    q, p = distributions(seed), distributions(seed + 1)
    groups = np.array([4, 1, 4, 1, 4, 4])
    apart = pooled(total_variation(q, p)[:, None], groups)[:, 0]
    assert (total_variation(pooled(q, groups), pooled(p, groups)) <= apart + 1e-12).all()


def test_groups_are_pooled_in_rising_order_of_their_ids():
    assert pooled(np.array([[1.0, 0], [0, 1], [0.5, 0.5]]), np.array([7, 2, 7])) == pytest.approx(
        np.array([[0, 1], [0.75, 0.25]])
    )


def test_histograms_of_samples_are_frequencies_and_repeatable():
    q = distributions(3).astype(np.float32)  # sums that are not 1 in float64
    histogram = sample_histogram(q, 50, seed=1)
    assert histogram.sum(1) == pytest.approx(1)
    assert (histogram * 50 == np.round(histogram * 50)).all()
    assert (histogram == sample_histogram(q, 50, seed=1)).all()
    assert sample_histogram(q, 400_000, seed=2) == pytest.approx(q, abs=0.005)


@pytest.mark.parametrize("num_samples", [1, 10, 50])
def test_sampling_floor_is_the_sum_over_binomials(num_samples: int):
    p = np.array([[0.5, 0.3, 0.2, 0.0], [1.0, 0.0, 0.0, 0.0], [0.98, 0.01, 0.01, 0.0]])
    k = np.arange(num_samples + 1)
    mass = np.array([math.comb(num_samples, i) for i in k])
    deviation = np.abs(k / num_samples - p[..., None])
    expected = (mass * p[..., None] ** k * (1 - p[..., None]) ** (num_samples - k) * deviation).sum(
        (1, 2)
    ) / 2
    assert sampling_floor(p, num_samples) == pytest.approx(expected)


def test_sampling_floor_equals_simulation():
    p = np.repeat(distributions(5, n=1, num_emojis=40), 20_000, axis=0)
    simulated = total_variation(sample_histogram(p, 50, seed=0), p).mean()
    assert sampling_floor(p[:1], 50)[0] == pytest.approx(simulated, abs=0.002)


def test_the_truth_is_perfect_except_for_sampling():
    p, distance = distributions(8), unit_distance(8)
    scores = floor(p, np.zeros(6, int), distance=distance, groups=np.arange(6))
    assert scores["tv"] == scores["js"] == scores["junk"] == scores["pooled_tv"] == 0
    assert scores["modes_covered"] == scores["entropy_ratio"] == 1
    assert scores["tv_50"] == pytest.approx(sampling_floor(p, 50).mean())


def test_scores_come_under_the_keys_of_the_table_and_in_its_order():
    q, observed, distance = distributions(1), np.zeros(6, int), unit_distance(1)
    keys = [metric.key for metric in METRICS]
    full = score(q, observed, distance=distance, truth=distributions(2), groups=np.zeros(6, int))
    assert list(full) == keys
    assert all(key.isidentifier() and key.isascii() for key in keys)
    assert list(score(q, observed, distance=distance)) == ["energy_score", "brier", "nll", "top1"]
    assert all(type(value) is float for value in full.values())


def test_a_metric_that_is_a_mean_has_a_value_for_each_row():
    given = {"distance": unit_distance(1), "truth": distributions(2), "groups": np.array([0, 0, 1, 1, 1, 1])}
    found = values(distributions(1), np.zeros(6, int), **given)
    for metric in METRICS:
        assert found[metric.key].shape == ((6,) if metric.is_mean else (2,))


def test_a_value_that_is_not_known_does_not_count():
    found = means({"some": np.array([1.0, math.nan, 3.0]), "none": np.array([math.nan])})
    assert found == {"some": 2}


def test_a_model_that_ignores_the_image_passes_on_average_and_fails_per_image():
    p = np.repeat(np.eye(3), 4, axis=0)  # each image has one emoji, each emoji four images
    marginal = np.repeat(p.mean(0, keepdims=True), 12, axis=0)
    groups = np.repeat([0, 1, 2], 4)
    scores = score(marginal, groups, distance=unit_distance(0, 3), truth=p, groups=groups)
    assert total_variation(marginal.mean(0), p.mean(0)) == 0  # the marginal histogram, the paper's Fig. 3
    assert scores["tv"] == scores["pooled_tv"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "q", [np.full((2, 3), 0.5), np.array([[1.5, -0.5, 0]]), np.array([[np.nan, 1, 0]]), np.empty((0, 3))]
)
def test_rows_that_are_no_distributions_are_refused(q: np.ndarray):
    with pytest.raises(ValueError, match="distributions"):
        score(q, np.zeros(len(q), int), distance=np.zeros((3, 3)))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.key)
def test_loss_orders_values_from_good_to_bad(metric):
    good, bad = {"lower": (0.1, 0.2), "higher": (0.9, 0.8), "one": (1.05, 0.9)}[metric.better]
    assert metric.loss(good) < metric.loss(bad)
