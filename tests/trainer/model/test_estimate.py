"""The interval holds what all latents would say, however often it is looked; denied emojis are never said."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojigan.trainer.model.estimate import MISSED, ROUNDS, Estimate, estimate
from emojigan.trainer.model.snapshot import Snapshot

from .test_snapshot import RECIPES, images, make

Draw = Callable[[np.random.Generator], np.ndarray]
TIED = np.array([0.4, 0.4, 0.2])


def one_emoji_each(rng: np.random.Generator) -> np.ndarray:
    return np.eye(3)[rng.choice(3, ROUNDS[-1], p=TIED)]


def a_distribution_each(rng: np.random.Generator) -> np.ndarray:
    return rng.dirichlet(TIED, ROUNDS[-1])


def of_latents(q: np.ndarray, denied: Sequence[int] = (), looks: int = 1) -> Estimate:
    return estimate(q.mean(axis=0), q - q.mean(axis=0), np.ones(q.shape[1]), denied=denied, looks=looks)


def looked_at(q: np.ndarray) -> Estimate:
    """What is found where the first of some independent latents seem to be enough."""
    looks = [of_latents(q[:number], looks=len(ROUNDS)) for number in ROUNDS]
    return next((each for each in looks if each.parts), looks[-1])


@pytest.mark.parametrize("draw", [one_emoji_each, a_distribution_each])
def test_emojis_that_are_as_likely_are_hardly_ever_told_apart(draw: Draw):
    """With the interval of a single look they would be in 13 %."""
    rng = np.random.default_rng(0)
    found = [looked_at(draw(rng)) for _ in range(200)]
    assert np.mean([each.parts for each in found]) <= MISSED
    missed = np.array([(each.low > TIED) | (each.high < TIED) for each in found])
    assert (missed.mean(axis=0) <= MISSED).all()


def nearly_tied(recipe: str = "tuples", weight: float = 4, sizes: tuple[float, ...] = ()) -> Snapshot:
    """Trained with a weight of its likeliest emoji that, undone, leaves two nearly as likely."""
    snapshot = make(recipe)
    weights = np.array([1, 1, 1, 1, weight])
    return replace(snapshot, weights=weights, facts=replace(snapshot.facts, sizes=sizes))


@pytest.mark.parametrize("denied", [(), (1,)])
@pytest.mark.parametrize("snapshot", [("tuples", 4), ("tuples", 8, (0.5, 0.5)), ("paper", 3)], ids=str)
def test_the_interval_holds_what_very_many_latents_say(snapshot: tuple, denied: tuple[int, ...]):
    asked = partial(nearly_tied(*snapshot).estimates, images(1), denied=denied)
    (truth,) = asked(num_samples=2**14, seed=99)
    found = [asked(num_samples=0, seed=seed)[0] for seed in range(30)]
    assert max(each.latents for each in found) > ROUNDS[0]
    held = [(each.low <= truth.p) & (truth.p <= each.high) for each in found]
    assert (np.mean(held, axis=0) >= 1 - MISSED).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.lists(st.integers(0, 4), max_size=3))
def test_others_keep_their_ratios_and_lie_in_their_intervals(seed: int, number: int, denied: list[int]):
    q = np.random.default_rng(seed).dirichlet(np.full(5, 0.3), number)
    whole, found = of_latents(q), of_latents(q, denied)
    left = [row for row in range(5) if row not in denied]
    np.testing.assert_allclose(found.p[left], whole.p[left] / whole.p[left].sum(), rtol=1e-9)
    assert not found.p[denied].any() and not found.high[denied].any()
    assert (found.low >= 0).all() and (found.high <= 1).all()
    assert (found.low <= found.p + 1e-12).all() and (found.p <= found.high + 1e-12).all()


@pytest.mark.parametrize(("number", "doubt"), [(1, 0.8), (2, 0.7), (64, 0.1), (4096, 0.002)])
def test_few_latents_leave_much_doubt_even_where_they_agree_and_many_hardly_any(number: int, doubt: float):
    found = of_latents(np.tile([0.5, 0.3, 0.2], (number, 1)))
    assert found.high - found.low == pytest.approx(doubt, rel=0.5)


def test_there_is_room_above_what_no_latent_said():
    """That which 3 in 64 latents say is not said by 64 of them in a twentieth of all cases."""
    found = of_latents(np.tile([1.0, 0.0], (64, 1)))
    assert found.low[1] == 0 and found.high[1] > 3 / 64


def test_an_emoji_that_few_latents_shout_is_in_its_interval():
    """One latent in 50 says little else: of 64 a quarter have none of those, and then hardly any spread."""
    rng = np.random.default_rng(0)
    shouted = np.where(rng.random((400, 64)) < 0.02, 0.5, 0.001)
    found = [of_latents(np.stack([each, 1 - each], axis=1), looks=len(ROUNDS)) for each in shouted]
    assert np.mean([each.high[0] < 0.02 * 0.5 + 0.98 * 0.001 for each in found]) <= MISSED


def test_where_nothing_is_said_but_what_is_denied_nothing_is_the_likeliest():
    found = of_latents(np.tile([1.0, 0.0, 0.0], (64, 1)), denied=[0])
    assert not found.p.any() and not found.parts


@pytest.mark.parametrize("sizes", [(), (0.5, 0.5)])
@pytest.mark.parametrize("recipe", RECIPES)
def test_by_as_many_latents_it_is_the_distribution(recipe: str, sizes: tuple):
    snapshot = make(recipe)
    snapshot = replace(snapshot, facts=replace(snapshot.facts, sizes=sizes))
    found = snapshot.estimates(images(), num_samples=30, seed=3)
    expected = snapshot.distribution(images(), num_samples=30, seed=3)
    np.testing.assert_allclose([each.p for each in found], expected, rtol=1e-5, atol=1e-9)
    assert {each.latents for each in found} == {30}


def test_it_stops_where_the_likeliest_parts_and_else_at_the_bound():
    (clear,) = make().estimates(images(1), num_samples=0, seed=0)
    (tied,) = nearly_tied(weight=5).estimates(images(1), num_samples=0, seed=0)
    assert clear.parts and clear.latents == ROUNDS[0]
    assert not tied.parts and tied.latents == ROUNDS[-1]


def test_what_is_said_of_an_image_does_not_depend_on_the_others():
    snapshot = nearly_tied()
    together = snapshot.estimates(images(), num_samples=0, seed=0)
    for image, each in zip(images().split(1), together, strict=True):
        (alone,) = snapshot.estimates(image, num_samples=0, seed=0)
        assert alone.latents == each.latents and (alone.p == each.p).all() and (alone.low == each.low).all()
