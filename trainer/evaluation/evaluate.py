"""A run on held-out posts, beside baselines and, where it is known, the truth.

run's best snapshot ┐
baselines ──────────┼─► Candidate ─► judge ─► Evaluation
other seeds ────────┘
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from ...datasets.errors import InputError
from ...datasets.store.atomic import SUMS, sha256
from ...datasets.store.folder import Folder
from ...datasets.worlds.truth import Truth
from ..config import Config
from ..facts import Facts, best_snapshot
from ..forgotten import Mark, mark_run
from ..inputs import Inputs, read_inputs
from ..model.snapshot import Snapshot, load_snapshot
from ..run import SNAPSHOTS, read_beginning, read_origin, steps_in
from .baselines.baseline import Candidate, Given, values_of
from .baselines.classifier import LABEL, features, train_classifier
from .baselines.sampled import FOR_REACTIONS, NUM_LATENTS, by_latent
from .baselines.table import ALWAYS, BASELINES, USUAL
from .bootstrap import Word
from .decoding import decodings
from .harm import Harm, find_harm
from .judge import Judged, Scored, beside_first, by_seed, score_all
from .kept import Kept
from .metrics.divergences import NUM_SAMPLES, sampling_floor
from .metrics.frechet import by_chance
from .metrics.metric import scores, values
from .metrics.reactions import REACTION_METRICS, Answers
from .metrics.scene import Scene, set_scene, spread
from .metrics.table import METRICS
from .readings import Readings, find_readings

TAG = "emojigan.beside_classifier"
MAX_POINTS = 500  # images on a map: more would hide each other


@dataclass(frozen=True)
class Evaluation:
    """What is known of a run after its evaluation."""

    config: Config
    snapshot: str  # name of the one that was scored
    digest: str  # SHA-256 of its SHA256SUMS
    manifest: str  # SHA-256 of the manifest whose held-out posts it was scored on
    facts: Facts  # of the snapshot
    forgotten: Mark | None  # of its dataset, since its training began
    scene: Scene
    models: tuple[Judged, ...]  # the run's own first
    q: np.ndarray  # float64 [tuples, S], of the run's own
    floor: dict[str, float]  # the least that can be expected
    features: np.ndarray  # float32 [images, feature_dim], of the first MAX_POINTS images
    split: str  # how the dataset was split, and what that makes of the scores
    about_reactions: str  # what is measured of whole reactions, and what cannot be
    readings: Readings | None
    harm: Harm | None  # where somebody is concerned about emojis

    @property
    def scores(self) -> dict[str, Mapping[str, float]]:
        """Of each model, by its label."""
        return {model.label: model.scores for model in self.models}

    @property
    def logged(self) -> dict[str, float]:
        """Of the run's own model, for MLflow: each score, its interval and its floor."""
        own, floor = self.models[0], self.floor
        logged = {}
        for key, score in own.scores.items():
            logged[key] = score
            if key in own.intervals:
                logged |= {f"{key}_{end}": value for end, value in asdict(own.intervals[key]).items()}
            if key in floor:
                logged[f"{key}_floor"] = floor[key]
        return logged

    @property
    def tags(self) -> dict[str, str]:
        """In which metrics the model is better, level and worse than the classifier; for MLflow."""
        (beside,) = (model.beside for model in self.models if model.label == LABEL)
        keys = {word: [key for key in beside if beside[key].word == word] for word in get_args(Word)}
        return {TAG: "; ".join(f"{word}: {', '.join(keys[word])}" for word in keys if keys[word])}

    @property
    def kept(self) -> Kept:
        """The scores, how sure they are, and what was scored."""
        own, *others = self.models
        return Kept(
            snapshot=self.snapshot,
            digest=self.digest,
            manifest=self.manifest,
            scores=self.scores,
            intervals={model.label: model.intervals for model in self.models},
            beside={model.label: model.beside for model in others},
            floor=self.floor,
            seeds=own.seeds,
            readings=self.readings.most if self.readings else None,
            harm=self.harm.concern if self.harm else None,
        )


def evaluate(
    run: Path,
    truth: Truth | None,
    baseline_steps: int | None,
    *,
    names: Sequence[str] = USUAL,
    shards: Folder | None = None,
    vectors: Path | None = None,
    sensitive: Collection[str] = (),
    seeds: Sequence[Path] = (),
) -> Evaluation:
    """Score the best snapshot of a run on the test split.

    What it is compared with is trained, and kept in the run's folder.

    Args:
        truth: of a world; without it, only what people posted is there to compare with.
        baseline_steps: of what is trained; by default it sees as many tuples, or reactions, as the run.
        names: of what it is compared with; the classifier and the marginal always are.
        shards: where they lie by now; by default where they lay when the run was trained.
        vectors: the same.
        sensitive: emojis of which it is told what the model says, per kind of picture.
        seeds: other runs, that differ from this one in the seed alone: how far seeds are apart is told, and
            counts where the run is compared.

    Raises:
        InputError: the run is not trained, or its shards or vectors are no longer those it was trained on; or
            another run differs in more than the seed.
    """
    path, snapshot = best_of(run)
    digest = sha256(path / SUMS)
    config, inputs, vector_file = reopen(run, snapshot.facts, shards, vectors)
    others = _of_other_seeds(run, config, snapshot, seeds)
    mark_run(run, inputs.forgotten)
    scene = set_scene(inputs, vector_file, truth)
    images = scene.held_out.images
    classifier = train_classifier(config, inputs, run, baseline_steps)
    scene = replace(scene, features=features(classifier, images))
    own = answers_of(snapshot, scene)
    given = Given(config, inputs, scene, run, baseline_steps, classifier)
    assert own.q is not None
    scored = [*score_all(chain([own], decodings(snapshot, given), beside(given, names)), scene)]
    alike = [scored[0], *score_all((answers_of(each, scene) for each in others), scene)]
    first, *models = beside_first(scored, by_seed([alike], trainings=1) if others else None)
    models = [replace(first, seeds=_over(alike) if others else {}), *models]
    return Evaluation(
        config=config,
        snapshot=path.name,
        digest=digest,
        manifest=inputs.dataset,
        facts=snapshot.facts,
        forgotten=inputs.forgotten,
        scene=scene,
        models=tuple(models),
        q=own.q,
        floor=floor_of(scene),
        features=snapshot.features(images[:MAX_POINTS]),
        split=inputs.train.text,
        about_reactions=_about_reactions(snapshot, scene),
        readings=find_readings(snapshot, inputs, scene),
        harm=find_harm(snapshot, config, inputs, scene, own.q, sensitive) if sensitive else None,
    )


def _of_other_seeds(run: Path, config: Config, snapshot: Snapshot, seeds: Sequence[Path]) -> list[Snapshot]:
    """The best snapshots of runs that differ in the seed alone."""
    seen, found = {config.optimizer.seed}, []
    for other in seeds:
        (theirs, *_), (_, another) = read_beginning(other), best_of(other)
        same = theirs.but_seed() == config.but_seed() and all(
            getattr(another.facts, fact) == getattr(snapshot.facts, fact) for fact in ("dataset", "vectors")
        )
        if not same or theirs.optimizer.seed in seen:
            raise InputError(
                f"{other} is not {run} with another seed: --seeds takes runs of one recipe, dataset and "
                "vector file, each with a seed of its own. `emojigan compare` takes any."
            )
        seen.add(theirs.optimizer.seed)
        found.append(another)
    return found


def _over(alike: Sequence[Scored]) -> dict[str, tuple[float, ...]]:
    """The scores of several trainings, where all have them."""
    return {
        key: tuple(each.scores[key] for each in alike)
        for key in alike[0].scores
        if all(key in each.scores for each in alike)
    }


def best_of(run: Path) -> tuple[Path, Snapshot]:
    """The snapshot of a run that is the best on the val split. Raises InputError if it has none."""
    path = best_snapshot(steps_in(run / SNAPSHOTS))
    if path is None:
        raise InputError(
            f"{run} has no snapshot. Train first: emojigan train SHARDS --vectors FILE --out {run}."
        )
    return path, load_snapshot(path, "cuda" if torch.cuda.is_available() else "cpu")


def reopen(
    run: Path, facts: Facts, moved_shards: Folder | None, moved_vectors: Path | None
) -> tuple[Config, Inputs, Path]:
    """The config and the inputs of a run, which must be what the snapshot was trained on.

    Of the dataset accounts may be forgotten, but not be back.
    """
    config, shards, vectors = read_beginning(run)
    shards, vectors = moved_shards or shards, moved_vectors or vectors
    origin = read_origin(run)
    inputs = read_inputs(config, shards, vectors, origin)
    if inputs.vectors_hash != facts.vectors:
        raise InputError(
            f"{vectors} is not the vector file that {run} was trained on. Give that by --vectors."
        )
    known = {*inputs.lineage} if origin else {inputs.dataset}
    if not {facts.dataset, inputs.origin.dataset, inputs.origin.latest} <= known:
        raise InputError(
            f"{shards} is not the dataset that {run} was trained on, as it is after every `emojigan shards "
            "forget`. Say by --shards where that lies, or train again."
        )
    return config, inputs, vectors


def beside(given: Given, names: Sequence[str] = USUAL) -> Iterator[Candidate]:
    """What a run's model is compared with, as far as there is such a thing here."""
    for name, baseline in BASELINES.items():
        if name in (*ALWAYS, *names) and (candidate := baseline(given)):
            yield candidate


def answers_of(snapshot: Snapshot, scene: Scene, label: str = "EmojiGAN") -> Candidate:
    """A run's own model."""
    images = scene.held_out.images
    distribution = snapshot.distribution(images, num_samples=NUM_LATENTS, seed=0)
    whole = f" ({FOR_REACTIONS} for whole reactions)" if snapshot.is_tied else ""
    return Candidate(
        label,
        f"The averaged generator after {snapshot.facts.step:,} steps, {NUM_LATENTS:,} latents{whole}.",
        spread(distribution, scene),
        values_of(by_latent(snapshot, images), scene) if snapshot.is_tied else None,
    )


def _true_moods(scene: Scene) -> Iterator[Answers]:
    number, size = len(scene.held_out.images), 100
    return (scene.moods_of(range(first, min(first + size, number))) for first in range(0, number, size))


def floor_of(scene: Scene) -> dict[str, float]:
    """The least that can be expected of each metric that has such a number.

    Where the truth is known, that is what it scores itself, for reactions with its moods as latents; else how
    far posts are from themselves, drawn again. The scores of what was posted are the best possible only on
    average: on few images a lucky model passes them.
    """
    if scene.truth is None:
        return by_chance(scene.said(np.eye(len(scene.support))[scene.observed]))
    found = scores(METRICS, values(METRICS, scene.said(scene.truth)))
    found["tv_50"] = float(sampling_floor(scene.truth, NUM_SAMPLES).mean())  # expected, and not of one draw
    known = values_of(_true_moods(scene), scene) if scene.reactions else None
    return found | (scores(REACTION_METRICS, known) if known else {})


def _about_reactions(snapshot: Snapshot, scene: Scene) -> str:
    """What is measured of whole reactions, and what cannot be."""
    count = scene.posted.count
    if not scene.has_pairs:
        return f"None of {len(count):,} held-out reactions has two emojis: there is nothing whole to measure."
    told = f"{len(count):,} held-out reactions, {(count > 1).sum():,} of them of more than one emoji."
    if not snapshot.is_tied:
        told += (
            " A free output does not say how likely an emoji is under a latent: EmojiGAN has no score here."
        )
    elif snapshot.is_weighted:
        told += " EmojiGAN is scored here with the shift of its training's weights left in."
    return told
