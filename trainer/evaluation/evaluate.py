"""A run on held-out posts, beside two baselines and, where it is known, the truth.

    run's best snapshot ┐
    marginal, classifier ┴─► q [tuples, support] ─► score ─► evaluation.json, report/, MLflow

Each row is one tuple of the test split. The support is all that a model can say, people posted, or the truth
holds: emojis too rare for the vocabulary count against every model.
"""

import json
from pathlib import Path

import numpy as np
import yaml
from torch import Tensor

from ...datasets.errors import InputError
from ...datasets.store.atomic import write_atomic
from ...datasets.worlds.truth import Truth
from ..config import Config
from ..inputs import Inputs, read_inputs
from ..model.snapshot import Snapshot, load_snapshot
from ..run import EVALUATION, REPORT, best_snapshot, read_beginning
from ..tracking import log_evaluation
from . import metrics
from .baselines import classify, marginal, train_classifier
from .figures import MAX_POINTS, Bar, Embedding, Example, tsne
from .report import Column, Report, format_table, write_report
from .scene import Scene, set_scene, spread

NUM_LATENTS = 50  # for each image
NUM_BARS = 30  # emojis of the paper's Fig. 3
NUM_EXAMPLES = 8
TOP = 10


def evaluate(run: Path, truth_file: Path | None, baseline_steps: int | None) -> str:
    """Score the best snapshot of a run; write `evaluation.json` and `report/`; add both to the MLflow run.

    Args:
        truth_file: of a world; without it, only what people posted is there to compare with.
        baseline_steps: of the classifier; twice the steps of the run by default.

    Returns:
        The table of the metrics, as text.

    Raises:
        InputError: the run is not trained, or its shards or vectors are no longer those it was trained on.
    """
    path = best_snapshot(run)
    snapshot = load_snapshot(path)
    config, inputs, vector_file = _reopen(run, snapshot)
    scene = set_scene(inputs, vector_file, Truth.read(truth_file) if truth_file else None)
    images = scene.held_out.images
    classifier = train_classifier(config, inputs, run, baseline_steps or 2 * config.optimizer.steps)
    models = {
        "EmojiGAN": snapshot.distribution(images, num_samples=NUM_LATENTS, seed=0),
        "Softmax classifier": classify(classifier, images),
        "Marginal": np.tile(marginal(inputs), (len(images), 1)),
    }
    explanations = (
        f"The averaged generator after {snapshot.facts.step:,} steps, {NUM_LATENTS} latents an image.",
        "The same trunk and the same tuples, with a softmax over the vocabulary.",
        "How often each emoji is posted, whatever the image.",
    )
    rows = {label: spread(q, inputs.vocabulary, scene) for label, q in models.items()}
    scores = {label: _score(q, scene) for label, q in rows.items()}
    columns = tuple(
        Column(label, text, scores[label]) for label, text in zip(models, explanations, strict=True)
    )
    floor = None
    if scene.truth is not None:
        floor = metrics.floor(scene.truth, scene.observed, distance=scene.distance, groups=scene.groups)
    facts = {
        "run": run.name,
        "snapshot": f"step {snapshot.facts.step:,}, the best on the val split",
        "held out": f"{len(images):,} images, {len(scene.observed):,} tuples, {len(scene.support)} emojis",
        "dataset": snapshot.facts.dataset,
        "vectors": snapshot.facts.vectors,
        "config": yaml.safe_dump(config.model_dump(), default_flow_style=True, width=1000).strip(),
    }
    report = Report(
        title="EmojiGAN: what would people react with?",
        columns=columns,
        floor=floor,
        embedding=_embedding(snapshot, images, models["EmojiGAN"]),
        histogram=_histogram(rows["EmojiGAN"], scene),
        examples=_examples(rows["EmojiGAN"], scene),
        facts=facts,
    )
    write_report(report, run / REPORT)
    result = {"snapshot": path.name, "scores": scores, "floor": floor}
    write_atomic(run / EVALUATION, json.dumps(result, indent=1) + "\n")
    log_evaluation(run, scores["EmojiGAN"], run / REPORT, run / EVALUATION)
    return format_table(columns, floor)


def _reopen(run: Path, snapshot: Snapshot) -> tuple[Config, Inputs, Path]:
    """The config and the inputs of a run, which must be what the snapshot was trained on."""
    config, shards, vectors = read_beginning(run)
    inputs = read_inputs(config, shards, vectors)
    for name, place, now, then in (
        ("dataset", shards, inputs.dataset, snapshot.facts.dataset),
        ("vector file", vectors, inputs.vectors_hash, snapshot.facts.vectors),
    ):
        if now != then:
            raise InputError(f"{place} is not the {name} that {run} was trained on. Put that back there.")
    return config, inputs, vectors


def _score(q: np.ndarray, scene: Scene) -> dict[str, float]:
    return metrics.score(q, scene.observed, distance=scene.distance, truth=scene.truth, groups=scene.groups)


def _embedding(snapshot: Snapshot, images: Tensor, q: np.ndarray) -> Embedding:
    """Fig. 2: images by the features of the generator's trunk, each with its likeliest emoji."""
    shown = images[:MAX_POINTS]
    likeliest = q[:MAX_POINTS].argmax(axis=1)
    return Embedding(
        points=tsne(snapshot.features(shown)),
        images=shown.permute(0, 2, 3, 1).numpy(),
        emojis=tuple(snapshot.facts.vocabulary[emoji] for emoji in likeliest),
    )


def _histogram(q: np.ndarray, scene: Scene) -> tuple[Bar, ...]:
    """Fig. 3: the most used emojis, their true share (or counted, where no truth is known) and the fitted."""
    size = len(scene.support)
    counted = np.bincount(scene.observed, minlength=size) / len(scene.observed)
    true = counted if scene.truth is None else scene.truth.mean(axis=0)
    fitted = q.mean(axis=0)
    most_used = np.argsort(-true, kind="stable")[:NUM_BARS].tolist()
    return tuple(Bar(scene.support[e], float(fitted[e]), float(true[e])) for e in most_used)


def _examples(q: np.ndarray, scene: Scene) -> tuple[Example, ...]:
    """Fig. 4: the likeliest emojis of some images; one of each group, as far as there is room."""
    image, first = np.unique(scene.held_out.image, return_index=True)  # a tuple of each image
    if scene.groups is not None:
        _, one_each = np.unique(scene.groups[first], return_index=True)
        image, first = image[one_each], first[one_each]
    chosen = np.linspace(0, len(first) - 1, min(NUM_EXAMPLES, len(first))).astype(int)
    return tuple(_example(int(image[n]), q[first[n]], int(first[n]), scene) for n in chosen)


def _example(image: int, q: np.ndarray, row: int, scene: Scene) -> Example:
    truth = None if scene.truth is None else scene.truth[row]
    posted = np.flatnonzero(scene.held_out.image == image)
    likeliest = np.argsort(-q, kind="stable")[:TOP].tolist()
    return Example(
        image=scene.held_out.images[image].permute(1, 2, 0).numpy(),
        caption=f"post {scene.held_out.posts[image]}",
        observed=tuple(scene.held_out.emojis[n] for n in posted),
        bars=tuple(
            Bar(scene.support[e], float(q[e]), None if truth is None else float(truth[e])) for e in likeliest
        ),
    )
