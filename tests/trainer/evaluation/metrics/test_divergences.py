"""Distances to the truth against sums by hand, identities and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from emojigan.trainer.evaluation.metrics.divergences import (
    earth_movers,
    entropy_ratio,
    jensen_shannon,
    junk,
    mode_stability,
    modes_covered,
    pooled,
    precision_recall,
    sample_histogram,
    sampling_floor,
    total_variation,
)

P = np.array([[0.5, 0.25, 0.25, 0.0]])
Q = np.array([[0.25, 0.25, 0.0, 0.5]])


def distributions(seed: int, n: int = 6, num_emojis: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(num_emojis, 0.3), size=n)  # [n, V]


seeds = st.integers(0, 2**32 - 1)


def test_values_by_hand():
    assert total_variation(Q, P) == pytest.approx([0.5])
    # m = (.375, .25, .125, .25)
    divergence = (0.25 * math.log(2 / 3) + 0.5 * math.log(2) + 0.5 * math.log(4 / 3) + 0.25 * math.log(2)) / 2
    assert jensen_shannon(Q, P) == pytest.approx([divergence])
    assert junk(Q, P) == pytest.approx([0.5])
    assert modes_covered(Q, P) == pytest.approx([2 / 3])
    assert entropy_ratio(P, np.array([[0.25] * 4])) == pytest.approx([2 * math.sqrt(2) / 4])


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
def test_on_a_line_earth_is_moved_by_the_difference_of_the_cumulated(seed: int):
    q, p, at = (
        distributions(seed),
        distributions(seed + 1),
        np.sort(np.random.default_rng(seed).normal(size=9)),
    )
    q[0, :4] = 0  # an emoji that is never said
    q[0] /= q[0].sum()
    expected = [wasserstein_distance(at, at, *pair) for pair in zip(q, p, strict=True)]
    assert earth_movers(q, p, np.abs(np.subtract.outer(at, at))) == pytest.approx(expected, abs=1e-9)


@given(seeds)
def test_what_is_the_same_has_all_precision_and_recall_and_what_is_apart_none(seed: int):
    q = distributions(seed)
    apart = np.hstack([q, np.zeros_like(q)]), np.hstack([np.zeros_like(q), q])
    for beta in (1 / 8, 8):
        assert precision_recall(q, q, beta) == pytest.approx(np.ones(6))
        assert precision_recall(*apart, beta) == pytest.approx(np.zeros(6))


def test_junk_costs_precision_and_what_is_never_said_costs_recall():
    p = np.full((1, 4), 0.25)
    half_junk, half_said = np.array([[0.125] * 4 + [0.5]]), np.array([[0.5, 0.5, 0, 0, 0]])
    p = np.hstack([p, [[0]]])
    # of F_β the curve's ends: precision ½ with nearly all recall, and the other way round
    assert precision_recall(half_junk, p, 1 / 8)[0] == pytest.approx(0.5, abs=0.01)
    assert precision_recall(half_junk, p, 8)[0] > 0.98
    assert precision_recall(half_said, p, 8)[0] == pytest.approx(0.5, abs=0.01)
    assert precision_recall(half_said, p, 1 / 8)[0] > 0.98


def test_a_mode_is_as_stable_as_it_is_clear():
    clear, even = np.tile([0.9, 0.1], (2000, 1)), np.tile([0.5, 0.5], (2000, 1))
    assert mode_stability(clear).mean() == 1
    assert mode_stability(even).mean() == pytest.approx(0.5, abs=0.05)


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
