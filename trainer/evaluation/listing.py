"""The runs in a folder, each in a line: how far it is, and what it scored."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...datasets.errors import InputError
from ...datasets.store.trouble import MISSING
from ..config import read_config
from ..facts import read_facts
from ..run import CHECKPOINTS, CONFIG, EVALUATION, SNAPSHOTS, step_of, steps_in

DEPTH = 3  # folders within each other, in which runs are looked for
SCORES = ("reaction_nll", "nll", "tv")  # that are shown


@dataclass(frozen=True)
class Listed:
    """A run. What is not known is None."""

    path: Path
    unit: str  # what it learns from
    steps: int  # that are asked for
    step: int  # of its newest checkpoint
    dataset: str | None  # SHA-256
    recipe: str  # all that it depends on but the seed
    seed: int
    scores: dict[str, float]  # on the test split, by key: of the model that `evaluate` scored
    trouble: str | None = None  # why it cannot be read


def list_runs(folder: Path) -> list[Listed]:
    """All runs in a folder, by their paths, or the one that it is.

    Raises:
        InputError: there is none.
    """
    found = [_listed(path) for path in sorted(_runs_in(folder, DEPTH))]
    if not found:
        raise InputError(f"{folder} has no run: `emojigan train SHARDS --vectors FILE --out {folder}/first`.")
    return found


def _runs_in(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / CONFIG).is_file():
        yield folder
    elif depth and folder.is_dir():
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                yield from _runs_in(path, depth - 1)


def _listed(run: Path) -> Listed:
    try:
        config = read_config(run / CONFIG)
        checkpoints, snapshots = steps_in(run / CHECKPOINTS), steps_in(run / SNAPSHOTS)
        step = step_of(checkpoints[-1]) if checkpoints else 0
        facts = read_facts(snapshots[-1]) if snapshots else None
        return Listed(
            run,
            config.data.unit,
            config.optimizer.steps,
            step,
            dataset=facts.dataset if facts else None,
            recipe=config.but_seed() + (facts.vectors if facts else ""),
            seed=config.optimizer.seed,
            scores=_scores(run),
        )
    except InputError as error:
        return Listed(run, "", 0, 0, None, "", 0, {}, str(error))


def _scores(run: Path) -> dict[str, float]:
    """Those that are shown; none where it was not evaluated, or by an earlier version."""
    try:
        first, *_ = json.loads((run / EVALUATION).read_text(encoding="utf-8"))["scores"].values()
        return {key: float(first[key]) for key in SCORES if key in first}
    except MISSING:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{run / EVALUATION} is damaged. Run `emojigan evaluate {run}` again.") from error


def format_runs(runs: list[Listed]) -> str:
    """A line each, and one for what differs in the seed alone.

    The datasets are told by the beginning of their hashes, for only runs of one can be compared.
    """
    lines = [["run", "learns from", "steps", *SCORES, "dataset"]]
    for each in runs:
        if each.trouble:
            lines.append([str(each.path), each.trouble])
            continue
        done = f"{each.step:,}" if each.step == each.steps else f"{each.step:,} of {each.steps:,}"
        scores = [f"{each.scores[key]:.3f}" if key in each.scores else "–" for key in SCORES]
        dataset = each.dataset.removeprefix("sha256:")[:8] if each.dataset else "–"
        lines.append([str(each.path), f"{each.unit}s", done, *scores, dataset])
    lines += _of_seeds(runs)
    whole = [line for line in lines if len(line) > 2]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    widths[0] = max(len(line[0]) for line in lines)
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _of_seeds(runs: list[Listed]) -> Iterator[list[str]]:
    """Mean and standard deviation of the scores of runs that differ in the seed alone."""
    alike: dict[tuple[str, str | None], dict[int, Listed]] = {}
    for each in runs:
        if each.scores:
            alike.setdefault((each.recipe, each.dataset), {}).setdefault(each.seed, each)
    for group in ([*by_seed.values()] for by_seed in alike.values()):
        if len(group) > 1:
            first, scores = group[0], []
            for key in SCORES:
                found = [each.scores[key] for each in group if key in each.scores]
                told = f"{np.mean(found):.3f} ± {np.std(found, ddof=1):.3f}" if len(found) > 1 else "–"
                scores.append(told)
            yield [f"{first.path}, {len(group)} seeds", f"{first.unit}s", "", *scores, ""]
