"""What a sweep tries: a folder, whose files are known here alone.

    create ─► Sweep ─► sweep.yaml ─► planned trials

sweeps/first/
  sweep.yaml             what is tried, on what, and by what it is judged
  training.yaml          the configuration of its trainings, but for what is tried
  journal.log            the trials, if no database has them: study.py
  trials/0007/fold-2/    a run, which run.py draws: of trial 7, trained without fold 2
  trials/0007/.lock      there while a worker is at it; datasets/store/lock.py
  report.html            how good each configuration is, and which is the best
"""

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import yaml

from ...datasets.errors import InputError
from ...datasets.store.atomic import telling_where, write_atomic
from ...datasets.store.trouble import MISSING
from ..config import PLAIN, Config, read_config

SWEEP, TRAINING, JOURNAL = "sweep.yaml", "training.yaml", "journal.log"
TRIALS, REPORT = "trials", "report.html"
FOLD = "fold"
LOGARITHMIC = 10  # a range whose ends are so many times apart is searched by orders of magnitude

Number = int | float
Value = bool | Number | str
Point = dict[str, Value]  # keys of the configuration that a trial changes
Search = Literal["grid", "random", "tpe"]


@dataclass(frozen=True)
class Sweep:
    """What is tried. A trial of a grid is a point and a fold; one of a search is a point, on all folds."""

    name: str  # of the study, in a database that holds others, too
    shards: str
    vectors: str
    folds: tuple[int, ...]
    grid: dict[str, tuple[Value, ...]]
    ranges: dict[str, tuple[Number, Number]]  # only of a search; whole numbers of a key that has such
    search: Search
    trials: int
    metric: str  # key of the one that decides
    seed: int
    dataset: str  # SHA-256 of its manifest
    vectors_sha256: str
    parent: str  # the run of MLflow under which its trainings stand
    storage: str | None = None  # address of a database

    def planned(self) -> list[Point]:
        """The parameters of every trial that is known beforehand; a search finds them when it comes to it."""
        if self.search != "grid":
            return [{} for _ in range(self.trials)]
        return [{**point, FOLD: fold} for point in points(self.grid) for fold in self.folds]


def points(grid: Mapping[str, Sequence[Value]]) -> list[Point]:
    """All combinations of the values."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def is_logarithmic(low: Number, high: Number) -> bool:
    """Whether a range is searched by orders of magnitude."""
    return low > 0 and high >= LOGARITHMIC * low


def write_sweep(folder: Path, sweep: Sweep, config: Config) -> None:
    """Write what a sweep is; sweep.yaml last, which makes the folder one."""
    write_atomic(folder / TRAINING, yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True))
    content = asdict(sweep) | {"folds": [*sweep.folds]}
    content["grid"] = {key: [*values] for key, values in sweep.grid.items()}
    content["ranges"] = {key: [*ends] for key, ends in sweep.ranges.items()}
    write_atomic(folder / SWEEP, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def read_sweep(folder: Path) -> tuple[Sweep, Config]:
    """A sweep, and what all its trainings have.

    Raises:
        InputError: there is none, or it is damaged.
    """
    try:
        with telling_where(folder / SWEEP):
            content = yaml.safe_load((folder / SWEEP).read_text(encoding="utf-8"))
    except MISSING as error:
        raise InputError(
            f"{folder} holds no sweep: `emojigan sweep create SHARDS --vectors FILE --out {folder}`."
        ) from error
    except (ValueError, yaml.YAMLError) as error:
        raise _damaged(folder) from error
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(Sweep).validate_python(content), read_config(folder / TRAINING)
    except ValueError as error:
        raise _damaged(folder) from error


def _damaged(folder: Path) -> InputError:
    return InputError(f"{folder / SWEEP} is damaged. Create the sweep again, in another folder.")


def trial_folder(folder: Path, number: int) -> Path:
    """Where the runs of a trial lie."""
    return folder / TRIALS / f"{number:04d}"


def run_folder(folder: Path, number: int, fold: int) -> Path:
    """The run of a trial that is trained without a fold."""
    return trial_folder(folder, number) / f"fold-{fold}"


def to_train(folder: Path, sweep: Sweep, point: Point, out: str) -> str:
    """The command that trains a configuration on all folds."""
    words = [sweep.shards, "--vectors", sweep.vectors, "--recipe", PLAIN, "--config", str(folder / TRAINING)]
    return f"emojigan train {shlex.join([*words, *_options(point), '--out', out])}"


def told(point: Point) -> str:
    """A configuration in a line."""
    return " ".join(_options(point))


def _options(point: Point) -> list[str]:
    words: list[str] = []
    for key, value in point.items():
        if isinstance(value, bool):
            words.append(flag(key) if value else flag(f"no-{key}"))
        else:
            words += [flag(key), str(value)]
    return words


def flag(key: str) -> str:
    """The option of a key."""
    return f"--{key.replace('_', '-')}"
