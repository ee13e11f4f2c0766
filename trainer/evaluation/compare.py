"""Runs beside each other, on the same held-out posts.

runs ─► the best snapshot of each ─► judged alike, the same posts drawn again ─► how the first is beside each
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...datasets.errors import InputError
from ...datasets.store.folder import Folder
from ...datasets.worlds.truth import Truth
from ..model.snapshot import Snapshot
from .bootstrap import Interval
from .evaluate import Judged, answers_of, best_of, floor_of, judge_all, reopen
from .metrics.metric import Metric
from .metrics.reactions import REACTION_METRICS
from .metrics.scene import set_scene
from .metrics.table import METRICS

DECIDES = ("reaction_nll", "nll")  # the first that two runs have: a proper score of all that was posted


@dataclass(frozen=True)
class Compared:
    """Runs that were judged alike, the first of which is compared with each other."""

    models: tuple[Judged, ...]
    floor: dict[str, float]
    split: str


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
        InputError: one is not trained; or they are of several datasets or vocabularies, so that they were not
            asked the same.
    """
    snapshots = [best_of(run)[1] for run in runs]
    for run, snapshot in zip(runs, snapshots, strict=True):
        _refuse_other(run, snapshot, runs[0], snapshots[0])
    _, inputs, vector_file = reopen(runs[0], snapshots[0].facts, shards, vectors)
    scene = set_scene(inputs, vector_file, truth)
    candidates = (
        answers_of(each, scene, label) for each, label in zip(snapshots, _labels(runs), strict=True)
    )
    return Compared(tuple(judge_all(candidates, scene)), floor_of(scene), inputs.train.manifest.split_text)


def _refuse_other(run: Path, snapshot: Snapshot, first: Path, beside: Snapshot) -> None:
    for what, here, there in (
        ("dataset", snapshot.facts.dataset, beside.facts.dataset),
        ("vocabulary", snapshot.facts.vocabulary, beside.facts.vocabulary),
    ):
        if here != there:
            raise InputError(
                f"{run} was trained on another {what} than {first}: they are not asked the same. Compare "
                "runs of the same shards, and of vectors for the same emojis."
            )


def _labels(runs: Sequence[Path]) -> list[str]:
    """Names of their folders; whole paths where two are the same."""
    names = [run.resolve().name for run in runs]
    return names if len({*names}) == len(names) else [str(run) for run in runs]


def verdicts(compared: Compared) -> Iterator[str]:
    """How the first run is beside each other one: by what decides, and by how many of the rest."""
    first, *others = compared.models
    metrics: dict[str, Metric] = {metric.key: metric for metric in (*METRICS, *REACTION_METRICS)}
    for other in others:
        decides = metrics[next(key for key in DECIDES if key in other.beside)]
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
