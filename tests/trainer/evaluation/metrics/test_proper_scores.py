"""Proper scores against sums by hand and identities."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojigan.trainer.evaluation.metrics.proper_scores import (
    brier,
    energy_score,
    negative_log_likelihood,
    top1,
)

Q = np.array([[0.25, 0.25, 0.0, 0.5]])


def distributions(seed: int, n: int = 1, num_emojis: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(num_emojis, 0.3), size=n)  # [n, V]


def unit_distance(seed: int, num_emojis: int = 9) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(num_emojis, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.linalg.norm(vectors[:, None] - vectors, axis=-1)  # [V, V]


seeds = st.integers(0, 2**32 - 1)


def test_values_by_hand():
    line = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))  # emojis on a line, one apart
    assert energy_score(Q, np.array([0]), line) == pytest.approx([1.75 - 0.6875])
    assert brier(Q, np.array([3])) == pytest.approx([0.375 - 1 + 1])
    assert negative_log_likelihood(Q, np.array([3])) == pytest.approx([math.log(2)])
    assert negative_log_likelihood(Q, np.array([2])) == [math.inf]
    assert top1(Q, np.array([3])) == [1]


@given(seeds)
def test_proper_scores_are_least_in_expectation_for_the_truth(seed: int):
    q, p = distributions(seed), distributions(seed + 1)
    every, distance = np.arange(9), unit_distance(seed)

    def expected(values: np.ndarray) -> float:
        return float(p[0] @ values)

    for proper in (brier, lambda q, observed: energy_score(q, observed, distance)):
        of_q, of_p = (expected(proper(np.repeat(x, 9, axis=0), every)) for x in (q, p))
        assert of_p <= of_q + 1e-12


@given(seeds)
def test_excess_scores_are_distances(seed: int):
    q, p = distributions(seed), distributions(seed + 1)
    every, distance = np.arange(9), unit_distance(seed)
    rows_q, rows_p = np.repeat(q, 9, axis=0), np.repeat(p, 9, axis=0)
    excess = p[0] @ (energy_score(rows_q, every, distance) - energy_score(rows_p, every, distance))
    assert excess == pytest.approx(-((q - p) @ distance @ (q - p).T)[0, 0] / 2)  # half the energy distance
    excess = p[0] @ (brier(rows_q, every) - brier(rows_p, every))
    assert excess == pytest.approx(np.square(q - p).sum())
