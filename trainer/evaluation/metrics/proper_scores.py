"""How well a model's distributions foretell what people posted. Needs no truth.

A proper score is least, in expectation, for the true distribution (Gneiting & Raftery 2007): it ranks models,
but does not say how far the best possible value is.
"""

import numpy as np

from .metric import Floats, Ids, Metric, Said, at

UNSEEN = 0.001  # spread evenly for the NLL: an emoji that a model cannot say must not cost infinity


def energy_score(q: Floats, observed: Ids, distance: Floats) -> Floats:
    """E D(X, e) − ½ E D(X, X') for independent X, X' ~ q and the observed emoji e. -> [n]

    Proper for a Euclidean ground distance `distance` [V, V] (Gneiting & Raftery 2007, section 4.3): what it
    exceeds the truth's by is, in expectation, half the energy distance.
    """
    expected = q @ distance  # [n, V]: E D(X, v)
    return at(expected, observed) - (expected * q).sum(-1) / 2


def brier(q: Floats, observed: Ids) -> Floats:
    """Σ_v q_v² − 2 q_e + 1 for the observed emoji e, in [0, 2] (Brier 1950). -> [n]"""
    return np.square(q).sum(-1) - 2 * at(q, observed) + 1


def negative_log_likelihood(q: Floats, observed: Ids) -> Floats:
    """−ln q_e for the observed emoji e, in nats; infinite where q_e is 0. -> [n]"""
    with np.errstate(divide="ignore"):
        return -np.log(at(q, observed))


def top1(q: Floats, observed: Ids) -> Floats:
    """1 where the observed emoji is the likeliest, else 0; the first of equals counts as likeliest. -> [n]"""
    return (q.argmax(-1) == observed).astype(np.float64)


def _surprise(said: Said) -> Floats:
    return negative_log_likelihood((1 - UNSEEN) * said.q + UNSEEN / said.q.shape[1], said.observed)


METRICS: tuple[Metric[Said], ...] = (
    Metric(
        "energy_score",
        "Energy score",
        "lower",
        "Distance to the emoji somebody posted, less half the spread of the answer; a grin for a smile "
        "costs little.",
        lambda said: energy_score(said.q, said.observed, said.distance),
    ),
    Metric(
        "brier",
        "Brier score",
        "lower",
        "Squared error against the emoji somebody posted.",
        lambda said: brier(said.q, said.observed),
    ),
    Metric(
        "nll",
        "Negative log-likelihood",
        "lower",
        "Surprise, in nats, at the emoji somebody posted; 0.1 % is set aside for emojis never seen.",
        _surprise,
    ),
    Metric(
        "top1",
        "First guess right",
        "higher",
        "How often the likeliest emoji is what somebody posted.",
        lambda said: top1(said.q, said.observed),
    ),
)
