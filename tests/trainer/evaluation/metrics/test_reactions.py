"""Measures of whole reactions against enumeration, and on worlds whose moods are known."""

from itertools import permutations
from math import inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojigan.datasets.worlds.reactions import Mood, Reactions
from emojigan.trainer.evaluation.metrics.metric import scores as scored
from emojigan.trainer.evaluation.metrics.metric import values
from emojigan.trainer.evaluation.metrics.reactions import (
    REACTION_METRICS,
    Answers,
    Pairs,
    Posted,
    Whole,
    judge,
    latent_information,
    likelihoods,
    moods,
    pair_tv,
    second,
)

EMOJIS = "😍🔥😂💀🐶"
V = len(EMOJIS)
seeds = st.integers(0, 2**32 - 1)


def answers(seed: int, n: int = 1, latents: int = 3) -> Answers:
    rng = np.random.default_rng(seed)
    return Answers(rng.dirichlet(np.full(V, 0.4), (n, latents)), rng.dirichlet(np.ones(latents), n))


def posted(*reactions: tuple[int, ...]) -> Posted:
    """All under image 0."""
    tuples = [(row, emoji) for row, reaction in enumerate(reactions) for emoji in reaction]
    reaction, emoji = np.array(tuples).T
    return Posted.of(np.zeros(len(tuples), int), emoji, reaction)


def chance(of: Answers, said: tuple[int, ...], emoji: int) -> float:
    """Of an emoji after others, by all that could come instead."""

    def together(*drawn: int) -> float:
        return sum(s * np.prod(q[[*drawn]]) for s, q in zip(of.share[0], of.q[0], strict=True))

    return together(*said, emoji) / sum(together(*said, each) for each in range(V) if each not in said)


def of_world(world: Reactions, number: int, seed: int) -> Posted:
    """Reactions that people drew."""
    rng = np.random.default_rng(seed)
    return posted(*(tuple(map(EMOJIS.index, world.draw(rng))) for _ in range(number)))


def scores(of: Answers, world: Reactions, said: Posted) -> dict[str, float]:
    found = judge(iter([of]), said, V, lambda image: Pairs.of(world, EMOJIS))
    return scored(REACTION_METRICS, found)


def of_one(of: Answers, said: Posted) -> dict[str, np.ndarray]:
    """Values of reactions alone."""
    independent = likelihoods(of.marginal, said)
    return values(REACTION_METRICS, Whole(said, likelihoods(of, said), independent, second(of, said)))


TWO_MOODS = Reactions((Mood(0.6, {"😍": 0.5, "🔥": 0.5}), Mood(0.4, {"😂": 0.5, "💀": 0.5})), (0.2, 0.8))
SKEWED = Reactions(
    (Mood(0.7, {"😍": 0.6, "🔥": 0.3, "🐶": 0.1}), Mood(0.3, {"😂": 0.5, "💀": 0.3, "😍": 0.2})),
    (0.3, 0.4, 0.3),
)


@settings(deadline=None)
@given(seeds, st.permutations(range(V)), st.integers(1, V - 1))
def test_the_likelihood_of_each_emoji_is_that_of_all_that_could_come(seed: int, order: list[int], size: int):
    of, reaction = answers(seed), tuple(order[:size])
    expected = [-log(chance(of, reaction[:place], emoji)) for place, emoji in enumerate(reaction)]
    assert likelihoods(of, posted(reaction))[0] == pytest.approx(expected)


@settings(deadline=None, max_examples=20)
@given(seeds, st.integers(1, 3))
def test_all_reactions_of_a_size_have_a_probability_of_one_together(seed: int, size: int):
    nll = likelihoods(answers(seed), posted(*permutations(range(V), size)))
    assert np.exp(-nll.sum(1)).sum() == pytest.approx(1)


@given(seeds)
def test_reactions_of_any_size_are_measured_beside_each_other_as_alone(seed: int):
    of, several = answers(seed), [(3,), (0, 1, 2), (2, 4), (1,)]
    together = likelihoods(of, posted(*several)).sum(1)
    assert together == pytest.approx([likelihoods(of, posted(each)).sum() for each in several])


@settings(deadline=None)
@given(seeds)
def test_the_second_emoji_is_guessed_by_all_likelihoods(seed: int):
    of, said = answers(seed), posted(*permutations(range(V), 2))
    likely = second(of, said)
    found = of_one(of, said)
    for row, (first, next_one) in enumerate(said.emoji.tolist()):
        chances = {each: chance(of, (first,), each) for each in range(V) if each != first}
        rank = sorted(chances, key=lambda each: (-chances[each], each)).index(next_one)
        assert found["completion_top1"][row] == (rank < 1)
        assert found["completion_top5"][row]
        assert likely[row, first] == 0
        assert found["completion_nll"][row] == pytest.approx(-log(chances[next_one]))


def test_one_emoji_has_no_rest():
    of, said = answers(0), posted((1,), (1, 2), (0,))
    found = of_one(of, said)
    for key in ("completion_nll", "completion_top1", "completion_top5"):
        assert np.isnan(found[key]).tolist() == [True, False, True]
    assert not np.isnan(found["reaction_nll"]).any()


def test_completion_is_per_further_emoji():
    of, said = answers(1), posted((0, 1, 2))
    nll = likelihoods(of, said)
    found = of_one(of, said)
    assert found["completion_nll"] == pytest.approx([(nll[0, 1] + nll[0, 2]) / 2])
    assert found["reaction_nll"] == pytest.approx([nll.sum()])


@given(seeds)
def test_without_latents_nothing_is_gained(seed: int):
    found = judge(iter([answers(seed).marginal]), posted((0, 1, 2), (3,)), V)
    assert (found["reaction_gain"] == 0).all()
    assert "latent_information" not in found


@given(seeds)
def test_what_a_model_cannot_say_costs_no_infinity(seed: int):
    few = Answers.equal(answers(seed).q[..., :2] / answers(seed).q[..., :2].sum(-1, keepdims=True))
    found = judge(iter([few]), posted((0, 3, 4), (4, 0, 1)), V)
    assert np.isfinite(found["reaction_nll"]).all()
    spread = few.saying_all(V)
    assert spread.q.sum(-1) == pytest.approx(1) and spread.q.min() == pytest.approx(0.001 / V)


def test_a_latent_of_no_share_says_nothing():
    of, said = answers(2), posted((0, 1, 2))
    more = Answers(np.concatenate([of.q, np.eye(V)[None, :1]], 1), np.pad(of.share, ((0, 0), (0, 1))))
    assert likelihoods(more.saying_all(V), said) == pytest.approx(likelihoods(of.saying_all(V), said))
    assert latent_information(more) == pytest.approx(latent_information(of))


@given(seeds)
def test_the_information_of_the_latent_is_that_of_the_joint_distribution(seed: int):
    of = answers(seed, n=2)
    joint = of.share[..., None] * of.q  # [n, K, V]
    independent = joint.sum(2, keepdims=True) * joint.sum(1, keepdims=True)
    logs = np.log(joint, out=np.zeros_like(joint), where=joint > 0) - np.log(independent)
    assert latent_information(of) == pytest.approx((joint * logs).sum((1, 2)), abs=1e-12)


def test_latents_that_say_one_emoji_each_are_known_by_it():
    assert latent_information(Answers.equal(np.eye(V)[None])) == pytest.approx([log(V)])
    assert latent_information(Answers.equal(np.full((1, 4, V), 1 / V))) == pytest.approx([0])


@settings(deadline=None)
@given(seeds)
def test_pairs_are_compared_as_all_of_them_would_be(seed: int):
    of, pairs = answers(seed), Pairs.of(SKEWED, EMOJIS)
    assert pairs
    expected = np.zeros((V, V))
    for s, q in zip(of.share[0], of.q[0], strict=True):
        expected += s * np.outer(q, q)
    np.fill_diagonal(expected, 0)
    difference = np.abs(SKEWED.pairs(EMOJIS) - expected / expected.sum()).sum() / 2
    assert pair_tv(of.q[0], of.share[0], pairs) == pytest.approx(difference)


def test_pairs_that_the_truth_does_not_have_are_wrong():
    pairs = Pairs.of(TWO_MOODS, EMOJIS)
    assert pairs
    assert pair_tv(np.array([[0, 0, 0.5, 0, 0.5]]), np.ones(1), pairs) == pytest.approx(1)
    assert pair_tv(np.array([[0, 0, 0, 0, 1.0]]), np.ones(1), pairs) == pytest.approx(
        1
    )  # says no pair at all
    assert Pairs.of(Reactions(TWO_MOODS.moods, (1.0,)), EMOJIS) is None


def test_a_perfect_model_scores_the_floor_and_an_independent_one_its_limit():
    """Moods of equal chances: the moods themselves are without fault, and independence cannot be."""
    perfect = moods(TWO_MOODS, EMOJIS, most=3)
    said = of_world(TWO_MOODS, 4000, seed=0)
    floor, limit = (scores(each, TWO_MOODS, said) for each in (perfect, perfect.marginal))
    assert floor["pair_tv"] == pytest.approx(0, abs=1e-12)
    # p = (.3, .3, .2, .2): pairs within moods .18 and .08 of .74 that differ, and should be .6 and .4
    assert limit["pair_tv"] == pytest.approx(1 - (0.18 + 0.08) / 0.74)
    assert floor["completion_nll"] == pytest.approx(0, abs=0.01)
    assert floor["completion_top1"] == 1 and limit["completion_top1"] < 0.7
    assert floor["reaction_gain"] > 0.3 and limit["reaction_gain"] == 0
    assert floor["latent_information"] == pytest.approx(-0.6 * log(0.6) - 0.4 * log(0.4))

    rng = np.random.default_rng(1)
    drawn = perfect.q[
        :, rng.choice(3, 4000, p=perfect.share[0])
    ]  # latents of equal share, as a generator has
    sampled = scores(Answers.equal(drawn), TWO_MOODS, said)
    assert sampled["pair_tv"] == pytest.approx(floor["pair_tv"], abs=0.02)
    assert sampled["reaction_nll"] == pytest.approx(floor["reaction_nll"], abs=0.01)
    blind = scores(Answers.equal(np.repeat(perfect.marginal.q, 64, axis=1)), TWO_MOODS, said)
    assert blind == pytest.approx({**limit, "latent_information": 0}, abs=1e-9)


def test_no_model_passes_the_moods_by_more_than_what_draws_add():
    """A draw that is repeated is no emoji more, which no product of chances has exactly."""
    said = of_world(SKEWED, 2000, seed=2)
    best = scores(moods(SKEWED, EMOJIS, most=2), SKEWED, said)
    independent = Answers.equal(np.array([[[SKEWED.tuples()[each] for each in EMOJIS]]]))
    assert best["pair_tv"] < 0.05 < scores(independent, SKEWED, said)["pair_tv"]
    for seed in range(20):
        other = scores(answers(seed), SKEWED, said)
        assert other["reaction_nll"] > best["reaction_nll"] - 0.02
        assert other["pair_tv"] > best["pair_tv"]


def test_chunks_are_judged_as_the_whole():
    of = answers(5, n=7)
    rng = np.random.default_rng(0)
    said = Posted(np.array([0, 0, 2, 3, 6, 6]), np.stack([rng.permutation(V)[:3] for _ in range(6)]))
    whole = judge(iter([of]), said, V)
    parts = (Answers(of.q[a:b], of.share[a:b]) for a, b in ((0, 2), (2, 3), (3, 7)))
    chunked = judge(parts, said, V)
    assert whole.keys() == chunked.keys()
    for key in whole:
        np.testing.assert_allclose(whole[key], chunked[key])


def test_an_emoji_that_comes_again_is_counted_once():
    said = Posted.of(np.array([0, 0, 0, 4]), np.array([2, 1, 2, 3]), np.array([0, 0, 0, 1]))
    assert said.emoji.tolist() == [[2, 1], [3, -1]]
    assert said.image.tolist() == [0, 4] and said.count.tolist() == [2, 1]
    assert said.under(3, 9).image.tolist() == [1]


def test_scores_come_under_the_keys_of_the_table_and_in_its_order():
    found = scores(answers(0), SKEWED, posted((0, 1), (2,)))
    assert list(found) == [metric.key for metric in REACTION_METRICS]
    assert all(-inf < value < inf for value in found.values())
