"""The truth about whole reactions is what enumeration says, and what is drawn is distributed so."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from emojigan.datasets.errors import InputError
from emojigan.datasets.worlds.reactions import Mood, Reactions

EMOJIS = "😍🔥😂💀🐶"


def shares(number: int) -> st.SearchStrategy[list[float]]:
    counts = st.lists(st.integers(1, 20), min_size=number, max_size=number)
    return counts.map(lambda each: [count / sum(each) for count in each])


@st.composite
def reactions(draw: st.DrawFn) -> Reactions:
    moods = []
    for share in draw(st.integers(1, 3).flatmap(shares)):
        said = draw(st.lists(st.sampled_from(EMOJIS), min_size=1, max_size=4, unique=True))
        moods.append(Mood(share, dict(zip(said, draw(shares(len(said))), strict=True))))
    return Reactions(tuple(moods), tuple(draw(st.integers(1, 3).flatmap(shares))))


def enumerated(of: Reactions) -> dict[frozenset[str], float]:
    """Every reaction with its probability, by all sequences of draws."""
    found: Counter = Counter()
    for mood in of.moods:
        for number, share in enumerate(of.draws, start=1):
            for sequence in product(mood.p, repeat=number):
                p = np.prod([mood.p[emoji] for emoji in sequence])
                found[frozenset(sequence)] += mood.share * share * p
    return found


@settings(deadline=None)
@given(reactions())
def test_the_probability_of_a_reaction_is_that_of_all_its_sequences(of: Reactions):
    for reaction, p in enumerated(of).items():
        assert of.probability(reaction) == pytest.approx(p, abs=1e-12)


@settings(deadline=None)
@given(reactions())
def test_tuples_and_pairs_are_those_of_all_reactions(of: Reactions):
    tuples, pairs = Counter(), np.zeros((len(EMOJIS), len(EMOJIS)))
    for reaction, p in enumerated(of).items():
        for emoji in reaction:
            tuples[emoji] += p
            for other in reaction - {emoji}:
                pairs[EMOJIS.index(emoji), EMOJIS.index(other)] += p
    found = of.tuples()
    assert found.keys() == tuples.keys()
    for emoji, p in found.items():
        assert p == pytest.approx(tuples[emoji] / tuples.total(), abs=1e-12)
    np.testing.assert_allclose(of.pairs(EMOJIS), pairs / (pairs.sum() or 1), atol=1e-9)


def test_what_is_drawn_is_distributed_as_the_truth():
    of = Reactions((Mood(0.7, {"😍": 0.75, "🔥": 0.25}), Mood(0.3, {"😂": 0.5, "💀": 0.5})), (0.4, 0.6))
    rng = np.random.default_rng(0)
    counts = Counter(frozenset(of.draw(rng)) for _ in range(20_000))
    expected = enumerated(of)
    assert counts.keys() == expected.keys()
    observed, wanted = zip(*((counts[each], 20_000 * p) for each, p in expected.items()), strict=True)
    assert chisquare(observed, wanted).pvalue > 1e-4


def test_of_an_independent_picture_pairs_say_no_more_than_emojis():
    """But that an emoji is not in a pair with itself."""
    p = {emoji: 1 / len(EMOJIS) for emoji in EMOJIS}
    pairs = Reactions((Mood(1, p),), (0.0, 1.0)).pairs(EMOJIS)
    equal = (1 - np.eye(len(EMOJIS))) / (len(EMOJIS) * (len(EMOJIS) - 1))
    np.testing.assert_allclose(pairs, equal)


@settings(deadline=None)
@given(reactions())
def test_a_file_gives_back_what_was_written(of: Reactions):
    assert Reactions.from_json(of.to_json()) == of


def test_a_damaged_file_is_refused():
    with pytest.raises(InputError):
        Reactions.from_json({"moods": [{"share": 1}], "draws": [1]})


def test_without_some_emojis_the_others_keep_their_ratios():
    of = Reactions((Mood(1, {"😍": 0.5, "🔥": 0.3, "😂": 0.2}),), (1.0,))
    assert of.without({"🔥"}).moods[0].p == pytest.approx({"😍": 5 / 7, "😂": 2 / 7})
