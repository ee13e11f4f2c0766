"""The classifier times co-occurrence: what is counted, and what is made of it."""

from itertools import combinations, permutations
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojigan.datasets.store.folder import LocalFolder
from emojigan.trainer.config import Config
from emojigan.trainer.evaluation.baselines.classifier import classify
from emojigan.trainer.evaluation.baselines.cooccurrence import (
    chain,
    choose_lift,
    count_pairs,
    judge_chain,
    lift,
)
from emojigan.trainer.evaluation.metrics.reactions import Answers, Posted, likelihoods, second
from emojigan.trainer.inputs import Inputs, read_inputs
from emojigan.trainer.model.networks import Classifier
from emojigan.trainer.validation import read_val

V = 5
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture
def inputs(shards: Path, vectors_file: Path) -> Inputs:
    return read_inputs(Config(), LocalFolder(shards), vectors_file)


def posted(size: int) -> Posted:
    """All reactions of some emojis, under one image."""
    table = np.array([*permutations(range(V), size)])
    return Posted(np.zeros(len(table), int), table)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A distribution [1, V], and lifts [V, V]."""
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, 50, (V, V)).astype(float)
    pairs += pairs.T
    np.fill_diagonal(pairs, 0)
    return rng.dirichlet(np.full(V, 0.5), 1) + 1e-9, lift(pairs, 1.0)


def test_pairs_are_those_of_the_posts_of_the_train_split(inputs: Inputs):
    expected = np.zeros((len(inputs.vocabulary),) * 2)
    for number in range(len(inputs.train.shards)):
        for _, label in inputs.train.read_index(number).samples():
            for post in (label, *label.reposts):
                for one, other in combinations(map(inputs.vocabulary.index, post.emojis), 2):
                    expected[one, other] += 1
                    expected[other, one] += 1
    assert expected.sum() > 100
    np.testing.assert_array_equal(count_pairs(inputs), expected)


def test_the_lift_by_hand():
    pairs = np.array([[0.0, 6, 2], [6, 0, 0], [2, 0, 0]])  # 16 in all; shares .5, .375, .125
    assert lift(pairs, 1)[0, 1] == pytest.approx((6 + 1) / (16 * 0.5 * 0.375 + 1))
    assert lift(pairs, 1)[1, 2] == pytest.approx(1 / (16 * 0.375 * 0.125 + 1))
    assert lift(pairs, 1e9) == pytest.approx(np.ones((3, 3)))
    assert (lift(np.zeros((3, 3)), 0.1) == 1).all()


@settings(deadline=None)
@given(seeds, st.integers(1, 3))
def test_a_chain_is_the_classifier_times_the_mean_lift(seed: int, size: int):
    q, lifts = drawn(seed)
    said = posted(size)
    nll, _ = chain(q, lifts, said)
    for row, reaction in enumerate(said.emoji.tolist()):
        assert nll[row, 0] == pytest.approx(-log(q[0, reaction[0]]))
        for place in range(1, size):
            before = reaction[:place]
            chances = {e: q[0, e] * lifts[before, e].mean() for e in range(V) if e not in before}
            expected = -log(chances[reaction[place]] / sum(chances.values()))
            assert nll[row, place] == pytest.approx(expected)
    assert np.exp(-nll.sum(1)).sum() == pytest.approx(1)


@settings(deadline=None)
@given(seeds, st.integers(1, 3))
def test_where_nothing_comes_together_it_is_the_classifier(seed: int, size: int):
    q, _ = drawn(seed)
    said, alone = posted(size), Answers.equal(q[:, None] / q.sum())
    nll, likely = chain(alone.q[:, 0], np.ones((V, V)), said)
    assert nll == pytest.approx(likelihoods(alone, said))
    of_alone = second(alone, said)
    assert likely / likely.sum(1, keepdims=True) == pytest.approx(of_alone / of_alone.sum(1, keepdims=True))


def test_emojis_of_no_vocabulary_and_reactions_of_several_sizes_are_judged():
    q, lifts = drawn(0)
    emoji = np.array([[0, 6, 1], [2, -1, -1], [3, 4, -1]])
    found = judge_chain(np.repeat(q / q.sum(), 300, axis=0), lifts, Posted(np.array([0, 0, 299]), emoji), 7)
    assert all(each.shape == (3,) for each in found.values())
    assert np.isfinite(found["reaction_nll"]).all()
    assert np.isnan(found["completion_nll"]).tolist() == [False, True, False]
    assert found["reaction_gain"][1] == 0


def test_the_val_split_chooses_the_smoothing(inputs: Inputs):
    pairs = count_pairs(inputs)
    classifier = Classifier(Config().model, len(inputs.vocabulary), 64).eval()
    held_out = read_val(inputs)
    assert held_out
    position = np.array([inputs.vocabulary.index(each) for each in held_out.emojis])
    said = Posted.of(held_out.image, position, held_out.reaction)
    q = classify(classifier, held_out.images)

    def loss(lifts: np.ndarray) -> float:
        return judge_chain(q, lifts, said, len(pairs))["reaction_nll"].mean()

    chosen = choose_lift(pairs, classifier, held_out, inputs)
    for smoothing in (0.1, 1.0, 1000.0):
        assert loss(chosen) <= loss(lift(pairs, smoothing)) + 1e-12
    assert (choose_lift(pairs, classifier, None, inputs) == lift(pairs, 0.1)).all()
