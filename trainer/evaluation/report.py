"""An evaluation as one page for people, the paper's figures as pictures, and a table for the terminal.

Report (scores, Embedding, Bars, Examples, facts) ─┬─► report.html.j2 ─► index.html, self-contained
                                                   ├─► figures ─► fig2.png fig3.png fig4.png
                                                   └─► format_table ─► text
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...datasets.emojis.text import display, name
from ...datasets.store.atomic import replacing, write_atomic
from .figures import Bar, Embedding, Example, fig2, fig3, fig4
from .metrics import METRICS, NUM_SAMPLES, Metric

DPI = 150  # of the PNGs
ARROWS = {"lower": "↓", "higher": "↑", "one": "→1"}
FLOOR = "Truth itself"


@dataclass(frozen=True)
class Column:
    """One model of the table: its name (as in "the softmax classifier"), what it is, what `score` gave it."""

    label: str
    explanation: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """What an evaluation shows.

    Attributes:
        title: of the page.
        columns: the models; the one that the page is about first.
        floor: what the truth itself scores (`metrics.floor`), where it is known.
        embedding: for Fig. 2.
        histogram: for Fig. 3, most used first; the truth is known or counted.
        examples: for Fig. 4. Whoever gets the page gets these pictures and those of Fig. 2.
        facts: how to get here again, such as configuration, hashes and steps; shown as they are.
    """

    title: str
    columns: tuple[Column, ...]
    floor: Mapping[str, float] | None
    embedding: Embedding
    histogram: tuple[Bar, ...]
    examples: tuple[Example, ...]
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Cell:
    """A value as text; `best` if no other model's is better."""

    text: str
    best: bool


@dataclass(frozen=True)
class Row:
    """A metric, each model's value, and the truth's."""

    metric: Metric
    cells: tuple[Cell, ...]
    floor: str


def table(columns: Sequence[Column], floor: Mapping[str, float] | None) -> list[Row]:
    """A row for each metric that some model has. Values that read the same are equally good."""
    rows = []
    for metric in METRICS:
        values = [round(column.scores.get(metric.key, math.nan), 3) for column in columns]
        known = [metric.loss(value) for value in values if not math.isnan(value)]
        if known:
            cells = tuple(Cell(_number(value), metric.loss(value) == min(known)) for value in values)
            rows.append(Row(metric, cells, _number((floor or {}).get(metric.key, math.nan))))
    return rows


def format_table(columns: Sequence[Column], floor: Mapping[str, float] | None) -> str:
    """The table as aligned text: * marks the best of a row; ↓, ↑ and →1 say which way is better."""
    lines = [["", *(f"{column.label} " for column in columns), f"{FLOOR} "]]
    for row in table(columns, floor):
        cells = [cell.text + ("*" if cell.best else " ") for cell in row.cells]
        lines.append([f"{row.metric.label} {ARROWS[row.metric.better]}", *cells, f"{row.floor} "])
    if floor is None:
        lines = [line[:-1] for line in lines]
    label, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join([first.ljust(label), *map(str.rjust, values, widths)]).rstrip() for first, *values in lines
    )


def verdict(report: Report) -> str:
    """The result in one sentence."""
    first, *others = report.columns
    if report.floor:
        key, sentence = "tv", "{}’s distribution is at {:.2f} total variation from the truth"
    else:
        key, sentence = (
            "energy_score",
            "{}’s energy score on held-out images, where lower is better, is {:.2f}",
        )
    beside = [
        f"the {column.label[:1].lower() + column.label[1:]} at {column.scores[key]:.2f}" for column in others
    ]
    if report.floor:
        beside.append(f"{NUM_SAMPLES} samples of the truth itself at {report.floor['tv_50']:.2f}")
    sentence = sentence.format(first.label, first.scores[key])
    return "; ".join([sentence, ", ".join(beside)] if beside else [sentence]) + "."


def write_report(report: Report, folder: Path) -> Path:
    """Write fig2.png to fig4.png and index.html, which needs neither them nor a network. -> the page"""
    figures = {
        "fig2.png": fig2(report.embedding),
        "fig3.png": fig3(report.histogram),
        "fig4.png": fig4(report.examples),
    }
    for file, figure in figures.items():
        with replacing(folder / file) as temporary:
            figure.savefig(temporary, dpi=DPI, format="png")
    page = folder / "index.html"
    write_atomic(page, _render(report))
    return page


def _render(report: Report) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # captions and emojis are other people's
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"display": display, "emoji_name": name, "data_uri": _data_uri}
    return environment.get_template("report.html.j2").render(
        report=report,
        rows=table(report.columns, report.floor),
        verdict=verdict(report),
        arrows=ARROWS,
        floor_label=FLOOR,
        places=_on_canvas(report.embedding.points),
    )


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _data_uri(pixels: NDArray[np.uint8], side: int) -> str:
    """An image [H, W, 3], no side over `side` pixels, as the address of itself."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _on_canvas(points: NDArray[np.float64]) -> list[list[float]]:
    """Points [n, 2] filling a square of side 1000, y downwards as in SVG; t-SNE's distances mean nothing."""
    low, high = points.min(0), points.max(0)
    x, y = (1000 * (points - low) / np.maximum(high - low, 1e-9)).T
    return np.stack([x, 1000 - y], axis=1).tolist()
