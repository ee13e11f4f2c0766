"""Weights of samples: how much each emoji's tuples count in the losses.

    counts of the vocabulary ─► weights [V], mean 1 over the tuples ─► the shift they cause, and its undoing

Weights in both updates move the optimum from p(e|y) to p(e|y)·w(e)/Z(y); the serving side divides by w.
Everything is in float64 and in log space: k = 750 overflows otherwise.
"""

import numpy as np

from .errors import InputError

SCHEMES = ("none", "exponential", "tfidf")
SMALLEST = float(np.finfo(np.float32).tiny)  # weight that training can hold, and that undoing can square
MIN_EFFECTIVE_SAMPLES = 10.0  # of 50 corrected ones; under it the correction is noise


def weights(scheme: str, counts: np.ndarray, *, k: float, num_posts: int) -> np.ndarray:
    """One weight for each emoji.

    Args:
        scheme: "none" (all 1); "exponential", w = exp(-k · count / all occurrences) (the paper's Eq. 2);
            "tfidf", w = log((posts + 1) / posts with the emoji), a post being the document: each emoji counts
            once in a post, so its term frequency is 1.
        counts: int64 [V], tuples of each emoji.
        k: of the exponential scheme; 0 is the same as none, bit for bit.
        num_posts: posts that the counts come from.

    Returns:
        float64 [V], with mean 1 over the tuples.
    """
    counts = np.asarray(counts, np.float64)
    if scheme == "none":
        logs = np.zeros_like(counts)
    elif scheme == "exponential":
        logs = -k * counts / counts.sum()
    elif scheme == "tfidf":
        logs = np.log(np.maximum(np.log((num_posts + 1) / counts), np.finfo(np.float64).tiny))
    else:
        raise InputError(f"Unknown weights {scheme!r}: choose one of {', '.join(SCHEMES)}.")
    result = np.exp(logs - logs.max())
    result *= counts.sum() / (result @ counts)
    if not (np.isfinite(result) & (result >= SMALLEST)).all():
        raise InputError(
            f"Weights {scheme!r} with k = {k:g} leave the range of numbers. Choose a smaller --k."
        )
    return result


def effective_sample_size(weight: np.ndarray, counts: np.ndarray) -> float:
    """The share of the tuples that the weighted ones are worth: (Σw)² / (n Σw²), in (0, 1]."""
    total = (weight * counts).sum()
    return float(total**2 / (counts.sum() * (weight**2 * counts).sum()))


def undo(distribution: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What the model would say without weights: p ∝ q / w, [n, V] → [n, V].

    Raises:
        InputError: 50 samples of it would be worth fewer than ten.
    """
    corrected = distribution / weight  # [n, V]
    total = corrected.sum(axis=1, keepdims=True)
    effective = 50 * total[:, 0] ** 2 / (corrected / weight).sum(axis=1)
    if effective.mean() < MIN_EFFECTIVE_SAMPLES:
        raise InputError(
            f"The weights of this model cannot be undone: 50 samples are worth {effective.mean():.1f}. "
            "Train with a smaller --k."
        )
    return corrected / total
