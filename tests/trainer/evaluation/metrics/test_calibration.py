"""Calibration of answers whose truth is known."""

import numpy as np
import pytest

from emojigan.trainer.evaluation.metrics.calibration import (
    BANDS,
    band_values,
    calibration_values,
    reliability,
)


def drawn(q: np.ndarray, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(len(row), p=row) for row in q])


def test_what_is_drawn_from_the_answer_is_told_as_often_as_it_comes():
    q = np.random.default_rng(0).dirichlet(np.full(30, 0.3), size=20_000)
    curve = reliability(q, drawn(q))
    assert curve.number.sum() == q.size
    often = curve.number > 1000
    assert often.sum() > 5
    assert curve.posted[often] == pytest.approx(curve.told[often], abs=0.02)
    assert np.abs(calibration_values(q, drawn(q)).mean(axis=0)).sum() < 0.03


def test_an_answer_that_is_too_sure_is_off_by_what_it_says_too_much():
    sure, observed = np.tile([0.9, 0.1], (1000, 1)), np.repeat([0, 1], 500)
    curve = reliability(sure, observed)
    assert curve.told == pytest.approx([0.1, 0.9]) and curve.posted == pytest.approx([0.5, 0.5])
    assert np.abs(calibration_values(sure, observed).mean(axis=0)).sum() == pytest.approx(0.4 + 0.4)


def test_values_of_a_row_are_its_probabilities_by_size_less_one_for_what_was_posted():
    (row,) = calibration_values(np.array([[0.7, 0.15, 0.15, 0.0]]), np.array([1]))
    assert row.sum() == pytest.approx(0)
    assert sorted(row[row != 0].tolist()) == pytest.approx([0.3 - 1, 0.7])


def test_bands_have_as_many_posts_each_and_the_rare_ones_the_most_emojis():
    shares = np.array([0.3, 0.04, 0.3, 0.06, 0.3])
    said = np.array([[0.3, 0.0, 0.3, 0.1, 0.3]])
    (row,) = band_values(said, np.array([1]), shares)
    assert len(row) == BANDS
    assert row.sum() == pytest.approx(0)
    assert row[-1] == pytest.approx(0.1 - 1)  # both rare emojis are in it
