"""What moves which metric: answers that are wrong in one way each, beside the true ones."""

from dataclasses import replace

import numpy as np
import pytest

from emojigan.trainer.evaluation.metrics.frechet import by_chance
from emojigan.trainer.evaluation.metrics.metric import Said, scores, values
from emojigan.trainer.evaluation.metrics.table import METRICS

CLASSES, EMOJIS, SAID, IMAGES = 12, 200, 30, 2400

# Worse (x), better (o), or as the truth (.). A metric that is blind to something is to be read beside one
# that is not: who ignores the image passes the marginal ones, and hardly any proper score sees thin junk.
TABLE = """
                   extra_on_mode only_mode image_ignored thin_junk to_nearest to_random tail_dropped swapped
tv                             x         x             x         x          x         x            x       x
tv_50                          x         x             x         x          x         x            .       x
pooled_tv                      x         x             x         x          x         x            x       x
js                             x         x             x         x          x         x            x       x
emd                            x         x             x         x          x         x            x       x
precision                      .         x             x         x          x         x            .       x
recall                         .         x             x         .          .         .            x       x
junk                           .         .             x         x          x         x            .       x
modes_covered                  .         x             x         .          .         .            x       x
entropy_ratio                  x         x             x         x          x         x            x       .
mode_stability                 o         o             x         .          x         x            .       .
energy_score                   x         x             x         .          x         x            .       x
brier                          x         x             x         .          x         x            .       x
nll                            x         x             x         x          x         x            x       x
top1                           .         .             x         .          .         .            .       x
calibration_error              x         x             .         x          x         x            x       x
frequency_error                x         x             .         x          x         x            x       .
fed                            x         x             .         .          x         x            .       .
fed_infinity                   x         x             .         .          x         x            .       .
fed_clusters                   x         x             x         x          x         x            x       x
fed_joint                      x         x             x         .          x         x            .       x
"""
CLEAR = {  # what a score must change by to have moved: more than its chance, in this world
    "tv_50": 0.02,
    "recall": 0.02,
    "precision": 0.02,
    "entropy_ratio": 0.1,
    "mode_stability": 0.06,
    "energy_score": 0.006,
    "nll": 0.05,
    "calibration_error": 0.05,
    "frequency_error": 0.02,
    "fed": 0.004,
    "fed_infinity": 0.004,
    "fed_clusters": 0.03,
    "fed_joint": 0.007,
}


@pytest.fixture(scope="module")
def world() -> Said:
    """Classes of images, each with emojis of its own, and vectors of which some lie close together."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 30))[rng.integers(20, size=EMOJIS)] + 0.5 * rng.normal(size=(EMOJIS, 30))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = np.zeros((CLASSES, EMOJIS))
    for row in table:
        row[rng.choice(EMOJIS, SAID, replace=False)] = rng.dirichlet(3 / np.arange(1, SAID + 1))
    of = np.repeat(np.arange(CLASSES), IMAGES // CLASSES)
    truth = table[of]
    return Said(
        q=truth,
        observed=np.array([rng.choice(EMOJIS, p=row) for row in truth]),
        vectors=vectors,
        distance=np.linalg.norm(vectors[:, None] - vectors, axis=-1),
        shares=truth.mean(axis=0),
        truth=truth,
        groups=of,
        features=np.eye(CLASSES)[of] + 0.05 * rng.normal(size=(IMAGES, CLASSES)),
        clusters=of,
    )


def corrupted(world: Said) -> dict[str, np.ndarray]:
    p, rng = world.q, np.random.default_rng(1)
    mode = np.eye(EMOJIS)[p.argmax(axis=1)]
    nearest = (world.distance + 9 * np.eye(EMOJIS)).argmin(axis=1)
    moved = p @ np.eye(EMOJIS)[nearest]
    first = np.where(p >= np.sort(p, axis=1)[:, [-8]], p, 0)
    return {
        "extra_on_mode": 0.7 * p + 0.3 * mode,
        "only_mode": mode,
        "image_ignored": np.tile(p.mean(axis=0), (IMAGES, 1)),
        "thin_junk": 0.9 * p + 0.1 / EMOJIS,
        "to_nearest": 0.7 * p + 0.3 * moved,
        "to_random": 0.7 * p + 0.3 * p[:, rng.permutation(EMOJIS)],
        "tail_dropped": first / first.sum(axis=1, keepdims=True),
        "swapped": p[::-1],  # each image has another one's answer
    }


def of(world: Said, q: np.ndarray) -> dict[str, float]:
    said = replace(world, q=q)
    return scores(METRICS, values(METRICS, said))


def test_each_metric_moves_where_it_should_and_stays_where_it_should(world: Said):
    head, *lines = (line.split() for line in TABLE.strip().splitlines())
    expected = {key: dict(zip(head, marks, strict=True)) for key, *marks in lines}
    known, seen = of(world, world.q), {}
    for name, q in corrupted(world).items():
        found = of(world, q)
        for metric in METRICS:
            more = metric.loss(found[metric.key]) - metric.loss(known[metric.key])
            moved = abs(more) > CLEAR.get(metric.key, 0.01)
            seen.setdefault(metric.key, {})[name] = ("x" if more > 0 else "o") if moved else "."
    assert seen == expected


def test_a_frechet_distance_of_posts_is_their_floor_by_chance_and_none_of_infinitely_many(world: Said):
    posts = np.eye(EMOJIS)[world.observed]
    floor, known = by_chance(replace(world, q=posts)), of(world, world.q)
    assert known["fed"] == pytest.approx(floor["fed"], rel=0.5)
    assert known["fed_clusters"] == pytest.approx(floor["fed_clusters"], rel=0.5)
    assert abs(known["fed_infinity"]) < known["fed"] / 2
    bare = replace(world, truth=None, groups=None, features=None, clusters=None)
    parts = np.array_split(np.random.default_rng(2).permutation(IMAGES), 6)
    few = [replace(bare, q=world.q[rows], observed=world.observed[rows]) for rows in parts]
    of_few = [of(part, part.q) for part in few]
    assert np.mean([each["fed"] for each in of_few]) > 4 * known["fed"]
    assert abs(np.mean([each["fed_infinity"] for each in of_few])) < 2 * known["fed"]


def test_what_needs_truth_or_features_is_left_out_without_them(world: Said):
    bare = replace(world, truth=None, groups=None, features=None, clusters=None)
    assert list(of(bare, world.q)) == [
        *("mode_stability", "energy_score", "brier", "nll", "top1"),
        *("calibration_error", "frequency_error", "fed", "fed_infinity"),
    ]
