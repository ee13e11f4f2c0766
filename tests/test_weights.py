"""Weights have mean 1, say what they do to the optimum, and can be undone or are refused."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from emojigan.datasets.errors import InputError
from emojigan.datasets.weights import SCHEMES, effective_sample_size, undo, weights

COUNTS = st.lists(st.integers(1, 10**6), min_size=1, max_size=40).map(np.array)
SKEWED = np.array([500_000, 90_000, 3000, 40, 5])


def of(scheme: str, counts: np.ndarray, k: float) -> np.ndarray:
    return weights(scheme, counts, k=k, num_posts=int(counts.sum()))


@given(COUNTS, st.sampled_from(SCHEMES), st.floats(0, 50))
def test_mean_over_the_tuples_is_1(counts, scheme, k):
    assert of(scheme, counts, k) @ counts / counts.sum() == pytest.approx(1, rel=1e-12)


@given(COUNTS)
def test_k_0_equals_none_bit_for_bit(counts):
    none = of("none", counts, 10.0)
    assert of("exponential", counts, 0.0).tobytes() == none.tobytes()
    assert (none == 1).all()


def test_exponential_is_equation_2():
    weight = of("exponential", SKEWED, 10.0)
    plain = np.exp(-10 * SKEWED / SKEWED.sum())
    np.testing.assert_allclose(weight / weight[0], plain / plain[0], rtol=1e-12)


def test_tfidf_is_the_log_of_the_inverse_document_frequency():
    weight = weights("tfidf", np.array([900, 90, 9]), k=10.0, num_posts=999)
    plain = np.log(1000 / np.array([900, 90, 9]))
    np.testing.assert_allclose(weight / weight[0], plain / plain[0], rtol=1e-12)


def test_tfidf_of_an_emoji_in_every_post_is_a_number():
    weight = weights("tfidf", np.array([100, 1]), k=10.0, num_posts=100)
    assert (weight > 0).all()


@given(COUNTS, st.floats(0.01, 50))
def test_rarer_emojis_never_weigh_less(counts, k):
    for scheme in ("exponential", "tfidf"):
        weight = of(scheme, counts, k)[np.argsort(counts)]
        assert (np.diff(weight) <= 1e-12 * weight[:-1]).all()


@pytest.mark.parametrize("k", [1e3, 1e4, 1e300])
def test_k_beyond_the_range_of_numbers_is_refused(k):
    with pytest.raises(InputError, match=r"Choose a smaller --k"):
        of("exponential", SKEWED, k)


def test_large_k_overflows_nothing_while_it_can_be_held():
    weight = of("exponential", np.full(1000, 7), 1e4)
    np.testing.assert_allclose(weight, 1)


@given(COUNTS, st.floats(0, 1e5))
def test_weights_are_numbers_that_float32_holds(counts, k):
    try:
        weight = of("exponential", counts, k).astype(np.float32)
    except InputError:
        return
    assert np.isfinite(weight).all() and (weight > 0).all()


def test_unknown_scheme_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="none, exponential, tfidf"):
        of("inverse", SKEWED, 1.0)


@given(COUNTS, st.sampled_from(SCHEMES), st.floats(0, 80))
def test_effective_sample_size_is_a_share(counts, scheme, k):
    assert 0 < effective_sample_size(of(scheme, counts, k), counts) <= 1 + 1e-12


def test_effective_sample_size_without_weights_is_1():
    assert effective_sample_size(np.ones(5), SKEWED) == 1


def test_effective_sample_size_is_that_of_the_tuples_one_by_one():
    counts = np.array([6, 3, 1])
    weight = of("exponential", counts, 5.0)
    each = np.repeat(weight, counts)
    assert effective_sample_size(weight, counts) == pytest.approx(each.sum() ** 2 / (10 * (each**2).sum()))


@given(COUNTS, st.floats(0, 40), st.sampled_from(SCHEMES), st.integers(0, 2**32))
def test_undoing_gives_the_unweighted_distribution_back(counts, k, scheme, seed):
    weight = of(scheme, counts, k)
    truth = np.random.default_rng(seed).dirichlet(np.ones(len(counts)), 3)
    shifted = truth * weight
    shifted /= shifted.sum(axis=1, keepdims=True)
    try:
        found = undo(shifted, weight)
    except InputError:
        assume(False)
    np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-15)


@given(COUNTS, st.floats(0, 1e4), st.integers(0, 2**32))
def test_undoing_gives_distributions_or_is_refused(counts, k, seed):
    try:
        weight = of("exponential", counts, k)
        found = undo(np.random.default_rng(seed).dirichlet(np.ones(len(counts)), 3), weight)
    except InputError:
        return
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_zeros_stay_zeros():
    found = undo(np.array([[0.5, 0.5, 0.0]]), np.array([1.0, 1.5, 0.1]))
    np.testing.assert_allclose(found, [[0.6, 0.4, 0]])


def test_hopeless_weights_are_refused():
    weight = of("exponential", SKEWED, 20.0)
    with pytest.raises(InputError, match=r"50 samples are worth 5\.0"):
        undo(np.array([[0.1, 0.3, 0.2, 0.2, 0.2]]), weight)


def test_the_smallest_weights_are_refused_not_divided_by():
    weight = of("exponential", SKEWED, 90.0)
    assert weight.max() / weight.min() > 1e30
    with pytest.raises(InputError, match="cannot be undone"):
        undo(np.array([[0.1, 0.3, 0.2, 0.2, 0.2]]), weight)
