"""Weights of samples: how much each emoji's tuples count in the losses.

    counts of the vocabulary ─► weights [V], mean 1 over the tuples ─► the shift they cause, and its undoing

Weights in the updates of both networks move the optimum from p(e|y) to p(e|y)·w(e)/Z(y); the serving side
divides by w. Of reactions they move it to p(S|y)·w(S)/Z(y), where w(S) is the mean of their emojis' weights.
Everything is in float64 and in log space: k = 750 overflows otherwise.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from ..errors import InputError

SCHEMES = ("none", "exponential", "tfidf", "tfidf-corpus")
SMALLEST = float(np.finfo(np.float32).tiny)  # weight: a normal float32 in training, and undoing squares it
NUM_SAMPLES = 50  # of a picture, in the paper
MIN_EFFECTIVE_SAMPLES = 10.0  # that those are worth once the weights are undone; under it the result is noise


def weights(scheme: str, counts: np.ndarray, *, k: float, num_posts: int) -> np.ndarray:
    """One weight for each emoji.

    Args:
        scheme: "none" (all 1); "exponential", w = exp(-k · count / all occurrences) (the paper's Eq. 2);
            "tfidf", w = log((posts + 1) / posts with the emoji), a post being the document: each emoji counts
            once in a post, so its term frequency is 1; "tfidf-corpus", the same times the frequency in the
            whole corpus, count / all occurrences: it favours frequent emojis (up to those in a third of the
            posts), which makes the skew worse.
        counts: int64 [V], tuples of each emoji.
        k: of the exponential scheme; 0 is the same as none, bit for bit.
        num_posts: posts that the counts come from; a shard's images where each emoji counts once an image.

    Returns:
        float64 [V], with mean 1 over the tuples.

    Raises:
        InputError: the scheme is unknown, training cannot hold its weights, or an emoji has more tuples than
            there are posts to look for it in.
    """
    counts = np.asarray(counts, np.float64)
    if scheme == "none":
        logs = np.zeros_like(counts)
    elif scheme == "exponential":
        logs = -k * counts / counts.sum()
    elif scheme in ("tfidf", "tfidf-corpus"):
        if counts.max() > num_posts:
            raise InputError(
                f"Weights {scheme!r} need emojis that count once a post: one has {counts.max():,.0f} "
                f"tuples in {num_posts:,}. Build the shards with --repeat once, or take exponential weights."
            )
        logs = np.log(np.log1p((num_posts + 1 - counts) / counts))
        if scheme == "tfidf-corpus":
            logs += np.log(counts / counts.sum())
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


def samples_after_undoing(distribution: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """How many of 50 samples of each weighted distribution are left once it is undone, [n, V] → [n].

    Each sample of q then counts 1/w, which makes them worth (Σ 1/w)² / Σ 1/w² samples. With the sums replaced
    by their expected values this is 50 (Σ q/w)² / Σ q/w².
    """
    corrected = distribution / weight
    return NUM_SAMPLES * corrected.sum(axis=1) ** 2 / (corrected / weight).sum(axis=1)


def undo(distribution: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What the model would say without weights: p ∝ q / w, [n, V] → [n, V].

    Raises:
        InputError: 50 samples of it would be worth fewer than ten.
    """
    effective = samples_after_undoing(distribution, weight).mean()
    if effective < MIN_EFFECTIVE_SAMPLES:
        raise InputError(
            f"The weights of this model cannot be undone: {NUM_SAMPLES} samples are worth {effective:.1f}. "
            "Train with a smaller --k."
        )
    corrected = distribution / weight  # [n, V]
    return corrected / corrected.sum(axis=1, keepdims=True)


def undo_in_reactions(latents: Iterable[np.ndarray], weight: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """What a model of reactions would say of a tuple without weights, [n, V].

    A reaction S was weighted by w(S), the mean of its emojis' weights, so p(S) ∝ q(S) / w(S) among those of
    as many emojis. Summed over all reactions with an emoji e, under a latent, this is q(e) E[1 / w(S)] with
    the others drawn: by 1/x = ∫ exp(−t x) dt, for given the latent they are independent.

    Args:
        latents: the distribution under each of them, float64 [n, V].
        sizes: share of the reactions with 1, 2, … emojis.
    """
    numbers = (np.flatnonzero(sizes) + 1).tolist()
    decay, step = _integral(weight, numbers[-1])
    totals = dict.fromkeys(numbers, np.zeros(()))
    for q in latents:
        expected = q @ decay
        for number in totals:
            totals[number] = totals[number] + _of_size(number, q, expected, decay, step)
    tuples = [
        sizes[number - 1] * number * total / total.sum(axis=1, keepdims=True)
        for number, total in totals.items()
    ]
    return sum(tuples) / (sizes * np.arange(1, len(sizes) + 1)).sum()


def undo_by_latent(q: np.ndarray, weight: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What latents say together of an image without weights, and how far each of them moves it.

    The second is the derivative of p by how much a latent counts, times their number. It has the mean 0, and
    p, a ratio of means, is off by as much as the mean of it, to first order (the delta method).

    Args:
        q: the distribution under each latent, float64 [L, V].
        sizes: as in `undo_in_reactions`; empty where the weights were those of tuples.

    Returns:
        float64 [V] and [L, V].

    Raises:
        InputError: 50 samples of it would be worth fewer than ten.
    """
    undo(q.mean(axis=0, keepdims=True), weight)  # refuses what cannot be
    p, moved = np.zeros(q.shape[1]), np.zeros_like(q)
    for share, undone in _undone(q, weight, sizes):
        mass = undone.sum(axis=1).mean()
        mean = undone.mean(axis=0) / mass
        p += share * mean
        moved += share * (undone / mass - np.outer(undone.sum(axis=1) / mass, mean))
    return p, moved


def _undone(q: np.ndarray, weight: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Of reactions of each size, what share of the tuples they have, and q [L, V] without their weights."""
    if not len(sizes):
        yield 1.0, q / weight
        return
    numbers = (np.flatnonzero(sizes) + 1).tolist()
    decay, step = _integral(weight, numbers[-1])
    expected = q @ decay
    for number in numbers:
        share = sizes[number - 1] * number / (sizes * np.arange(1, len(sizes) + 1)).sum()
        yield share, _of_size(number, q, expected, decay, step)


def _integral(weight: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """exp(−t w) and dt, [V, T] and [T]: the trapezoidal rule over log t.

    From where exp(−t x) is 1 to where it is 0, for x of up to `most` weights.
    """
    log_t = np.arange(np.log(1e-12 / (most * weight.max())), np.log(40 / weight.min()), 0.2)
    return np.exp(-np.outer(weight, np.exp(log_t))), np.exp(log_t) * 0.2


def _of_size(
    number: int, q: np.ndarray, expected: np.ndarray, decay: np.ndarray, step: np.ndarray
) -> np.ndarray:
    """q(e) E[1 / w(S)] over reactions S of a size with e, [n, V].

    Args:
        expected: q @ decay, E[exp(−t w)] of another emoji, [n, T].
    """
    return q * ((step * expected ** (number - 1)) @ decay.T)
