"""How far a model's distributions over emojis are from the truth, and from what people posted.

q [n, V], observed [n] (truth p [n, V], groups [n]) ─► values [n] ─► means ─► {metric: mean}

Everything is float64. Row i of q and of p is a distribution for held-out image i over V emojis: the union of
what the model, the truth and the posts can say. Where the truth is known its metrics lead: a proper score
ranks models, but does not say how far the best possible value is; `floor` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, rel_entr
from scipy.stats import binom

Floats = NDArray[np.float64]
Ids = NDArray[np.integer]
Value = TypeVar("Value", float, Floats)

NUM_SAMPLES = 50  # per image, as in the paper
MODE = 0.01  # an emoji with at least this probability is a mode of the truth,
COVERED = 0.2  # and covered if the model gives it at least this share of its probability.
UNSEEN = 0.001  # spread evenly for the NLL: an emoji that a model cannot say must not cost infinity


@dataclass(frozen=True)
class Metric:
    """What one number means to its reader; `key` is its name in an evaluation and in MLflow."""

    key: str
    label: str
    better: Literal["lower", "higher", "one"]
    explanation: str
    is_mean: bool = True  # of values that each are of one post; only of such a metric an interval is drawn

    def loss(self, value: Value) -> Value:
        """`value` on a scale where less is better; nan stays nan."""
        return {"lower": value, "higher": -value, "one": abs(value - 1)}[self.better]


METRICS = (
    Metric(
        "tv",
        "Total variation",
        "lower",
        "Probability on the wrong emojis, image by image: 0 is the truth, 1 has nothing in common with it.",
    ),
    Metric(
        "tv_50",
        "Total variation of 50 samples",
        "lower",
        "The same for a histogram of 50 samples per image, which is what the paper draws. Even the truth, "
        "sampled, does not reach 0.",
    ),
    Metric(
        "pooled_tv",
        "Total variation, pooled",
        "lower",
        "Averages over the images of one photograph or cluster before comparing: systematic error alone. "
        "Without an interval: posts drawn again would add their noise to it.",
        is_mean=False,
    ),
    Metric("js", "Jensen–Shannon divergence", "lower", "In nats: 0 is the truth, ln 2 ≈ 0.69 the worst."),
    Metric("junk", "Junk", "lower", "Probability on emojis that nobody would post under the image."),
    Metric(
        "modes_covered",
        "Modes covered",
        "higher",
        "Share of the emojis with a true probability of 1 % or more that get at least a fifth of it.",
    ),
    Metric(
        "entropy_ratio",
        "Entropy ratio",
        "one",
        "Effective number of emojis per image over the true number: below 1 is collapse, above 1 is blur.",
    ),
    Metric(
        "energy_score",
        "Energy score",
        "lower",
        "Distance to the emoji somebody posted, less half the spread of the answer; a grin for a smile "
        "costs little.",
    ),
    Metric("brier", "Brier score", "lower", "Squared error against the emoji somebody posted."),
    Metric(
        "nll",
        "Negative log-likelihood",
        "lower",
        "Surprise, in nats, at the emoji somebody posted; 0.1 % is set aside for emojis never seen.",
    ),
    Metric("top1", "First guess right", "higher", "How often the likeliest emoji is what somebody posted."),
)
"""Every metric, in the order in which tables show them."""


def total_variation(q: Floats, p: Floats) -> Floats:
    """½ Σ_v |q_v − p_v|, in [0, 1]. -> [n]"""
    return np.abs(q - p).sum(-1) / 2


def jensen_shannon(q: Floats, p: Floats) -> Floats:
    """½ KL(q ‖ m) + ½ KL(p ‖ m) with m = (p + q) / 2, in nats, in [0, ln 2] (Lin 1991). -> [n]"""
    middle = (q + p) / 2
    return (rel_entr(q, middle) + rel_entr(p, middle)).sum(-1) / 2


def junk(q: Floats, p: Floats) -> Floats:
    """Mass of q where p is zero. -> [n]"""
    return np.where(p == 0, q, 0).sum(-1)


def entropy_ratio(q: Floats, p: Floats) -> Floats:
    """exp H(q) / exp H(p): effective numbers of emojis. -> [n]"""
    return np.exp(entr(q).sum(-1) - entr(p).sum(-1))


def modes_covered(q: Floats, p: Floats) -> Floats:
    """Share of the v with p_v ≥ .01 for which q_v ≥ .2 p_v; 1 where p has no such v. -> [n]"""
    modes = p >= MODE  # [n, V]
    covered = (modes & (q >= COVERED * p)).sum(-1)
    return np.where(modes.any(-1), covered / np.maximum(modes.sum(-1), 1), 1.0)


def energy_score(q: Floats, observed: Ids, distance: Floats) -> Floats:
    """E D(X, e) − ½ E D(X, X') for independent X, X' ~ q and the observed emoji e. -> [n]

    Proper for a Euclidean ground distance `distance` [V, V] (Gneiting & Raftery 2007, section 4.3): what it
    exceeds the truth's by is, in expectation, half the energy distance.
    """
    expected = q @ distance  # [n, V]: E D(X, v)
    return _at(expected, observed) - (expected * q).sum(-1) / 2


def brier(q: Floats, observed: Ids) -> Floats:
    """Σ_v q_v² − 2 q_e + 1 for the observed emoji e, in [0, 2] (Brier 1950). -> [n]"""
    return np.square(q).sum(-1) - 2 * _at(q, observed) + 1


def negative_log_likelihood(q: Floats, observed: Ids) -> Floats:
    """−ln q_e for the observed emoji e, in nats; infinite where q_e is 0. -> [n]"""
    with np.errstate(divide="ignore"):
        return -np.log(_at(q, observed))


def top1(q: Floats, observed: Ids) -> Floats:
    """1 where the observed emoji is the likeliest, else 0; the first of equals counts as likeliest. -> [n]"""
    return (q.argmax(-1) == observed).astype(np.float64)


def pooled(q: Floats, groups: Ids) -> Floats:
    """The mean distribution of each group, groups in rising order of their id. -> [G, V]"""
    ids, row = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(ids), q.shape[1]))
    np.add.at(sums, row, q)
    return sums / np.bincount(row)[:, None]


def sample_histogram(q: Floats, num_samples: int, seed: int) -> Floats:
    """Frequencies of `num_samples` independent draws from each row of q. -> [n, V]"""
    exact = q / q.sum(-1, keepdims=True)  # NumPy refuses a sum of 1 + 1e-11
    return np.random.default_rng(seed).multinomial(num_samples, exact) / num_samples


def sampling_floor(p: Floats, num_samples: int) -> Floats:
    """Expected total variation between p and a histogram of `num_samples` draws from p itself. -> [n]

    Exact: N_v is binomial, and by De Moivre E|N_v − np| = 2 k (1 − p) P(N_v = k) with k = ⌊np⌋ + 1 (Diaconis
    & Zabell 1991). This is the distance that even a perfect model shows when it is known by
    `num_samples` samples only: a lower one is chance.
    """
    k = np.floor(num_samples * p) + 1  # [n, V]
    return (k * (1 - p) * binom.pmf(k, num_samples, p)).sum(-1) / num_samples


def values(
    q: Floats,
    observed: Ids,
    *,
    distance: Floats,
    truth: Floats | None = None,
    groups: Ids | None = None,
    seed: int = 0,
) -> dict[str, Floats]:
    """Every metric that can be had, under the keys of METRICS, a value a row [n]; of pooled_tv a group.

    Args:
        q: the model's distributions, [n, V].
        observed: the emoji somebody posted under each image, ids below V, [n].
        distance: |E_v − E_w| of unit emoji vectors, [V, V].
        truth: the true distributions, [n, V]; without it, only the proper scores and top1.
        groups: photograph or cluster of each image, [n]; without it, no pooled_tv.
        seed: of the 50 samples.

    Raises:
        ValueError: q or truth has a row that is no distribution, or shapes disagree.
    """
    q = _distributions("q", q)
    n, num_emojis = q.shape
    if distance.shape != (num_emojis, num_emojis) or observed.shape != (n,):
        raise ValueError(f"q {q.shape}, observed {observed.shape} and distance {distance.shape} do not fit")
    found = {
        "energy_score": energy_score(q, observed, distance),
        "brier": brier(q, observed),
        "nll": negative_log_likelihood((1 - UNSEEN) * q + UNSEEN / num_emojis, observed),
        "top1": top1(q, observed),
    }
    if truth is not None:
        p = _distributions("truth", truth)
        if p.shape != q.shape:
            raise ValueError(f"q {q.shape} and truth {p.shape} do not fit")
        found |= {
            "tv": total_variation(q, p),
            "tv_50": total_variation(sample_histogram(q, NUM_SAMPLES, seed), p),
            "js": jensen_shannon(q, p),
            "junk": junk(q, p),
            "modes_covered": modes_covered(q, p),
            "entropy_ratio": entropy_ratio(q, p),
        }
        if groups is not None:
            found["pooled_tv"] = total_variation(pooled(q, groups), pooled(p, groups))
    return {metric.key: found[metric.key] for metric in METRICS if metric.key in found}


def means(found: Mapping[str, Floats]) -> dict[str, float]:
    """The score of each metric: the mean of its values that are not nan. One without any is left out."""
    return {key: float(np.nanmean(each)) for key, each in found.items() if not np.isnan(each).all()}


def floor(truth: Floats, observed: Ids, *, distance: Floats, groups: Ids | None = None) -> dict[str, float]:
    """What the truth itself scores: the value to compare each metric with. Arguments as for `values`.

    `tv_50` is the exact expectation, not one draw. The scores of what was posted (energy_score and those
    after it) are the best possible only on average: on few images a lucky model passes them.
    """
    scores = means(values(truth, observed, distance=distance, truth=truth, groups=groups))
    return scores | {"tv_50": float(sampling_floor(_distributions("truth", truth), NUM_SAMPLES).mean())}


def _at(values: Floats, observed: Ids) -> Floats:
    return values[np.arange(len(values)), observed]


def _distributions(name: str, rows: Floats) -> Floats:
    """The rows in float64, summing to 1 to the last bit that a softmax in float32 may lack."""
    rows = np.asarray(rows, np.float64)
    sums = rows.sum(-1, keepdims=True)
    if not (rows.ndim == 2 and len(rows) and (rows >= 0).all() and np.allclose(sums, 1, rtol=0, atol=1e-4)):
        raise ValueError(f"{name} must be [n, V] with rows that are distributions")
    return rows / sums
