"""Who becomes the champion: one who beats the marginal, and is not worse than the one before by interval."""

from dataclasses import replace

import pytest

from emojigan.datasets.errors import InputError
from emojigan.trainer.evaluation.bootstrap import Comparison, Interval
from emojigan.trainer.evaluation.compare import Compared
from emojigan.trainer.evaluation.judge import Judged
from emojigan.trainer.evaluation.kept import Kept
from emojigan.trainer.serving.gate import decide

LEVEL, WORSE, BETTER = (
    Comparison("level", Interval(-0.1, 0.2)),
    Comparison("worse", Interval(0.21, 0.37)),
    Comparison("better", Interval(-0.3, -0.1)),
)


def kept(nll: float = 1.0, energy: float = 1.0, harm: str | None = None) -> Kept:
    scores = {"EmojiGAN": {"nll": nll, "energy_score": energy}, "Marginal": {"nll": 2, "energy_score": 2}}
    return Kept("step-00000001", "digest", "manifest", scores, {}, {}, {}, {}, None, harm)


def compared(**beside: Comparison) -> Compared:
    """One of NLL 2.81 beside a champion of 2.52, and so in the other metrics."""
    ours, theirs = (Judged("", "", dict.fromkeys(beside, score), {}, {}) for score in (2.81, 2.52))
    return Compared((ours, replace(theirs, label="models:/m/1", beside=beside)), {}, "by account")


@pytest.mark.parametrize(
    ("nll", "energy", "champion"), [(1, 1, True), (3, 1, False), (1, 3, False), (2, 2, False)]
)
def test_a_champion_beats_the_marginal_in_both_proper_scores(nll: float, energy: float, champion: bool):
    assert decide(kept(nll, energy), None).champion is champion


def test_one_whose_score_is_no_number_is_none():
    """Such scores are left out of an evaluation."""
    without = replace(
        kept(), scores={"EmojiGAN": {"energy_score": 1.0}, "Marginal": kept().scores["Marginal"]}
    )
    assert "unknown beside 2.000" in decide(without, None).why


@pytest.mark.parametrize(
    ("beside", "champion"),
    [
        ({"nll": LEVEL}, True),
        ({"nll": BETTER}, True),
        ({"nll": WORSE}, False),
        ({"nll": BETTER, "reaction_nll": WORSE}, False),  # of whole reactions, where both have it
        ({"nll": WORSE, "reaction_nll": LEVEL}, True),
        ({"nll": BETTER, "calibration_error": WORSE}, False),
        ({"nll": LEVEL, "calibration_error": LEVEL, "frequency_error": WORSE}, True),
    ],
)
def test_it_is_not_worse_than_the_champion(beside: dict[str, Comparison], champion: bool):
    assert decide(kept(), lambda: compared(**beside)).champion is champion


def test_with_weights_single_emojis_decide():
    weighted = replace(compared(nll=WORSE, reaction_nll=BETTER), weighted=True)
    assert not decide(kept(), lambda: weighted).champion


def test_it_is_told_by_how_much():
    decision = decide(kept(), lambda: compared(reaction_nll=WORSE))
    assert decision.why == "NLL of a reaction 2.810 beside the champion's 2.520, worse by [0.210, 0.370]"
    told = decide(kept(), lambda: replace(compared(nll=BETTER), shared=7, elsewhere=("models:/m/1",))).why
    assert told.endswith(
        "better by [0.100, 0.300], over the 7 emojis that both know, which may have learned from these posts"
    )


def test_what_cannot_be_judged_beside_the_champion_does_not_follow_it():
    def refuse() -> Compared:
        raise InputError("they know other emojis")

    decision = decide(kept(), refuse)
    assert (
        not decision.champion
        and "beside the champion: they know other emojis; `emojigan models promote`" in decision.why
    )


@pytest.mark.parametrize(("harm", "champion"), [(None, True), ("", True), ("it says 🔫 more often", False)])
def test_it_says_nothing_sensitive_more_than_people_if_that_was_looked_at(harm: str | None, champion: bool):
    assert decide(kept(harm=harm), None).champion is champion
