"""How good each configuration of a sweep is, over the folds: as a table, and as a page.

complete trials ─► scores by configuration and fold ─► Result: mean, spread, interval, beside the best
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optuna.trial import TrialState
from scipy.stats import t

from ...datasets.errors import InputError
from ...datasets.pages.page import render
from ...datasets.store.atomic import write_atomic
from ..evaluation.bootstrap import SURE, Interval, Word
from ..evaluation.judge import METRIC
from ..tracking.mlflow_run import end_parent
from .plan import REPORT, Point, Sweep, read_sweep, to_train, told
from .study import WHY, Trials, open_trials
from .work import SCORES

STATES = {
    "complete": TrialState.COMPLETE,
    "running": TrialState.RUNNING,
    "waiting": TrialState.WAITING,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True)
class Result:
    """A configuration."""

    point: Point
    scores: dict[int, float]  # of the metric that decides, by fold
    mean: float
    spread: float | None  # standard deviation over the folds; None of one fold
    interval: Interval | None  # of the mean
    beside_best: Word | None  # None of the best itself, or where no two folds are shared

    @property
    def label(self) -> str:
        """Its keys, as options."""
        return told(self.point)


@dataclass(frozen=True)
class SweepReport:
    """A sweep as far as it has come."""

    folder: Path
    sweep: Sweep
    results: tuple[Result, ...]  # the best first; those on fewer folds than the sweep has last
    states: dict[str, int]  # trials that are complete, running, waiting and failed
    failed: tuple[tuple[int, str], ...]  # number of the trial, and why

    @property
    def metric(self) -> str:
        """What decides, in words."""
        return METRIC[self.sweep.metric].label

    @property
    def command(self) -> str:
        """What trains the best configuration on all folds."""
        return to_train(self.folder, self.sweep, self.results[0].point, "runs/best")

    @property
    def headline(self) -> str:
        """What came out, in a sentence or two."""
        best, *others = self.results
        alike = sum(each.beside_best == "level" for each in others)
        spread = "" if best.interval is None else f" [{best.interval.low:.3f}, {best.interval.high:.3f}]"
        told = f"Best of {len(self.results)}: {best.label}, {self.metric} {best.mean:.3f}{spread}."
        return told + (
            f" {alike} of the others {'is' if alike == 1 else 'are'} level with it." if alike else ""
        )

    @property
    def about(self) -> str:
        """How the numbers are to be read."""
        count = len(self.sweep.folds)
        return (
            f"Mean of {self.metric} over {count} folds, its standard deviation, and its 95 % interval "
            "(Student's t). Beside the best: the same of the differences, fold by fold. Folds share what "
            "they learn from, so intervals are rather too narrow, and the best of many is a bit worse than "
            "it looks. The test split was not looked at: evaluate what the command trains."
        )


def report(folder: Path) -> SweepReport:
    """What is known of a sweep by now.

    Raises:
        InputError: there is no sweep, or no trial is complete yet.
    """
    sweep, _ = read_sweep(folder)
    return _report_on(open_trials(folder, sweep))


def finish(trials: Trials) -> dict[str, int]:
    """How many trials are where; where none is to come, MLflow's run of the sweep is told what came out."""
    counted = _count(trials)
    if counted["complete"] and not counted["running"] + counted["waiting"]:
        told = _report_on(trials)
        best = told.results[0]
        tags = {"emojigan.best": best.label, "emojigan.command": told.command}
        end_parent(trials.sweep.parent, tags, {f"best/{told.sweep.metric}": best.mean})
    return counted


def _count(trials: Trials) -> dict[str, int]:
    states = [trial.state for trial in trials.all()]
    return {name: states.count(state) for name, state in STATES.items()}


def _report_on(trials: Trials) -> SweepReport:
    sweep, found = trials.sweep, trials.all()
    by_point: dict[tuple, dict[int, float]] = {}
    for trial in found:
        if trial.state == TrialState.COMPLETE:
            point = tuple((key, trial.params[key]) for key in (*sweep.grid, *sweep.ranges))
            scores = trial.user_attrs[SCORES].items()
            of_point = by_point.setdefault(point, {})
            of_point |= {int(fold): of_fold[sweep.metric] for fold, of_fold in scores}
    if not by_point:
        raise InputError(
            f"No trial of {trials.folder} is complete yet: `emojigan sweep work {trials.folder}`."
        )
    return SweepReport(
        folder=trials.folder,
        sweep=sweep,
        results=_results(sweep, by_point),
        states=_count(trials),
        failed=tuple(
            (each.number, str(each.user_attrs.get(WHY))) for each in found if WHY in each.user_attrs
        ),
    )


def _results(sweep: Sweep, by_point: dict[tuple, dict[int, float]]) -> tuple[Result, ...]:
    loss = METRIC[sweep.metric].loss
    ranked = sorted(
        by_point.items(),
        key=lambda item: (-len(item[1]), float(np.mean([loss(score) for score in item[1].values()]))),
    )
    _, best = ranked[0]
    results = []
    for number, (point, scores) in enumerate(ranked):
        values = np.array([*scores.values()])
        shared = [fold for fold in scores if fold in best]
        differences = np.array([loss(scores[fold]) - loss(best[fold]) for fold in shared])
        beside = _interval(differences) if number else None
        results.append(
            Result(
                dict(point),
                dict(sorted(scores.items())),
                float(values.mean()),
                float(values.std(ddof=1)) if len(values) > 1 else None,
                _interval(values),
                beside and ("worse" if beside.low > 0 else "better" if beside.high < 0 else "level"),
            )
        )
    return tuple(results)


def _interval(values: np.ndarray) -> Interval | None:
    """Where the mean of what these are drawn from lies; None of fewer than two."""
    if len(values) < 2:
        return None
    half = t.ppf((1 + SURE) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return Interval(float(values.mean() - half), float(values.mean() + half))


def format_report(told: SweepReport) -> str:
    """A table for the terminal, and what to do next."""
    lines = [["configuration", "folds", "mean", "spread", "interval", "beside the best"]]
    lines += [[each.label, *cells(each)] for each in told.results]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    failed = [f"trial {number} has failed: {why}" for number, why in told.failed]
    return "\n".join(
        [states(told.states), *failed, "", *table, "", told.about, "", told.headline, told.command]
    )


def cells(result: Result) -> Sequence[str]:
    """A result as text: folds, mean, spread, interval, how it is beside the best."""
    interval = result.interval
    return (
        str(len(result.scores)),
        f"{result.mean:.4f}",
        "–" if result.spread is None else f"{result.spread:.4f}",
        "–" if interval is None else f"[{interval.low:.4f}, {interval.high:.4f}]",
        result.beside_best or "",
    )


def states(of: dict[str, int]) -> str:
    """How many trials are where, in a line."""
    return "trials: " + ", ".join(
        f"{count} {name}" for name, count in of.items() if count or name == "complete"
    )


def write_report(told: SweepReport) -> Path:
    """Write report.html of a sweep, which needs no other file and no network. -> the page"""
    page = told.folder / REPORT
    template = Path(__file__).with_suffix(".html.j2")
    write_atomic(page, render(template, told=told, cells=cells, states=states(told.states)))
    return page
