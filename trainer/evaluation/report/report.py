"""An evaluation as one page for people, the paper's figures as pictures, and a table for the terminal.

Evaluation ─► make_report ─► Report (scores, Embedding, Bars, Examples, facts)
                                ├─► report.html.j2 ─► index.html, self-contained
                                ├─► figures ─► fig2.png fig3.png fig4.png
                                └─► format_tables ─► text
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from ....datasets.pages.page import render
from ....datasets.store.atomic import replacing, write_atomic
from ...run import CONFIG, METRICS_FILE, read_beginning, read_start
from ...tracking.about import how_started
from ..evaluate import Evaluation
from ..judge import Judged
from ..metrics.by_emoji import OfEmoji, by_emoji
from ..metrics.calibration import Reliability, reliability
from ..metrics.divergences import total_variation
from ..metrics.proper_scores import negative_log_likelihood
from ..metrics.reactions import REACTION_METRICS
from ..metrics.scene import Scene, tuples_of_some
from ..metrics.table import METRICS
from ..readings import Readings
from .chart import line, on_log_axis, places, reliability_points, ticks
from .figures import Bar, Embedding, Example, apart, fig2, fig3, fig4, largest, tsne
from .harm import PAGE
from .tables import ARROWS, TRUTH, format_table, how_to_read, in_sentence, of_trainings, standings, table
from .training import Curve, read_curves

DPI = 150  # of the PNGs
NUM_BARS = 30  # emojis of the paper's Fig. 3
NUM_EXAMPLES = 8
TOP = 10  # emojis of an example,
MISSED, MODE = 3, 0.05  # and of those that it has not, so many at most of which people write so much
TICKS = (0.0001, 0.001, 0.01, 0.1, 1)  # of the axes of the reliability curve
NUM_WORST = 6  # pictures
NUM_ERRORS = 20  # emojis


@dataclass(frozen=True)
class EmojiError:
    """An emoji, and how the first model does on it."""

    emoji: str
    found: OfEmoji


@dataclass(frozen=True)
class Report:
    """What an evaluation shows.

    Attributes:
        title: of the page.
        models: the one that the page is about first.
        floor: the least that can be expected: what the truth itself scores, where it is known.
        embedding: for Fig. 2.
        histogram: for Fig. 3, most used first; the truth is known or counted.
        examples: for Fig. 4. Whoever gets the page gets these pictures, those of Fig. 2 and the worst.
        worst: the pictures that the first model knows least of, with how far off it is.
        errors: the emojis that it errs most on.
        curves: how its training went.
        facts: how to get here again, such as configuration, hashes and steps; shown as they are.
        reliability: of all probabilities that the first model told.
        held_out: how much the models are judged on.
        split: how train and test were parted, and what that makes of the scores.
        about_reactions: what is measured of whole reactions, and what cannot be.
        readings: of some images; None where the model has none.
        harm: the name of the page about sensitive emojis; empty where there is none.
    """

    title: str
    models: tuple[Judged, ...]
    floor: Mapping[str, float]
    embedding: Embedding
    histogram: tuple[Bar, ...]
    examples: tuple[Example, ...]
    worst: tuple[Example, ...]
    errors: tuple[EmojiError, ...]
    curves: tuple[Curve, ...]
    facts: Mapping[str, str]
    reliability: Reliability
    held_out: str
    split: str
    about_reactions: str
    readings: Readings | None = None
    harm: str = ""

    @property
    def has_truth(self) -> bool:
        """Whether it is known."""
        return "tv" in self.floor


def make_report(evaluation: Evaluation, run: Path) -> Report:
    """What to show of the evaluation of a run."""
    scene = evaluation.scene
    return Report(
        title="EmojiGAN: what would people react with?",
        models=evaluation.models,
        floor=evaluation.floor,
        embedding=_embedding(evaluation),
        histogram=_histogram(evaluation.q, scene),
        examples=_examples(evaluation.q, scene),
        worst=_worst(evaluation.q, scene),
        errors=_errors(evaluation.q, scene),
        curves=read_curves(run / METRICS_FILE),
        facts=_facts(evaluation, run),
        reliability=reliability(evaluation.q, scene.observed),
        held_out=held_out_text(scene),
        split=evaluation.split,
        about_reactions=evaluation.about_reactions,
        readings=evaluation.readings,
        harm=PAGE if evaluation.harm else "",
    )


def _facts(evaluation: Evaluation, run: Path) -> dict[str, str]:
    """What was judged, and how to come here again."""
    scene, facts, (_, shards, vectors) = evaluation.scene, evaluation.facts, read_beginning(run)
    best = "the best on the val split" if facts.scores else "the last: the val split is forgotten"
    told = f"; it {evaluation.forgotten.told}, and what is left is shown" if evaluation.forgotten else ""
    again = ["emojigan", "train", shards, "--vectors", vectors, "--config", run / CONFIG, "--out", "NEW"]
    return {
        "run": run.name,
        "snapshot": f"step {facts.step:,}, {best}",
        "held out": held_out_text(scene) + unsayable_text(scene, facts.vocabulary),
        "dataset": facts.dataset + told,
        "vectors": facts.vectors,
        "seed": str(evaluation.config.optimizer.seed),
        "trained": _told(read_start(run)),
        "judged": _told(how_started()),
        "to train it again": shlex.join(map(str, again)),
        "config": yaml.safe_dump(
            evaluation.config.model_dump(), default_flow_style=True, width=1000, allow_unicode=True
        ).strip(),
    }


def _told(start: Mapping[str, str]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in start.items() if name != "command")
    return f"{start['command']} ({versions})" if "command" in start else "by a version that did not note how"


def held_out_text(scene: Scene) -> str:
    """How much the models are judged on."""
    return (
        f"{len(scene.held_out.images):,} images, {len(scene.support)} emojis, {len(scene.observed):,} tuples"
    )


def unsayable_text(scene: Scene, vocabulary: Sequence[str]) -> str:
    """How much of it no model can get right; empty where there is nothing."""
    number = sum(emoji not in vocabulary for emoji in scene.held_out.emojis)
    if not number:
        return ""
    return (
        f"; {number:,} of them with an emoji too rare for the vocabulary, without a vector or denied: no "
        "model can say it, and `shards stats` counts the rare as outside"
    )


def _embedding(evaluation: Evaluation) -> Embedding:
    """Fig. 2: images by the features of the generator's trunk, each with its likeliest emoji."""
    scene, shown = evaluation.scene, len(evaluation.features)
    _, first = np.unique(scene.held_out.image, return_index=True)  # a tuple of each image
    likeliest = evaluation.q[first[:shown]].argmax(axis=1)
    return Embedding(
        points=apart(tsne(evaluation.features)),
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


def _worst(q: np.ndarray, scene: Scene) -> tuple[Example, ...]:
    """The images that the model knows least of; of those that show the same only one, where that is known.

    By the total variation from the truth, or where that is not known by the surprise at what was posted.
    """
    first = scene.first_tuple
    if scene.truth is not None:
        off, told = total_variation(q[first], scene.truth[first]), "total variation"
    else:
        surprise, image = negative_log_likelihood(q, scene.observed), scene.held_out.image
        off, told = np.bincount(image, surprise) / np.bincount(image), "surprise in nats"
    order = np.argsort(-off, kind="stable")
    if scene.groups is not None:
        order = order[np.sort(np.unique(scene.groups[first][order], return_index=True)[1])]
    found = []
    for image in order[:NUM_WORST].tolist():
        row = int(first[image])
        example = _example(q[row], row, scene)
        found.append(replace(example, caption=f"{example.caption}: {told} {off[image]:.2f}"))
    return tuple(found)


def _errors(q: np.ndarray, scene: Scene) -> tuple[EmojiError, ...]:
    """The emojis that the model errs most on."""
    return tuple(EmojiError(scene.support[each.emoji], each) for each in by_emoji(scene.said(q))[:NUM_ERRORS])


def _example(q: np.ndarray, row: int, scene: Scene) -> Example:
    image = scene.held_out.image[row]
    truth = None if scene.truth is None else scene.truth[row]
    posted = np.flatnonzero(scene.held_out.image == image)
    likeliest = np.argsort(-q, kind="stable")[:TOP].tolist()
    if truth is not None:
        missed = [e for e in np.argsort(-truth, kind="stable").tolist() if e not in likeliest]
        likeliest += [e for e in missed[:MISSED] if truth[e] >= MODE]
    return Example(
        image=scene.held_out.images[image].permute(1, 2, 0).numpy(),
        caption=f"post {scene.held_out.posts[image]}",
        observed=tuple(scene.held_out.emojis[n] for n in posted),
        bars=tuple(
            Bar(scene.support[e], float(q[e]), None if truth is None else float(truth[e])) for e in likeliest
        ),
    )


def format_tables(report: Report) -> str:
    """The tables of tuples and of reactions as aligned text, how to read them, and what they come to."""
    parts = [format_table(table(METRICS, report.models, report.floor))]
    reactions = table(REACTION_METRICS, report.models, report.floor)
    if reactions.rows:
        parts.append(format_table(reactions))
    told = "\n".join(standings(report.models))
    return "\n\n".join([*parts, _how_to_read(report), report.about_reactions, *([told] if told else [])])


def _how_to_read(report: Report) -> str:
    return f"{how_to_read(report.models)} {of_trainings(report.models)}"


def verdict(report: Report) -> str:
    """The result in a sentence: how far off each model is, on how much, and about whom."""
    first, *others = (model for model in report.models if "nll" in model.scores)
    if report.has_truth:
        key, start = "tv", "Total variation from the truth, where 0 is the truth itself"
    else:
        key, start = "energy_score", "Energy score on held-out images, where lower is better"
    values = [f"{in_sentence(each.label)} {each.scores[key]:.2f}" for each in (first, *others)]
    return f"{start}: {', '.join(values)}; on {report.held_out}. Split {report.split}."


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
    points, unit = places(report.embedding.points)
    return render(
        Path(__file__).with_name("report.html.j2"),
        report=report,
        scores=table(METRICS, report.models, report.floor),
        reactions=table(REACTION_METRICS, report.models, report.floor),
        how_to_read=_how_to_read(report),
        verdict=verdict(report),
        standings=standings(report.models),
        arrows=ARROWS,
        truth_label=TRUTH,
        points=points,
        size=0.92 * unit,
        curve=reliability_points(report.reliability),
        ticks=[(on_log_axis(p), f"{p:g}") for p in TICKS],
        axis=ticks(max(max(bar.fitted, bar.true or 0) for bar in report.histogram)),
        lines=[line(each.step, each.value) for each in report.curves],
        readings=report.readings,
        largest=largest(report.examples),
    )
