"""Fréchet distances against matrix roots and samples."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from emojigan.trainer.evaluation.metrics.frechet import frechet, joint_moments, moments


def a_world(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers [9, V], features [9, f], vectors [V, d]."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(6), size=9), rng.normal(size=(9, 3)), rng.normal(size=(6, 4))


def test_it_is_that_of_the_matrix_root():
    rng = np.random.default_rng(0)
    (m, a), (n, b) = ((rng.normal(size=5), rng.normal(size=(5, 7))) for _ in range(2))
    s, t = a @ a.T, b @ b.T
    expected = np.square(m - n).sum() + np.trace(s + t - 2 * np.real(sqrtm(s @ t)))
    assert frechet((m, s), (n, t)) == pytest.approx(expected)
    assert frechet((n, t), (m, s)) == pytest.approx(expected)


def test_it_is_0_of_the_same_also_where_fewer_emojis_are_said_than_there_are_dimensions():
    vectors = np.random.default_rng(1).normal(size=(5, 40))
    same = moments(np.array([0.2, 0.3, 0.5, 0, 0]), vectors)
    assert frechet(same, same) == pytest.approx(0, abs=1e-6)


def test_moments_are_those_of_many_samples():
    q, _, vectors = a_world()
    mean, covariance = moments(q[0], vectors)
    drawn = vectors[np.random.default_rng(0).choice(6, 200_000, p=q[0])]
    assert mean == pytest.approx(drawn.mean(axis=0), abs=0.02)
    assert covariance == pytest.approx(np.cov(drawn.T, bias=True), abs=0.05)


def test_joint_moments_are_those_of_an_image_and_an_emoji_that_is_drawn_for_it():
    q, features, vectors = a_world()
    rng = np.random.default_rng(0)
    rows = rng.integers(9, size=200_000)
    emoji = (q[rows].cumsum(axis=1) > rng.random((len(rows), 1))).argmax(axis=1)
    drawn = np.hstack([features[rows], vectors[emoji]])
    mean, covariance = joint_moments(q, features, vectors)
    assert mean == pytest.approx(drawn.mean(axis=0), abs=0.02)
    assert covariance == pytest.approx(np.cov(drawn.T, bias=True), abs=0.05)
