"""Whether a version becomes the champion, and why.

Kept (what evaluate found) ──────────────────────────────► decide ─► Decision
compare: it beside the champion, on the same held-out posts ─┘

A model that is no champion is called a challenger. The first question that speaks against it is the answer;
what was not looked for, such as sensitive emojis, does not.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ...datasets.errors import InputError
from ..evaluation.bootstrap import Interval
from ..evaluation.compare import Compared
from ..evaluation.judge import METRIC, Judged
from ..evaluation.kept import Kept
from ..evaluation.metrics.metric import Metric

MARGINAL = "Marginal"
BEATS = ("nll", "energy_score")  # proper scores of single emojis, which every model has
BY_HAND = "`emojigan models promote` makes it the champion by hand"
CALIBRATION = "calibration_error"


@dataclass(frozen=True)
class Decision:
    """What is to be done with a version."""

    champion: bool
    why: str  # in words, as part of a sentence


def decide(kept: Kept, compare: Callable[[], Compared] | None) -> Decision:
    """Whether a model becomes the champion.

    Args:
        kept: its evaluation.
        compare: judges it beside the present champion, in this order; None where there is none.
    """
    if why := _not_beyond_marginal(kept):
        return Decision(False, why)
    if kept.harm:
        return Decision(False, f"{kept.harm}: when somebody has signed the page about them, {BY_HAND}")
    if compare is None:
        own, marginal = kept.scores[kept.own]["nll"], kept.scores[MARGINAL]["nll"]
        told = f"it is better than the marginal distribution ({METRIC['nll'].label} {own:.3f} beside"
        return Decision(True, f"{told} {marginal:.3f}), and there was no champion")
    try:
        return _beside_champion(compare())
    except InputError as error:
        return Decision(False, f"it cannot be judged beside the champion: {error}; {BY_HAND}")


def _not_beyond_marginal(kept: Kept) -> str | None:
    """Whether it is no better than ignoring the image, by either proper score."""
    own, marginal = kept.scores[kept.own], kept.scores.get(MARGINAL, {})
    for key in BEATS:
        if not (key in own and key in marginal and own[key] < marginal[key]):
            told = f"{METRIC[key].label} {_number(own.get(key))} beside {_number(marginal.get(key))}"
            return f"it is not better than the marginal distribution: {told}"
    return None


def _beside_champion(compared: Compared) -> Decision:
    own, champion = compared.models
    decides = compared.decides(champion)
    word, told = champion.beside[decides.key].word, _told(decides, own, champion)
    over = f", over the {compared.shared} emojis that both know" if compared.shared is not None else ""
    over += ", which may have learned from these posts" if champion.label in compared.elsewhere else ""
    if word == "worse":
        return Decision(False, told + over)
    if CALIBRATION in champion.beside and champion.beside[CALIBRATION].word == "worse":
        return Decision(False, f"{_told(METRIC[CALIBRATION], own, champion)}{over}; {told}")
    return Decision(True, told + over)


def _told(metric: Metric, own: Judged, champion: Judged) -> str:
    """How it is beside the champion in one metric, and by how much."""
    beside, theirs = champion.beside[metric.key], champion.scores[metric.key]
    told = f"{metric.label} {own.scores[metric.key]:.3f} beside the champion's {theirs:.3f}"
    difference = beside.difference
    if beside.word == "level":
        return f"{told}, level, for the difference is within [{difference.low:+.3f}, {difference.high:+.3f}]"
    low, high = sorted(abs(end) for end in (difference.low, difference.high))
    return f"{told}, {beside.word} by [{low:.3f}, {high:.3f}]"


def _number(score: float | None) -> str:
    return "unknown" if score is None else f"{score:.3f}"


def score_text(score: float, interval: Interval | None) -> str:
    """A score with its interval, as tags and cards have it."""
    return f"{score:.3f} [{interval.low:.3f}, {interval.high:.3f}]" if interval else f"{score:.3f}"
