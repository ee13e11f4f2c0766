"""A run on held-out posts, beside two baselines and, where it is known, the truth.

run's best snapshot ┐
marginal, classifier ┴─► q [tuples, support] ─► scores ─► Evaluation
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...datasets.errors import InputError
from ...datasets.store.folder import Folder
from ...datasets.worlds.truth import Truth
from ..config import Config
from ..forgotten import Mark, mark_run
from ..inputs import Inputs, read_inputs
from ..model.snapshot import Facts, best_snapshot, load_snapshot
from ..run import SNAPSHOTS, read_beginning, read_origin, steps_in
from . import metrics
from .baselines import classify, marginal, train_classifier
from .figures import MAX_POINTS
from .readings import Readings, find_readings
from .scene import Scene, set_scene, spread

NUM_LATENTS = 50  # for each image


@dataclass(frozen=True)
class Judged:
    """A model, its answers on the held-out tuples, and what `metrics.score` gave them."""

    label: str
    explanation: str
    q: np.ndarray  # float64 [tuples, S]
    scores: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """What is known of a run after its evaluation."""

    config: Config
    snapshot: str  # name of the one that was scored
    facts: Facts  # of the snapshot
    forgotten: Mark | None  # of its dataset, since its training began
    scene: Scene
    models: tuple[Judged, ...]  # the run's own first
    floor: dict[str, float] | None  # what the truth itself scores, where it is known
    features: np.ndarray  # float32 [images, feature_dim], of the first MAX_POINTS images
    split: str  # how the dataset was split, and what that makes of the scores
    readings: Readings | None

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Of each model, by its label."""
        return {model.label: model.scores for model in self.models}

    def to_json(self) -> str:
        """The scores, and what was scored."""
        content = {"snapshot": self.snapshot, "scores": self.scores, "floor": self.floor}
        content |= {"readings": self.readings.most if self.readings else None}
        return json.dumps(content, indent=1) + "\n"


def evaluate(
    run: Path,
    truth: Truth | None,
    baseline_steps: int | None,
    *,
    shards: Folder | None = None,
    vectors: Path | None = None,
) -> Evaluation:
    """Score the best snapshot of a run on the test split.

    The classifier that it is compared with is trained, and kept in the run's folder.

    Args:
        truth: of a world; without it, only what people posted is there to compare with.
        baseline_steps: of the classifier; twice the steps of the run by default.
        shards: where they lie by now; by default where they lay when the run was trained.
        vectors: the same.

    Raises:
        InputError: the run is not trained, or its shards or vectors are no longer those it was trained on.
    """
    path = best_snapshot(steps_in(run / SNAPSHOTS))
    if path is None:
        raise InputError(
            f"{run} has no snapshot. Train first: emojigan train SHARDS --vectors FILE --out {run}."
        )
    snapshot = load_snapshot(path)
    config, inputs, vector_file = _reopen(run, snapshot.facts, shards, vectors)
    mark_run(run, inputs.forgotten)
    scene = set_scene(inputs, vector_file, truth)
    images = scene.held_out.images
    classifier = train_classifier(config, inputs, run, baseline_steps or 2 * config.optimizer.steps)
    answers = {
        "EmojiGAN": (
            snapshot.distribution(images, num_samples=NUM_LATENTS, seed=0),
            f"The averaged generator after {snapshot.facts.step:,} steps, {NUM_LATENTS} latents an image.",
        ),
        "Softmax classifier": (
            classify(classifier, images),
            "The same trunk and the same tuples, with a softmax over the vocabulary.",
        ),
        "Marginal": (
            np.tile(marginal(inputs), (len(images), 1)),
            "How often each emoji is posted, whatever the image.",
        ),
    }
    models = []
    for label, (distribution, explanation) in answers.items():
        q = spread(distribution, inputs.vocabulary, scene)
        models.append(Judged(label, explanation, q, _score(q, scene)))
    floor = None
    if scene.truth is not None:
        floor = metrics.floor(scene.truth, scene.observed, distance=scene.distance, groups=scene.groups)
    return Evaluation(
        config=config,
        snapshot=path.name,
        facts=snapshot.facts,
        forgotten=inputs.forgotten,
        scene=scene,
        models=tuple(models),
        floor=floor,
        features=snapshot.features(images[:MAX_POINTS]),
        split=inputs.train.manifest.split_text,
        readings=find_readings(snapshot, inputs, scene, truth),
    )


def _reopen(
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


def _score(q: np.ndarray, scene: Scene) -> dict[str, float]:
    return metrics.score(q, scene.observed, distance=scene.distance, truth=scene.truth, groups=scene.groups)
