"""Runs beside each other, on the same held-out posts.

runs ─► the best snapshot of each ─► scored alike, the same posts drawn again ─┐
those that differ in the seed alone ─► how far seeds are apart ────────────────┴► how the first is beside each

Two trainings with two seeds are not equally good: with enough posts most of their metrics differ for sure.
Whether a recipe is better than another, and not a seed, only several seeds can tell.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...datasets.errors import InputError
from ...datasets.store.folder import Folder
from ...datasets.worlds.truth import Truth
from ..config import Config
from ..model.snapshot import Snapshot
from ..run import read_beginning
from .bootstrap import Interval
from .evaluate import answers_of, best_of, floor_of, reopen
from .judge import METRIC, Judged, beside_first, by_seed, score_all
from .metrics.scene import set_scene

DECIDES = ("reaction_nll", "nll")  # the first that both runs have: a proper score of all that was posted
UNSHIFTED = ("nll",)  # the same where one has weights: of single emojis alone their shift is undone


@dataclass(frozen=True)
class Compared:
    """Runs that were judged alike, the first of which is compared with each other."""

    models: tuple[Judged, ...]
    floor: dict[str, float]
    split: str
    alike: int = 0  # how many runs differ from another one in the seed alone
    weighted: bool = False  # whether one was trained with weights, which shift what it says of reactions


def compare_runs(
    runs: Sequence[Path],
    truth: Truth | None = None,
    *,
    shards: Folder | None = None,
    vectors: Path | None = None,
) -> Compared:
    """Judge the best snapshot of each on the test split of the dataset that all were trained on.

    Args:
        truth: of a world.
        shards: where they lie by now; by default where they lay when the first run was trained.
        vectors: the same.

    Raises:
        InputError: one is not trained; or they are of other shards, or know other emojis, so that they would
            not be asked the same.
    """
    snapshots = [best_of(run)[1] for run in runs]
    shards = shards or read_beginning(runs[0])[1]
    opened = [  # or refused, where it was trained on other shards
        reopen(run, snapshot.facts, shards, vectors) for run, snapshot in zip(runs, snapshots, strict=True)
    ]
    for run, snapshot in zip(runs, snapshots, strict=True):
        if snapshot.facts.vocabulary != snapshots[0].facts.vocabulary:
            raise InputError(
                f"{run} says other emojis than {runs[0]}: they are not asked the same. Compare runs of "
                "vectors for the same emojis, with the same --deny."
            )
    _, inputs, vector_file = opened[0]
    scene = set_scene(inputs, vector_file, truth)
    asked = zip(snapshots, _labels(runs), strict=True)
    scored = [*score_all((answers_of(each, scene, label) for each, label in asked), scene)]
    groups = _alike([config for config, *_ in opened], snapshots)
    chance = by_seed([[scored[row] for row in group] for group in groups])
    return Compared(
        tuple(beside_first(scored, chance)),
        floor_of(scene),
        inputs.train.manifest.split_text,
        alike=sum(map(len, groups)),
        weighted=any(each.is_weighted for each in snapshots),
    )


def _alike(configs: Sequence[Config], snapshots: Sequence[Snapshot]) -> list[list[int]]:
    """Rows of runs of one recipe, vectors and dataset with several seeds, one of each seed."""
    found: dict[tuple[str, str, str], dict[int, int]] = {}
    for row, (config, snapshot) in enumerate(zip(configs, snapshots, strict=True)):
        recipe = config.but_seed(), snapshot.facts.vectors, snapshot.facts.dataset
        found.setdefault(recipe, {}).setdefault(config.optimizer.seed, row)
    return [[*group.values()] for group in found.values() if len(group) > 1]


def _labels(runs: Sequence[Path]) -> list[str]:
    """Names of their folders; whole paths where two are the same."""
    names = [run.resolve().name for run in runs]
    return names if len({*names}) == len(names) else [str(run) for run in runs]


def verdicts(compared: Compared) -> Iterator[str]:
    """How the first run is beside each other one: by what decides, and by how many of the rest."""
    first, *others = compared.models
    for other in others:
        keys = UNSHIFTED if compared.weighted else DECIDES
        decides = METRIC[next(key for key in keys if key in other.beside)]
        beside = other.beside[decides.key]
        words = [each.word for key, each in other.beside.items() if key != decides.key]
        told = "level with" if beside.word == "level" else f"{beside.word} than"
        yield (
            f"{first.label} is {told} {other.label}: {decides.label} {first.scores[decides.key]:.3f} beside "
            f"{other.scores[decides.key]:.3f}, difference {_signed(beside.difference)}. Of {len(words)} "
            f"other metrics it is better on {words.count('better')} and worse on {words.count('worse')}."
        )


def _signed(interval: Interval) -> str:
    return f"[{interval.low:+.3f}, {interval.high:+.3f}]"


def about_seeds(compared: Compared) -> str:
    """Whether the intervals tell of recipes or of these trainings alone."""
    if compared.alike:
        return (
            f"How far seeds are apart is in the intervals of differences, by {compared.alike} runs that "
            "differ from another in the seed alone."
        )
    return (
        "How far other seeds would come is in no interval: add runs that differ from one of these in the "
        "seed alone."
    )
