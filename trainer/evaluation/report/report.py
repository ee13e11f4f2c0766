"""An evaluation as one page for people, the paper's figures as pictures, and a table for the terminal.

Evaluation ─► make_report ─► Report (scores, Embedding, Bars, Examples, facts)
                                ├─► report.html.j2 ─► index.html, self-contained
                                ├─► figures ─► fig2.png fig3.png fig4.png
                                └─► format_tables ─► text
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from ....datasets.pages.page import render
from ....datasets.store.atomic import replacing, write_atomic
from ...run import HARM_PAGE, METRICS_FILE, read_beginning, read_start, to_train_again
from ...tracking.about import how_started
from ..evaluate import Evaluation
from ..judge import Judged
from ..metrics.calibration import Reliability, reliability
from ..metrics.reactions import REACTION_METRICS
from ..metrics.scene import Scene
from ..metrics.table import METRICS
from ..readings import Readings
from .chart import TICKS, line, on_log_axis, places, reliability_points, ticks
from .examples import EmojiError, errors, some, worst
from .figures import Bar, Embedding, Example, apart, fig2, fig3, fig4, largest, tsne
from .tables import ARROWS, TRUTH, format_table, how_to_read, in_sentence, of_trainings, standings, table
from .training import Curve, read_curves

DPI = 150  # of the PNGs
NUM_BARS = 30  # emojis of the paper's Fig. 3


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
        examples=some(evaluation.q, scene),
        worst=worst(evaluation.q, scene),
        errors=errors(evaluation.q, scene),
        curves=read_curves(run / METRICS_FILE),
        facts=_facts(evaluation, run),
        reliability=reliability(evaluation.q, scene.observed),
        held_out=held_out_text(scene),
        split=evaluation.split,
        about_reactions=evaluation.about_reactions,
        readings=evaluation.readings,
        harm=Path(HARM_PAGE).name if evaluation.harm else "",
    )


def _facts(evaluation: Evaluation, run: Path) -> dict[str, str]:
    """What was judged, and how to come here again."""
    scene, facts, (_, shards, vectors) = evaluation.scene, evaluation.facts, read_beginning(run)
    best = "the best on the val split" if facts.scores else "the last: the val split is forgotten"
    told = f"; it {evaluation.forgotten.told}, and what is left is shown" if evaluation.forgotten else ""
    return {
        "run": run.name,
        "snapshot": f"step {facts.step:,}, {best}",
        "held out": held_out_text(scene) + unsayable_text(scene, facts.vocabulary),
        "dataset": facts.dataset + told,
        "vectors": facts.vectors,
        "seed": str(evaluation.config.optimizer.seed),
        "last started": _told(read_start(run)),
        "judged": _told(how_started()),
        "to train it again": to_train_again(run, str(shards), vectors, "NEW"),
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
        largest=largest((*report.examples, *report.worst)),
    )
