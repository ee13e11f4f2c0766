"""A sweep begins: what is asked for is checked at once, and all of its trials are planned.

--grid, --range + folds of the shards ─► Sweep ─► sweep.yaml, and the trials
"""

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...datasets.errors import InputError
from ...datasets.shards.manifest import Manifest, read_manifest
from ...datasets.store.folder import Folder, LocalFolder
from ...datasets.store.lock import writing
from ...datasets.stream.split import Split
from ...datasets.stream.stream import batches_per_epoch
from ..config import Config, with_keys
from ..evaluation.judge import keys_without_truth
from ..inputs import read_inputs
from ..run import CONFIG
from ..tracking.mlflow_run import begin_parent
from ..training.checkpoint import read_networks
from .plan import FOLD, SWEEP, Number, Search, Sweep, Value, flag, points, write_sweep
from .storage import check_address, open_database
from .study import open_trials

MOST_POINTS = 10_000  # of a grid
OF_RANKS = ("world_size", "deterministic_ranks")  # keys of a training by several processes


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
    _refuse_place(folder, storage)
    manifest = read_manifest(shards)
    folds = manifest.folds
    if not folds:
        raise InputError(
            f"{shards} has no folds, and the test split is not for choosing. Build with `emojigan shards "
            "build --folds 5`."
        )
    _check(config, grid, ranges, search, trials)
    config = with_keys(config, _found(config.flat()), "--init-from")
    values = {key: _values(config, key, texts) for key, texts in grid.items()}
    ends = {key: _ends(config, key, texts) for key, texts in ranges.items()}
    tried = points({**values, **ends})
    configs = [with_keys(config, point, "--grid, --range") for point in tried]
    _check_each(configs, metric, manifest)
    inputs = read_inputs(with_keys(config, {FOLD: folds[0]}, str(shards)), shards, vectors)
    _check_batches(configs, inputs.train)
    number = len(tried) * len(folds) if search == "grid" else trials
    assert number is not None  # as is checked
    if storage is not None:
        open_database(storage)  # while nothing is written yet
    name = folder.resolve().name
    about = f"A sweep of {', '.join([*grid, *ranges])} over {len(folds)} folds, in {number} trials."
    with writing(LocalFolder(folder), "emojigan sweep create"):
        _refuse_second(folder)  # which came meanwhile
        sweep = Sweep(
            name=f"{name}-{secrets.token_hex(4)}",
            shards=str(shards.absolute()),
            vectors=str(vectors.resolve()),
            folds=folds,
            grid=values,
            ranges=ends,
            search=search,
            trials=number,
            metric=metric,
            seed=config.optimizer.seed,
            dataset=inputs.dataset,
            vectors_sha256=inputs.vectors_hash,
            storage=storage,
            parent=begin_parent(name, about),
        )
        write_sweep(folder, sweep, config)
    open_trials(folder, sweep)
    return sweep


def _refuse_place(folder: Path, storage: str | None) -> None:
    _refuse_second(folder)
    if (folder / CONFIG).exists():
        raise InputError(f"{folder} holds a run. A sweep needs a folder of its own: give another --out.")
    if storage is not None:
        check_address(storage)


def _refuse_second(folder: Path) -> None:
    if (folder / SWEEP).exists():
        raise InputError(f"{folder} holds a sweep already: `emojigan sweep work {folder}` goes on with it.")


def _check(
    config: Config,
    grid: Mapping[str, Sequence[str]],
    ranges: Mapping[str, tuple[str, str]],
    search: Search,
    trials: int | None,
) -> None:
    if config.data.fold is not None:
        raise InputError(
            "--fold: the folds are the sweep's, which trains without each of them. Leave it out."
        )
    for key in OF_RANKS:
        if config.flat()[key] is not None:
            raise InputError(f"{flag(key)}: a worker of a sweep is one process. Leave it out.")
    known = {*config.flat()} - {FOLD, "deny", *OF_RANKS}
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


def _check_each(configs: Sequence[Config], metric: str, manifest: Manifest) -> None:
    """Refuse a metric that some would not have, and networks to begin with that are not there."""
    of_fold = [[shard.reactions for shard in manifest.of_split("test", fold)] for fold in manifest.folds]
    pairs = all(any(sizes is None or any(sizes[1:]) for sizes in each) for each in of_fold)
    whole = pairs and all(config.model.output == "tied" for config in configs)
    if metric not in (known := keys_without_truth(whole=whole)):
        raise InputError(
            f"--metric {metric}: give one of {', '.join(known)}. A trial has no others: they are of the "
            "truth, of another model, or of whole reactions, for which an output is tied and posts have "
            "several emojis."
        )
    for source in {config.run.init_from for config in configs}:
        if source is not None:
            read_networks(Path(source), ["generator"])


def _check_batches(configs: Sequence[Config], train: Split) -> None:
    """Refuse batches that cannot be dealt, or are larger than what is trained on without one of the folds."""
    asked = {(each.data.unit, each.data.batch_size, each.data.lanes, each.run.accumulate) for each in configs}
    for unit, size, lanes, parts in sorted(asked):
        if size % lanes or size % parts:
            raise InputError(f"--batch-size {size} cannot be of {lanes} --lanes and in {parts} --accumulate.")
        for fold in train.manifest.folds:
            batches_per_epoch(replace(train, unit=unit, fold=fold), size)


def _values(config: Config, key: str, texts: Sequence[str]) -> tuple[Value, ...]:
    """What texts are as values of a key, equal ones once."""
    return tuple(dict.fromkeys(_value(config, key, text) for text in texts))


def _ends(config: Config, key: str, texts: tuple[str, str]) -> tuple[Number, Number]:
    low, high = (_value(config, key, text) for text in texts)
    if isinstance(low, bool | str) or isinstance(high, bool | str) or not low < high:
        raise InputError(f"--range {key}: give two numbers, the lower first, such as 1e-4..1e-2.")
    return low, high


def _value(config: Config, key: str, text: str) -> Value:
    """What a text is as a value of a key."""
    value = with_keys(config, {key: text}, f"{flag(key)} {text}").flat()[key]
    if not isinstance(value, Value):
        raise InputError(f"{flag(key)} {text}: give a number, a word, or yes and no.")
    return _found({key: value}).get(key, value)


def _found(keys: Mapping[str, Any]) -> dict[str, str]:
    """Where the networks are with which trainings begin, wherever a worker is started."""
    source = keys.get("init_from")
    return {"init_from": str(Path(source).resolve())} if source else {}
