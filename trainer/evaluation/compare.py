"""Runs, or models, beside each other, on the same held-out posts.

runs ─► the best snapshot of each ─► scored alike, the same posts drawn again ─┐
those that differ in the seed alone ─► how far seeds are apart ────────────────┴► how the first is beside each

Two trainings with two seeds are not equally good: with enough posts most of their metrics differ for sure.
Whether a recipe is better than another, and not a seed, only several seeds can tell.

Models of several datasets are judged on the posts of one of them, over the emojis that all of them know.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from ...datasets.errors import InputError
from ...datasets.store.folder import Folder
from ...datasets.worlds.truth import Truth
from ..config import Config
from ..inputs import Inputs
from ..model.snapshot import Snapshot
from ..run import read_beginning
from .baselines.baseline import Candidate
from .baselines.sampled import NUM_LATENTS
from .bootstrap import Interval
from .evaluate import answers_of, best_of, floor_of, reopen
from .judge import METRIC, Judged, Scored, beside_first, by_seed, score_all
from .metrics.metric import Floats, Metric
from .metrics.scene import Scene, set_scene, spread

DECIDES = ("reaction_nll", "nll")  # the first that both runs have: a proper score of all that was posted
UNSHIFTED = ("nll",)  # the same where one has weights: of single emojis alone their shift is undone
MOST_OF_IT = 0.9  # of the held-out tuples must be of emojis that all models know


@dataclass(frozen=True)
class Compared:
    """Runs that were judged alike, the first of which is compared with each other."""

    models: tuple[Judged, ...]
    floor: dict[str, float]
    split: str
    alike: int = 0  # how many runs differ from another one in the seed alone
    weighted: bool = False  # whether one was trained with weights, which shift what it says of reactions
    shared: int | None = None  # over how many emojis they were judged, where they know others, too
    elsewhere: tuple[str, ...] = ()  # those of other datasets: they may have learned from these posts

    def decides(self, other: Judged) -> Metric:
        """What tells whether the first is better than another one."""
        keys = UNSHIFTED if self.weighted else DECIDES
        return METRIC[next(key for key in keys if key in other.beside)]


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
    for run, (config, *_) in zip(runs, opened, strict=True):
        if config.data.fold != opened[0][0].data.fold:
            raise InputError(
                f"{run} and {runs[0]} were trained without other folds: one has learned from what the other "
                "is asked. Compare runs of one --fold, or see `emojigan sweep report`."
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
        inputs.train.text,
        alike=sum(map(len, groups)),
        weighted=any(each.is_weighted for each in snapshots),
    )


def compare_models(snapshots: Mapping[str, Snapshot], inputs: Inputs, vector_file: Path) -> Compared:
    """Judge models on the held-out posts of one dataset, which need not be that of all.

    Args:
        snapshots: by what they are called.
        inputs: whose test split it is.

    Raises:
        InputError: they cannot be asked the same: of images of one size, and for emojis that all know.
    """
    size = inputs.train.manifest.image_size
    for label, snapshot in snapshots.items():
        if snapshot.facts.image_size != size:
            theirs = snapshot.facts.image_size
            raise InputError(f"{label} wants images of {theirs} pixels, and the held-out ones have {size}")
    scene = set_scene(inputs, vector_file, None)
    known = [{*snapshot.facts.vocabulary} for snapshot in snapshots.values()]
    shared = None if all(each == {*inputs.vocabulary} for each in known) else set.intersection(*known)
    if shared is not None:
        shared &= {*scene.support}
        scene = _only(scene, shared)
    asked = (_scored(label, snapshot, scene, shared) for label, snapshot in snapshots.items())
    scored = [*chain.from_iterable(asked)]
    return Compared(
        tuple(beside_first(scored)),
        floor_of(scene),
        inputs.train.text,
        weighted=any(each.is_weighted for each in snapshots.values()),
        shared=None if shared is None else len(shared),
        elsewhere=tuple(
            label for label, each in snapshots.items() if each.facts.dataset not in inputs.lineage
        ),
    )


def _scored(label: str, snapshot: Snapshot, scene: Scene, shared: set[str] | None) -> Iterator[Scored]:
    """A model that may have its emojis in an order of its own; over shared ones, single emojis alone."""
    if shared is None:
        scene = _in_order(scene, snapshot.facts.vocabulary)
        return score_all([answers_of(snapshot, scene, label)], scene)
    said = snapshot.distribution(scene.held_out.images, num_samples=NUM_LATENTS, seed=0)
    q: Floats = said[:, [snapshot.facts.vocabulary.index(emoji) for emoji in scene.support]]
    sums = q.sum(axis=1, keepdims=True)
    q = np.where(sums > 0, q / np.maximum(sums, 1e-300), 1 / len(scene.support))
    return score_all([Candidate(label, "", spread(q, scene), None)], scene)


def _in_order(scene: Scene, first: Sequence[str]) -> Scene:
    """The same scene, with the emojis of the support in another order."""
    support = (*first, *(emoji for emoji in scene.support if emoji not in {*first}))
    place = {emoji: number for number, emoji in enumerate(support)}
    rows = [scene.support.index(emoji) for emoji in support]
    return replace(
        scene,
        support=support,
        observed=np.array([place[scene.support[row]] for row in scene.observed], np.int64),
        vectors=scene.vectors[rows],
        shares=scene.shares[rows],
    )


def _only(scene: Scene, emojis: set[str]) -> Scene:
    """The held-out tuples of some emojis, and what is said of these alone.

    Raises:
        InputError: that leaves out too much of what was posted.
    """
    held_out = scene.held_out
    rows = np.flatnonzero([emoji in emojis for emoji in held_out.emojis])
    if len(rows) < MOST_OF_IT * len(held_out.emojis):
        raise InputError(
            f"only {len(rows):,} of {len(held_out.emojis):,} held-out tuples are of emojis that they all know"
        )
    images, image = np.unique(held_out.image[rows], return_inverse=True)
    _, reaction = np.unique(held_out.reaction[rows], return_inverse=True)
    scene = _in_order(scene, sorted(emojis))
    shares = scene.shares[: len(emojis)]
    return replace(
        scene,
        held_out=replace(
            held_out,
            images=held_out.images[images],
            posts=tuple(held_out.posts[each] for each in images),
            image=image,
            emojis=tuple(held_out.emojis[row] for row in rows),
            reaction=reaction,
        ),
        support=scene.support[: len(emojis)],
        observed=scene.observed[rows],
        vectors=scene.vectors[: len(emojis)],
        shares=shares / shares.sum(),
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
        decides = compared.decides(other)
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
