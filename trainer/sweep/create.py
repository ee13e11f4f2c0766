"""A sweep begins: what is asked for is checked at once, and all of its trials are planned.

--grid, --range + folds of the shards ─► Sweep ─► sweep.yaml, and the trials
"""

import math
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...datasets.errors import InputError
from ...datasets.shards.manifest import read_manifest
from ...datasets.store.folder import Folder
from ..config import Config, with_keys
from ..evaluation.judge import METRIC
from ..inputs import read_inputs
from ..tracking.mlflow_run import begin_parent
from .plan import FOLD, SWEEP, Search, Sweep, Value, flag, points, write_sweep
from .storage import check_address, open_database
from .study import open_trials

MOST_POINTS = 10_000  # of a grid


def create(
    folder: Path,
    config: Config,
    shards: Folder,
    vectors: Path,
    *,
    grid: Mapping[str, Sequence[str]],
    ranges: Mapping[str, tuple[str, str]],
    search: Search,
    trials: int | None,
    metric: str,
    storage: str | None,
) -> Sweep:
    """Create a sweep, with all of its trials planned.

    Args:
        config: what every training has, but for the keys that are tried.
        grid: texts of the values of each key.
        ranges: texts of the ends of each key.
        trials: how many a search has.
        metric: key of the one that decides.
        storage: address of a database, else it is a journal in the folder.

    Raises:
        InputError: a key or value cannot be, alone or beside the others; there is nothing to try; the shards
            have no folds; what is given cannot be trained with; or a sweep is in the folder already. Nothing
            was created then.
    """
    if (folder / SWEEP).exists():
        raise InputError(f"{folder} holds a sweep already: `emojigan sweep work {folder}` goes on with it.")
    if storage is not None:
        check_address(storage)
    if metric not in METRIC:
        raise InputError(f"--metric {metric}: give one of {', '.join(METRIC)}.")
    folds = read_manifest(shards).folds
    if not folds:
        raise InputError(
            f"{shards} has no folds, and the test split is not for choosing. Build with `emojigan shards "
            "build --folds 5`."
        )
    _check(config, grid, ranges, search, trials)
    values = {key: tuple(_value(config, key, text) for text in texts) for key, texts in grid.items()}
    ends = {key: (_value(config, key, low), _value(config, key, high)) for key, (low, high) in ranges.items()}
    for key, (low, high) in ends.items():
        if isinstance(low, bool | str) or isinstance(high, bool | str) or not low < high:
            raise InputError(f"--range {key}: give two numbers, the lower first, such as 1e-4..1e-2.")
    tried = points({**values, **ends})
    for point in tried:
        with_keys(config, point, "--grid, --range")
    read_inputs(with_keys(config, {FOLD: folds[0]}, str(shards)), shards, vectors)
    number = len(tried) * len(folds) if search == "grid" else trials
    assert number is not None  # as is checked
    if storage is not None:
        open_database(storage)  # while nothing is written yet
    name = folder.resolve().name
    about = f"A sweep of {', '.join([*grid, *ranges])} over {len(folds)} folds, in {number} trials."
    sweep = Sweep(
        name=f"{name}-{secrets.token_hex(4)}",
        shards=str(shards.absolute()),
        vectors=str(vectors.resolve()),
        folds=folds,
        grid=values,
        ranges={key: (float(low), float(high)) for key, (low, high) in ends.items()},
        search=search,
        trials=number,
        metric=metric,
        seed=config.optimizer.seed,
        storage=storage,
        parent=begin_parent(name, about),
    )
    write_sweep(folder, sweep, config)
    open_trials(folder, sweep)
    return sweep


def _check(
    config: Config,
    grid: Mapping[str, Sequence[str]],
    ranges: Mapping[str, tuple[str, str]],
    search: Search,
    trials: int | None,
) -> None:
    known = {*config.flat()} - {FOLD, "deny"}
    for key in (*grid, *ranges):
        if key not in known:
            raise InputError(f"{flag(key)} is no key that can be tried: `emojigan train --help` lists them.")
    if twice := {*grid} & {*ranges}:
        raise InputError(f"{flag(twice.pop())} has values and a range. Give one of them.")
    if not grid and not ranges:
        raise InputError("There is nothing to try. Give --grid learning-rate=5e-4,1e-3, say.")
    if search == "grid" and ranges:
        raise InputError("A grid has values, and no --range. Give --search tpe, or values by --grid.")
    if (search == "grid") != (trials is None):
        raise InputError("--trials is for --search random and --search tpe, which need it.")
    if math.prod(map(len, grid.values())) > MOST_POINTS:
        raise InputError(f"The grid has more than {MOST_POINTS:,} points. Use --search tpe --trials 50.")


def _value(config: Config, key: str, text: str) -> Value:
    """What a text is as a value of a key."""
    value = with_keys(config, {key: text}, f"{flag(key)} {text}").flat()[key]
    if not isinstance(value, Value):
        raise InputError(f"{flag(key)} {text}: give a number, a word, or yes and no.")
    return value
