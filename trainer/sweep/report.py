"""How good each configuration of a sweep is, over the folds: as a table, and as a page.

complete trials ─► scores by configuration and fold ─► Result: mean, spread, interval, beside the best
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optuna.trial import TrialState
from scipy.stats import t

from ...datasets.errors import InputError
from ...datasets.pages.page import render
from ...datasets.store.atomic import write_atomic
from ...datasets.store.trouble import tell
from ..evaluation.bootstrap import SURE, Interval, Word
from ..evaluation.judge import METRIC
from ..tracking.mlflow_run import end_parent
from ..tracking.server import cause, named, tracking_uri
from .plan import REPORT, Point, Sweep, read_sweep, to_train, told
from .study import WHY, Trials, open_trials
from .work import SCORES, tell_again

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
    results: tuple[Result, ...]  # the best first; those on fewer folds last; none where no trial is complete
    states: dict[str, int]  # trials that are complete, running, waiting and failed
    failed: tuple[tuple[int, str], ...]  # number of the trial, and why

    @property
    def metric(self) -> str:
        """What decides, in words."""
        return METRIC[self.sweep.metric].label

    @property
    def command(self) -> str:
        """What trains the best configuration on all folds; where none is known, what to do about that."""
        if not self.results:
            to_come = self.states["running"] + self.states["waiting"]
            return f"emojigan sweep {'work' if to_come else 'repair'} {shlex.quote(str(self.folder))}"
        return to_train(self.folder, self.sweep, self.results[0].point, "runs/best")

    @property
    def headline(self) -> str:
        """What came out, in a sentence or two."""
        if not self.results:
            return "No trial is complete yet."
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
            f"Mean of {self.metric} over {count} folds, its standard deviation, and its 95 % interval: "
            "Student's t, wider by what trainings share that learn from each other's folds (Nadeau & Bengio "
            "2003). Beside the best: the same of the differences, on the folds that both have. The best was "
            "picked, so as many pairs count as the table has (Bonferroni): where all are equally good, one "
            "table in twenty at most calls any of them worse. The best of many is a bit worse than it looks, "
            "and the test split was not looked at: evaluate what the command trains."
        )


def report(folder: Path) -> SweepReport:
    """What is known of a sweep by now.

    Raises:
        InputError: there is no sweep.
    """
    sweep, _ = read_sweep(folder)
    return _report_on(open_trials(folder, sweep))


def finish(trials: Trials) -> dict[str, int]:
    """How many trials are where; where none is to come, MLflow is told what it lacks, and what came out.

    Where MLflow cannot be told that is printed: the sweep is complete nevertheless.

    Raises:
        InputError: a training that MLflow lacks cannot be opened, or another process is at it.
        Stopped: a signal came.
    """
    counted = _count(trials)
    if not counted["running"] + counted["waiting"]:
        told = _report_on(trials)
        tags, metrics = {"emojigan.command": told.command}, {}
        for best in told.results[:1]:  # none, where all have failed
            tags["emojigan.best"], metrics[f"best/{told.sweep.metric}"] = best.label, best.mean
        try:
            tell_again(trials)
            end_parent(trials.sweep.parent, tags, metrics)
        except InputError:
            raise  # of a training that was to be told, and not MLflow's
        except Exception as error:  # a server or a database may raise anything
            where = f"{named(tracking_uri())} {cause(error)}"
            tell(f"{where}. What came out is not told there: run the same command again when it can be.")
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
    return SweepReport(
        folder=trials.folder,
        sweep=sweep,
        results=results_of(sweep, by_point),
        states=_count(trials),
        failed=tuple(
            (each.number, str(each.user_attrs.get(WHY))) for each in found if WHY in each.user_attrs
        ),
    )


def results_of(sweep: Sweep, by_point: Mapping[tuple, Mapping[int, float]]) -> tuple[Result, ...]:
    """How good each configuration is, the best first, by its keys and values: scores by fold."""
    loss, folds = METRIC[sweep.metric].loss, len(sweep.folds)
    ranked = sorted(
        by_point.items(),
        key=lambda item: (-len(item[1]), float(np.mean([loss(score) for score in item[1].values()]))),
    )
    pairs = max(1, math.comb(len(ranked), 2))
    results = []
    for number, (point, scores) in enumerate(ranked):
        values, (_, best) = np.array([*scores.values()]), ranked[0]
        shared = [fold for fold in scores if fold in best]
        differences = np.array([loss(scores[fold]) - loss(best[fold]) for fold in shared])
        beside = _interval(differences, folds, (1 - SURE) / pairs) if number else None
        results.append(
            Result(
                dict(point),
                dict(sorted(scores.items())),
                float(values.mean()),
                float(values.std(ddof=1)) if len(values) > 1 else None,
                _interval(values, folds, 1 - SURE),
                beside and ("worse" if beside.low > 0 else "better" if beside.high < 0 else "level"),
            )
        )
    return tuple(results)


def _interval(values: np.ndarray, folds: int, error: float) -> Interval | None:
    """Where the mean of what these are drawn from lies; None of fewer than two.

    The trainings share most of what they learned from, so that their mean varies by more than 1/n of the
    variance: by 1/n + 1/(folds − 1), the share of the posts that a training is tested on beside those that it
    learned from (Nadeau & Bengio 2003, Inference for the Generalization Error, section 3).

    Args:
        values: [n], each of a fold.
        folds: into how many the posts were dealt, n at least.
        error: chance that it lies elsewhere.
    """
    n = len(values)
    if n < 2:
        return None
    half = t.ppf(1 - error / 2, n - 1) * values.std(ddof=1) * (1 / n + 1 / (folds - 1)) ** 0.5
    return Interval(float(values.mean() - half), float(values.mean() + half))


def format_report(told: SweepReport) -> str:
    """A table for the terminal, and what to do next."""
    lines = [["configuration", "folds", "mean", "spread", "interval", "beside the best"]]
    lines += [[each.label, *cells(each)] for each in told.results]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    failed = [f"trial {number} has failed: {why}" for number, why in told.failed]
    scored = ["", *table, "", told.about, ""] if told.results else []
    return "\n".join([states(told.states), *failed, *scored, told.headline, told.command])


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
