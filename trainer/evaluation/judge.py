"""Models judged alike, on the same held-out posts.

Candidate: q of tuples, values of reactions ─► values ─┬► scores ────┐
                                 posts drawn again ────┴► intervals ─┼► Judged
runs that differ in the seed alone ─► how far seeds are apart ───────┘
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .baselines.baseline import Candidate
from .bootstrap import DRAWS, Comparison, Interval, Resamples, compare
from .metrics.metric import Floats, Metric, Said, scores, values
from .metrics.reactions import REACTION_METRICS, Answers, Posted, judge
from .metrics.scene import Scene
from .metrics.table import METRICS

METRIC: dict[str, Metric[Any]] = {metric.key: metric for metric in (*METRICS, *REACTION_METRICS)}


@dataclass(frozen=True)
class Scored:
    """A model, and by the key of a metric its score, and that in each draw of posts, [draws]."""

    label: str
    explanation: str
    scores: Mapping[str, float]
    drawn: Mapping[str, Floats]


@dataclass(frozen=True)
class Judged:
    """A model, and by the key of a metric: its score, how sure that is, and how the run's own model does."""

    label: str
    explanation: str
    scores: Mapping[str, float]
    intervals: Mapping[str, Interval]
    beside: Mapping[str, Comparison]  # of the run's own model, none
    seeds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # scores of as many trainings


def score_all(candidates: Iterable[Candidate], scene: Scene) -> Iterator[Scored]:
    """Score each, and once more in each draw of posts, the same for all."""
    resamples = Resamples.of(int(scene.post.max()) + 1)
    post = {
        "tuple": scene.post[scene.held_out.image],
        "reaction": scene.post[scene.posted.image],
        "image": scene.post,
    }
    for candidate in candidates:
        found = {} if candidate.q is None else values(METRICS, scene.said(candidate.q))
        found |= candidate.reactions or {}
        told = scores(METRIC.values(), found)
        drawn = {
            key: resamples.scores(METRIC[key], found[key], post[METRIC[key].rows])
            for key in told
            if METRIC[key].rows != "all"
        }
        yield Scored(candidate.label, candidate.explanation, told, drawn)


def keys_without_truth(*, whole: bool) -> list[str]:
    """Keys of the metrics that a model has where the truth is not known, and no other model.

    Args:
        whole: those of whole reactions, too.
    """
    half = np.full((2, 2), 0.5)
    emoji, same = np.array([0, 1]), np.array([0, 0])
    found = values(METRICS, Said(half, emoji, np.eye(2), 1 - np.eye(2), shares=half[0]))
    if whole:
        found |= judge([Answers.equal(half[None])], Posted.of(same, emoji, same), 2)
    return [*scores(METRIC.values(), found)]


def beside_first(scored: Sequence[Scored], chance: Mapping[str, Floats] | None = None) -> list[Judged]:
    """How the first is beside each other one.

    Args:
        chance: by the key of a metric, what a difference may be by chance beside that of the posts, [draws].
    """
    own, chance = scored[0], chance or {}
    return [
        Judged(
            each.label,
            each.explanation,
            each.scores,
            intervals={key: Interval.of(drawn) for key, drawn in each.drawn.items()},
            beside={
                key: compare(METRIC[key], own.drawn[key], drawn, chance.get(key, 0.0))
                for key, drawn in each.drawn.items()
                if key in own.drawn and each is not own
            },
        )
        for each in scored
    ]


def by_seed(groups: Sequence[Sequence[Scored]], trainings: int = 2) -> dict[str, Floats]:
    """How far a difference is off by the seeds, by the key of a metric, [draws]; nothing of no group.

    t-distributed, with as many degrees of freedom as there are runs beyond one of each group that has the
    metric.

    Args:
        groups: runs that differ in the seed alone.
        trainings: that the difference is of; 1 where the other side is no such run.
    """
    rng, found = np.random.default_rng(1), {}
    for key in dict.fromkeys(key for group in groups for key in group[0].drawn):
        losses = [
            np.array([METRIC[key].loss(each.scores[key]) for each in group])
            for group in groups
            if all(key in each.drawn for each in group)
        ]
        if not losses:
            continue
        freedom = sum(len(each) - 1 for each in losses)
        squares = sum(float(np.square(each - each.mean()).sum()) for each in losses)
        found[key] = np.sqrt(trainings * squares / freedom) * rng.standard_t(freedom, DRAWS)
    return found
