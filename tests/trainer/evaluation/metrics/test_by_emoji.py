"""Errors by emoji add up to those of the whole."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojigan.trainer.evaluation.metrics.by_emoji import by_emoji
from emojigan.trainer.evaluation.metrics.divergences import total_variation
from emojigan.trainer.evaluation.metrics.metric import Said


def said(seed: int, rows: int = 30, emojis: int = 5) -> Said:
    rng = np.random.default_rng(seed)
    q, truth = rng.dirichlet(np.ones(emojis), rows), rng.dirichlet(np.ones(emojis), rows)
    observed = np.array([rng.choice(emojis, p=p) for p in truth])
    shares = np.array([0.4, 0.3, 0.2, 0.1, 0.0])
    return Said(q, observed, np.eye(emojis), np.ones((emojis, emojis)), shares, truth, None, None, None)


@given(st.integers(0, 1000))
def test_half_of_what_all_emojis_lack_and_exceed_is_the_total_variation(seed: int):
    one = said(seed)
    assert one.truth is not None
    found = by_emoji(one)
    total = sum(each.lacks + each.exceeds for each in found) / 2
    assert total == pytest.approx(total_variation(one.q, one.truth).mean())
    errors = [each.lacks + each.exceeds for each in found]
    assert errors == sorted(errors, reverse=True)
    assert (
        sum(each.told for each in found)
        == pytest.approx(sum(each.true for each in found))
        == pytest.approx(1)
    )
    assert sum(each.tuples for each in found) == len(one.observed)


def test_without_a_truth_the_error_is_of_shares():
    one = replace(said(0), truth=None)
    found = by_emoji(one)
    off = [abs(each.told - each.tuples / len(one.observed)) for each in found]
    assert off == sorted(off, reverse=True)
    assert all(np.isnan([each.true, each.lacks, each.exceeds]).all() for each in found)


def test_an_image_gains_what_it_makes_likelier_than_the_share():
    one = said(0)
    sure = np.eye(5)[one.observed]
    gains = {each.emoji: each.gain for each in by_emoji(replace(one, q=sure))}
    for emoji in set(one.observed.tolist()) - {4}:
        assert gains[emoji] == pytest.approx(-np.log(one.shares[emoji]), abs=2e-3)
    assert np.isnan(gains[4])  # in no training: it has no share to gain beyond
