"""An evaluation as one page for people, the paper's figures as pictures, and a table for the terminal.

Evaluation ─► make_report ─► Report (scores, Embedding, Bars, Examples, facts)
                                ├─► report.html.j2 ─► index.html, self-contained
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
import yaml
from numpy.typing import NDArray
from PIL import Image

from ...datasets.emojis.text import display, name
from ...datasets.store.atomic import replacing, write_atomic
from .evaluate import Evaluation
from .figures import Bar, Embedding, Example, fig2, fig3, fig4, tsne
from .metrics import METRICS, Metric
from .readings import Readings
from .scene import Scene, tuples_of_some

DPI = 150  # of the PNGs
ARROWS = {"lower": "↓", "higher": "↑", "one": "→1"}
FLOOR = "Truth itself"
NUM_BARS = 30  # emojis of the paper's Fig. 3
NUM_EXAMPLES = 8
TOP = 10  # emojis of an example


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
        split: how train and test were parted, and what that makes of the scores.
        readings: of some images; None where the model has none.
    """

    title: str
    columns: tuple[Column, ...]
    floor: Mapping[str, float] | None
    embedding: Embedding
    histogram: tuple[Bar, ...]
    examples: tuple[Example, ...]
    facts: Mapping[str, str]
    split: str
    readings: Readings | None = None


@dataclass(frozen=True)
class Row:
    """A metric, each model's value as text, and the truth's."""

    metric: Metric
    values: tuple[str, ...]
    floor: str


def make_report(evaluation: Evaluation, run: str) -> Report:
    """What to show of the evaluation of a run, given by its name."""
    scene, facts = evaluation.scene, evaluation.facts
    return Report(
        title="EmojiGAN: what would people react with?",
        columns=tuple(Column(each.label, each.explanation, each.scores) for each in evaluation.models),
        floor=evaluation.floor,
        embedding=_embedding(evaluation),
        histogram=_histogram(evaluation.models[0].q, scene),
        examples=_examples(evaluation.models[0].q, scene),
        facts={
            "run": run,
            "snapshot": f"step {facts.step:,}, "
            + ("the best on the val split" if facts.scores else "the last: the val split is forgotten"),
            "held out": held_out_text(scene, facts.vocabulary),
            "dataset": facts.dataset
            + (
                f"; it {evaluation.forgotten.told}, and what is left is shown" if evaluation.forgotten else ""
            ),
            "vectors": facts.vectors,
            "config": yaml.safe_dump(
                evaluation.config.model_dump(), default_flow_style=True, width=1000
            ).strip(),
        },
        split=evaluation.split,
        readings=evaluation.readings,
    )


def held_out_text(scene: Scene, vocabulary: Sequence[str]) -> str:
    """How much the models are judged on, and what they cannot get right."""
    told = (
        f"{len(scene.held_out.images):,} images, {len(scene.support)} emojis, {len(scene.observed):,} tuples"
    )
    unsayable = sum(emoji not in vocabulary for emoji in scene.held_out.emojis)
    if unsayable:
        told += (
            f"; {unsayable:,} of them with an emoji too rare for the vocabulary, or without a vector: no "
            "model can say it, and `shards stats` counts the rare as outside"
        )
    return told


def _embedding(evaluation: Evaluation) -> Embedding:
    """Fig. 2: images by the features of the generator's trunk, each with its likeliest emoji."""
    scene, shown = evaluation.scene, len(evaluation.features)
    _, first = np.unique(scene.held_out.image, return_index=True)  # a tuple of each image
    likeliest = evaluation.models[0].q[first[:shown]].argmax(axis=1)
    return Embedding(
        points=tsne(evaluation.features),
        images=scene.held_out.images[:shown].permute(0, 2, 3, 1).numpy(),
        emojis=tuple(scene.support[emoji] for emoji in likeliest),
    )


def _histogram(q: np.ndarray, scene: Scene) -> tuple[Bar, ...]:
    """Fig. 3: the most used emojis, their true share (or counted, where no truth is known) and the fitted."""
    size = len(scene.support)
    counted = np.bincount(scene.observed, minlength=size) / len(scene.observed)
    true = counted if scene.truth is None else scene.truth.mean(axis=0)
    fitted = q.mean(axis=0)
    most_used = np.argsort(-true, kind="stable")[:NUM_BARS].tolist()
    return tuple(Bar(scene.support[e], float(fitted[e]), float(true[e])) for e in most_used)


def _examples(q: np.ndarray, scene: Scene) -> tuple[Example, ...]:
    """Fig. 4: the likeliest emojis of some images."""
    return tuple(_example(q[row], row, scene) for row in tuples_of_some(scene, NUM_EXAMPLES).tolist())


def _example(q: np.ndarray, row: int, scene: Scene) -> Example:
    image = scene.held_out.image[row]
    truth = None if scene.truth is None else scene.truth[row]
    posted = np.flatnonzero(scene.held_out.image == image)
    likeliest = np.argsort(-q, kind="stable")[:TOP].tolist()
    return Example(
        image=scene.held_out.images[image].permute(1, 2, 0).numpy(),
        caption=f"post {scene.held_out.posts[image]}",
        observed=tuple(scene.held_out.emojis[n] for n in posted),
        bars=tuple(
            Bar(scene.support[e], float(q[e]), None if truth is None else float(truth[e])) for e in likeliest
        ),
    )


def table(columns: Sequence[Column], floor: Mapping[str, float] | None) -> list[Row]:
    """A row for each metric that some model has."""
    rows = []
    for metric in METRICS:
        values = [column.scores.get(metric.key, math.nan) for column in columns]
        if not all(map(math.isnan, values)):
            true = (floor or {}).get(metric.key, math.nan)
            rows.append(Row(metric, tuple(map(_number, values)), _number(true)))
    return rows


def format_table(columns: Sequence[Column], floor: Mapping[str, float] | None) -> str:
    """The table as aligned text: ↓, ↑ and →1 say which way is better."""
    lines = [["", *(column.label for column in columns), FLOOR]]
    for row in table(columns, floor):
        lines.append([f"{row.metric.label} {ARROWS[row.metric.better]}", *row.values, row.floor])
    if floor is None:
        lines = [line[:-1] for line in lines]
    label, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join([first.ljust(label), *map(str.rjust, values, widths)]).rstrip() for first, *values in lines
    )


def verdict(report: Report) -> str:
    """The result in words: how far off each model is, how often the first is better, and about whom."""
    first, *others = report.columns
    if report.floor:
        key, start = "tv", "Total variation from the truth, where 0 is the truth itself"
    else:
        key, start = "energy_score", "Energy score on held-out images, where lower is better"
    values = [f"{_in_sentence(each.label)} {each.scores[key]:.2f}" for each in report.columns]
    sentences = f"{start}: {', '.join(values)}."
    if others:
        beside = []
        for other in others:
            wins, losses, count = _compare(first, other)
            beside.append(
                f"better than the {_in_sentence(other.label)} on {wins} of {count} metrics, worse on {losses}"
            )
        sentences += f" {first.label} is {'; '.join(beside)}. One seed, no intervals: the small may be noise."
    return f"{sentences} Split {report.split}."


def _compare(one: Column, other: Column) -> tuple[int, int, int]:
    """On how many metrics a model is better than another, and worse, as the table shows them; of how many."""
    differences = [
        round(metric.loss(one.scores[metric.key]) - metric.loss(other.scores[metric.key]), 3)
        for metric in METRICS
        if metric.key in one.scores and metric.key in other.scores
    ]
    return sum(each < 0 for each in differences), sum(each > 0 for each in differences), len(differences)


def _in_sentence(label: str) -> str:
    """A label inside a sentence; a name such as EmojiGAN stays as it is."""
    return label if label[1:] != label[1:].lower() else label.lower()


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
        points=_on_canvas(report.embedding.points),
        readings=report.readings,
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
