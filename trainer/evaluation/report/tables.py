"""Scores as tables, and in words: how a model is beside others.

models judged alike ─┬► table ─► Table ─► format_table, or a page
                     └► standings, how_to_read
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..bootstrap import Interval
from ..judge import Judged
from ..metrics.metric import Metric
from ..metrics.reactions import REACTION_METRICS
from ..metrics.table import METRICS

ARROWS = {"lower": "↓", "higher": "↑", "one": "→1"}
TRUTH, AGAIN = "Truth itself", "Posts drawn again"  # what stands in the column of the floor


@dataclass(frozen=True)
class Cell:
    """Of one model in one metric, as text: its value, its interval, and how the first model is beside it."""

    value: str
    interval: str
    word: str
    seeds: str  # mean and standard deviation over trainings; empty where there is one


@dataclass(frozen=True)
class Row:
    """A metric, a cell for each model, and its floor as text."""

    metric: Metric
    cells: tuple[Cell, ...]
    floor: str


@dataclass(frozen=True)
class Table:
    """Some metrics of the models that have any of them; the first model always stands first."""

    models: tuple[Judged, ...]
    rows: tuple[Row, ...]
    floor: str  # what that is of; empty where none is known


def table(metrics: Sequence[Metric], models: Sequence[Judged], floor: Mapping[str, float]) -> Table:
    """A row for each of some metrics that a model has."""
    known = [metric for metric in metrics if any(metric.key in model.scores for model in models)]
    first, *others = models
    shown = (first, *(each for each in others if any(metric.key in each.scores for metric in known)))
    rows = tuple(
        Row(metric, tuple(_cell(metric, each) for each in shown), _number(floor.get(metric.key, math.nan)))
        for metric in known
    )
    told = TRUTH if "tv" in floor else AGAIN
    return Table(shown, rows, told if any(metric.key in floor for metric in known) else "")


def _cell(metric: Metric, model: Judged) -> Cell:
    interval, beside = model.intervals.get(metric.key), model.beside.get(metric.key)
    return Cell(
        _number(model.scores.get(metric.key, math.nan)),
        _interval(interval) if interval else "",
        beside.word if beside else "",
        _spread(model.seeds[metric.key]) if metric.key in model.seeds else "",
    )


def _spread(scores: Sequence[float]) -> str:
    return f"{_number(float(np.mean(scores)))} ± {_number(float(np.std(scores, ddof=1)))}"


def _interval(interval: Interval) -> str:
    return f"[{_number(interval.low)}, {_number(interval.high)}]"


def format_table(table: Table) -> str:
    """A table as aligned text: ↓, ↑ and →1 say which way is better."""
    first, *others = (model.label for model in table.models)
    lines = [["", first, "", "", *others, table.floor]]
    for row in table.rows:
        own, *cells = row.cells
        values = [f"{cell.value} {cell.word}".rstrip() for cell in cells]
        label = f"{row.metric.label} {ARROWS[row.metric.better]}"
        lines.append([label, own.value, own.interval, own.seeds, *values, row.floor])
    unused = [3] * (not any(row.cells[0].seeds for row in table.rows)) + [-1] * (not table.floor)
    for line in lines:
        for column in sorted(unused):
            del line[column]
    label, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join([first.ljust(label), *map(str.rjust, values, widths)]).rstrip() for first, *values in lines
    )


def how_to_read(models: Sequence[Judged]) -> str:
    """What intervals and words mean."""
    own, *others = models
    told = "In brackets: the 95 % interval, posts drawn again 1,000 times."
    if others:
        told += (
            f" The word at another model's score says what {own.label} is beside it: better or worse if the "
            "95 % interval of their difference leaves 0 out, else level."
        )
    return told


def of_trainings(models: Sequence[Judged]) -> str:
    """Of how many trainings the scores of the first model are."""
    number = max(map(len, models[0].seeds.values()), default=1)
    if number == 1:
        return "All is of this one training."
    few = " Two tell little of that: with three much more is told apart." if number == 2 else ""
    return (
        f"With ±: mean and standard deviation of {number} trainings that differ in the seed alone. How far "
        f"they are apart counts in the words, too.{few}"
    )


def standings(models: Sequence[Judged]) -> Iterator[str]:
    """How the first model is beside each other one, by the words of its metrics."""
    for model in models[1:]:
        kinds = [
            told
            for kind, metrics in (("single emojis", METRICS), ("whole reactions", REACTION_METRICS))
            if (told := _standing(kind, [model.beside[m.key].word for m in metrics if m.key in model.beside]))
        ]
        if kinds:
            yield f"Beside the {in_sentence(model.label)}: {'; '.join(kinds)}."


def _standing(kind: str, words: Sequence[str]) -> str:
    """Such as "single emojis better on 2 of 16 metrics, worse on 6, level on 8"; empty without metrics."""
    if not words:
        return ""
    numbers = {word: words.count(word) for word in ("better", "worse", "level")}
    told = [f"{word} on {number}" for word, number in numbers.items() if number]
    told[0] += f" of {len(words)} metrics"
    return f"{kind} {', '.join(told)}"


def in_sentence(label: str) -> str:
    """A label inside a sentence; a name such as EmojiGAN stays as it is."""
    return label if label[1:] != label[1:].lower() else label.lower()


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{round(value, 3) + 0.0:.3f}"  # never -0.000
