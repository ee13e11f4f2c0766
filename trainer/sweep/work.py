"""A trial is done: trainings of the product, each without a fold, and scored on that.

Trial ─► keys ─► train ─► runs ─► the best snapshot of each, on the fold it has not seen ─► scores, mean loss
"""

import gc
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from optuna.trial import Trial

from ...datasets.errors import InputError
from ...datasets.printable import printable
from ...datasets.store.folder import LocalFolder, open_folder
from ...datasets.store.lock import writing
from ..config import Config, with_keys
from ..evaluation.compare import compare_runs
from ..evaluation.judge import METRIC
from ..inputs import read_inputs
from ..runtime.signals import Stopped, asked, launched
from ..tracking.mlflow_run import PARENT, ended_under, run_id_of
from ..training.loop import train
from .plan import FOLD, Number, Point, Sweep, Value, is_logarithmic, read_sweep, run_folder, told
from .study import Trials, open_trials

SCORES = "scores"  # attribute of a trial: by fold, and the key of a metric
FULL = "can't allocate memory"  # what torch says of a CPU's, in an error without a type of its own


def work(folder: Path, most: int | None) -> tuple[Trials, list[bool]]:
    """Do trials of a sweep until none is left to take, or `most`; of each that was taken, if it is complete.

    Raises:
        InputError: there is no sweep; or this machine, a store or a database is in trouble.
        Stopped: a signal came, and the training that was going on is saved: whoever takes the trial next goes
            on with it.
    """
    if launched():
        raise InputError("A worker is one process: start `emojigan sweep work` once for each GPU, by itself.")
    sweep, config = read_sweep(folder)
    _refuse_others(sweep, config)
    trials = open_trials(folder, sweep)
    return trials, trials.do_each(partial(_do, folder, sweep, config), most)


def _refuse_others(sweep: Sweep, config: Config) -> None:
    """Refuse shards or vectors that are not those of the other trials: scores could not be compared."""
    first = with_keys(config, {FOLD: sweep.folds[0]}, sweep.shards)
    inputs = read_inputs(first, open_folder(sweep.shards), Path(sweep.vectors))
    if sweep.dataset not in inputs.lineage:
        raise InputError(
            f"{sweep.shards} is not the dataset that the sweep was created on, as it is after every "
            "`emojigan shards forget`. Put that there, or create another sweep."
        )
    if sweep.vectors_sha256 != inputs.vectors_hash:
        raise InputError(
            f"{sweep.vectors} is not the file that the sweep was created with. Put that there, or create "
            "another sweep."
        )


def _do(folder: Path, sweep: Sweep, config: Config, trial: Trial) -> float:
    point: Point = {
        **{key: cast(Value, trial.suggest_categorical(key, values)) for key, values in sweep.grid.items()},
        **{key: _within(trial, key, *ends) for key, ends in sweep.ranges.items()},
    }
    torch.compiler.reset()  # of one function torch keeps eight variants; each configuration is another
    folds = (trial.suggest_categorical(FOLD, sweep.folds),) if sweep.search == "grid" else sweep.folds
    scores = {fold: _scores(folder, sweep, config, trial.number, point, fold) for fold in folds}
    trial.set_user_attr(SCORES, {str(fold): of_fold for fold, of_fold in scores.items()})
    return float(np.mean([METRIC[sweep.metric].loss(of_fold[sweep.metric]) for of_fold in scores.values()]))


def _within(trial: Trial, key: str, low: Number, high: Number) -> Number:
    log = is_logarithmic(low, high)
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, log=log)
    return trial.suggest_float(key, low, high, log=log)


def _scores(
    folder: Path, sweep: Sweep, config: Config, number: int, point: Point, fold: int
) -> Mapping[str, float]:
    """Train without a fold, or go on with that, and score on it: by the key of each metric."""
    print(printable(f"trial {number} of {sweep.trials}: {told({**point, FOLD: fold})}"), flush=True)
    run = run_folder(folder, number, fold)
    with _in_memory():
        _train(run, sweep, config, number, {**point, FOLD: fold})
        if asked():
            raise Stopped(f"stopped after trial {number} was trained. Run the same command again to go on.")
        (model,) = compare_runs([run]).models
    if not np.isfinite(model.scores.get(sweep.metric, np.nan)):
        raise InputError(f"its model has no {METRIC[sweep.metric].label}, by which this sweep judges.")
    return {key: float(score) for key, score in model.scores.items() if np.isfinite(score)}


def _train(run: Path, sweep: Sweep, config: Config, number: int, point: Point) -> None:
    """Train, or go on with that; where it has ended, MLflow is told what it lacks of it."""
    keys = with_keys(config, point, f"trial {number}")
    tags = {"mlflow.runName": f"{sweep.name}, trial {number}, fold {point[FOLD]}", PARENT: sweep.parent}
    train(keys.run, lambda: keys, open_folder(sweep.shards), Path(sweep.vectors), run, tags)


def tell_again(trials: Trials) -> None:
    """Have MLflow told of complete trials what it lacks of them, as it was away while they were trained.

    Raises:
        InputError: one cannot be opened, or another process is at it.
        Stopped: a signal came.
        Exception: of any kind, where MLflow is away now.
    """
    sweep, config = read_sweep(trials.folder)
    with writing(LocalFolder(trials.folder), "emojigan sweep work", wait=True):  # each is told by one worker
        ended = ended_under(sweep.parent)
        for trial in trials.all():
            for fold in map(int, trial.user_attrs.get(SCORES, ())):
                run = run_folder(trials.folder, trial.number, fold)
                if run.exists() and run_id_of(run) not in ended:
                    print(f"trial {trial.number}, fold {fold}: MLflow lacks some of it.", flush=True)
                    _train(run, sweep, config, trial.number, {**trial.params, FOLD: fold})


@contextmanager
def _in_memory() -> Iterator[None]:
    """Make an InputError of it where a configuration does not fit in the memory of this device.

    Afterwards a GPU has its memory back: what one training kept, the next would lack.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and FULL not in str(error):
            raise
        traceback.clear_frames(error.__traceback__)  # which hold what was there already
        raise InputError("it does not fit in this device's memory.") from error
    finally:
        gc.collect()
        torch.cuda.empty_cache()
