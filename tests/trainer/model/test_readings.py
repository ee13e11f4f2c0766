"""Readings are the moods that people have, as many as their posts tell apart; completion is Bayes' rule."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojigan.datasets.errors import InputError
from emojigan.datasets.worlds.reactions import Mood, Reactions
from emojigan.trainer.model.readings import (
    LATENTS,
    MOST,
    Mixture,
    coarser,
    completion,
    divergences,
    latents_of,
    log_probability,
    readings,
    supported,
    without,
)

from .test_snapshot import WEIGHTS, images, make

EMOJIS = tuple("😍🔥😂💀🐶🌊✨🎉")
MOODS = (
    Mood(0.5, {"😍": 0.6, "🔥": 0.3, "✨": 0.1}),
    Mood(0.3, {"😂": 0.5, "💀": 0.4, "😍": 0.1}),
    Mood(0.2, {"🐶": 0.4, "🌊": 0.4, "🎉": 0.2}),
)
DRAWS = (0.2, 0.4, 0.4)


def table(moods: Sequence[Mood]) -> Mixture:
    """The truth, in the order of EMOJIS."""
    p = np.array([[mood.p.get(emoji, 0.0) for emoji in EMOJIS] for mood in moods])
    return Mixture(np.array([mood.share for mood in moods]), p)


def latents(moods: Sequence[Mood], rng: np.random.Generator, noise: float = 0.02) -> Mixture:
    """What a model would say that has learned the moods but for some noise: each latent is of one mood."""
    truth = table(moods)
    mood = rng.choice(len(moods), LATENTS, p=truth.share)
    return Mixture(np.full(LATENTS, 1 / LATENTS), np.array([rng.dirichlet(p / noise) for p in truth.p[mood]]))


def pictures(
    reactions: Reactions, moods: Sequence[Mood], number: int
) -> Iterator[tuple[Mixture, list[list[int]]]]:
    """The latents of some pictures, and posts of two emojis or more under each."""
    rng = np.random.default_rng(0)
    for _ in range(number):
        posts = [reactions.draw(rng) for _ in range(3)]
        several = [[EMOJIS.index(emoji) for emoji in post] for post in posts if len(post) > 1]
        if several:
            yield latents(moods, rng), several


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    parts = draw(st.integers(1, 7))
    counts = draw(
        st.lists(st.lists(st.integers(1, 50), min_size=5, max_size=5), min_size=parts, max_size=parts)
    )
    joint = np.array(counts) / np.sum(counts)
    return Mixture(joint.sum(axis=1), joint / joint.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("most", [3, 4])
def test_the_readings_of_a_world_with_three_moods_are_its_three_moods(seed: int, most: int):
    draws = (latents(MOODS, np.random.default_rng([seed, number])) for number in range(2))
    found, truth = readings(*draws, most), table(MOODS)
    np.testing.assert_allclose(found.share, truth.share, atol=0.1)
    np.testing.assert_allclose(found.p, truth.p, atol=0.05)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_held_out_posts_support_as_many_as_there_are_moods(number: int):
    shares = [mood.share for mood in MOODS[:number]]
    moods = [Mood(mood.share / sum(shares), mood.p) for mood in MOODS[:number]]
    assert supported(pictures(Reactions(tuple(moods), DRAWS), moods, 60)) == number


def test_what_latents_tell_apart_and_posts_do_not_is_one():
    independent = Mood(1, dict(zip(EMOJIS, (table(MOODS).share @ table(MOODS).p).tolist(), strict=True)))
    assert supported(pictures(Reactions((independent,), DRAWS), MOODS, 60)) == 1


def test_what_makes_reactions_hardly_likelier_is_one():
    """By the same in every post, so that there is no doubt of it."""
    p = np.array([[0.45, 0.45, 0.1], [0.35, 0.35, 0.3]] * 3)
    latents = Mixture(np.full(6, 1 / 6), p)
    assert supported([(latents, [[0, 1]])] * 20) == 1


def test_without_posts_of_several_emojis_one_is_supported():
    assert supported([]) == 1


def test_of_a_picture_to_which_all_say_the_same_there_is_one():
    flat = Mood(1, dict.fromkeys(EMOJIS, 1 / len(EMOJIS)))
    draws = (latents([flat], np.random.default_rng(seed)) for seed in range(2))
    assert readings(*draws, most=3).share == pytest.approx([1])


def test_there_are_as_many_readings_as_two_draws_agree_on():
    """Of three in each, they agree on one; in two parts, on both."""
    common, one, other = (
        Mood(0.5, {"🐶": 1}),
        Mood(0.25, {"😍": 0.8, "🔥": 0.2}),
        Mood(0.25, {"😍": 0.2, "🔥": 0.8}),
    )
    found = readings(table([common, one, other]), table([common, Mood(0.3, one.p), Mood(0.2, {"🔥": 1})]), 3)
    assert found.share == pytest.approx([0.5, 0.5])
    assert found.p[:, EMOJIS.index("🐶")].tolist() in ([1, 0], [0, 1])


def test_what_many_people_say_in_one_draw_and_few_in_the_other_is_not_shown():
    one, other = (table([Mood(s, MOODS[0].p), Mood(1 - s, MOODS[1].p)]) for s in (0.75, 0.5))
    assert readings(one, other, 2).share == pytest.approx([1])


def test_draws_that_have_nothing_in_common_have_no_readings():
    assert not len(readings(table([MOODS[0]]), table([Mood(1, MOODS[2].p)]), 1).share)


@settings(deadline=None)
@given(mixtures(), st.integers(1, MOST))
def test_coarser_mixtures_say_the_same_of_single_emojis_and_ever_less_of_pairs(mixture: Mixture, most: int):
    told = []
    for parts in coarser(mixture, most):
        assert parts.share.sum() == pytest.approx(1) and sorted(parts.share, reverse=True) == [*parts.share]
        np.testing.assert_allclose(parts.share @ parts.p, mixture.share @ mixture.p, atol=1e-12)
        mean = parts.share @ parts.p
        told.append((parts.share * (parts.p * np.log(parts.p / mean)).sum(axis=1)).sum())
    assert len(told) == min(most, len(mixture.share))
    assert (np.diff(told) <= 1e-12).all()


@settings(deadline=None)
@given(mixtures(), st.lists(st.integers(0, 4), max_size=3, unique=True))
def test_completion_is_that_of_all_reactions_with_one_emoji_more(mixture: Mixture, said: list[int]):
    more = [
        0.0 if emoji in said else mixture.share @ mixture.p[:, [*said, emoji]].prod(axis=1)
        for emoji in range(5)
    ]
    np.testing.assert_allclose(completion(mixture, said), more / np.sum(more), atol=1e-7)


@settings(deadline=None)
@given(mixtures(), st.lists(st.integers(0, 4), max_size=4, unique=True))
def test_without_denied_emojis_the_others_keep_their_ratios_in_the_whole_and_in_each_part(
    mixture: Mixture, denied: list[int]
):
    found, left = without(mixture, denied), [row for row in range(5) if row not in denied]
    assert not found.p[:, denied].any()
    whole = (mixture.share @ mixture.p)[left]
    np.testing.assert_allclose((found.share @ found.p)[left], whole / whole.sum(), atol=1e-9)
    parts = {tuple((p[left] / p[left].sum()).round(9)) for p in mixture.p}
    assert {tuple(p[left].round(9)) for p in found.p} == parts


@settings(deadline=None)
@given(mixtures(), st.integers(0, 4), st.integers(0, 4))
def test_a_completion_without_denied_emojis_keeps_the_ratios_of_the_others(
    mixture: Mixture, said: int, denied: int
):
    whole, found = completion(mixture, [said]), completion(mixture, [said], [denied])
    whole[denied] = 0
    np.testing.assert_allclose(found, whole / whole.sum(), rtol=1e-9)


@settings(deadline=None)
@given(mixtures(), st.integers(1, 3))
def test_the_probabilities_of_all_reactions_of_a_size_sum_to_one(mixture: Mixture, size: int):
    total = sum(np.exp(log_probability(mixture, each)) for each in permutations(range(5), size))
    assert total == pytest.approx(1)


def test_whoever_knows_the_moods_finds_reactions_likelier_than_whoever_does_not():
    known = table(MOODS)
    alone = Mixture(np.ones(1), known.share[None] @ known.p)
    reaction = [EMOJIS.index(emoji) for emoji in "😂💀"]
    assert log_probability(known, reaction[:1]) == pytest.approx(log_probability(alone, reaction[:1]))
    assert log_probability(known, reaction) > log_probability(alone, reaction) + 0.5


def test_what_goes_with_an_emoji_is_of_its_mood():
    said = completion(latents(MOODS, np.random.default_rng(0)), [EMOJIS.index("😂")])
    assert EMOJIS[said.argmax()] == "💀" and said.argmax() != table(MOODS).p[0].argmax()


def test_divergence_is_0_of_the_same_and_log_2_of_what_has_nothing_in_common():
    np.testing.assert_allclose(divergences(np.eye(3), np.eye(3)), np.log(2) * (1 - np.eye(3)), atol=1e-12)


def test_the_latents_of_an_image_are_its_distribution_with_the_training_weights_undone():
    snapshot = make()
    whole = snapshot.distribution(images(), num_samples=20, seed=1)
    found = [*latents_of(snapshot, images(), number=20, seed=1)]
    assert len(found) == len(whole) and found[0].p.shape == (20, len(WEIGHTS))
    for each, p in zip(found, whole, strict=True):
        np.testing.assert_allclose(each.share @ each.p, p, atol=1e-6)


def test_weights_that_cannot_be_undone_are_refused():
    snapshot = replace(make(), weights=np.array([1e-9, 1, 1, 1, 1]))
    with pytest.raises(InputError, match="cannot be undone"):
        next(latents_of(snapshot, images(), number=20, seed=1))
