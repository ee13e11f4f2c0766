"""emoji2vec's published vectors, cleaned, repaired and completed.

emoji2vec.bin ─► one trained row per emoji ─┐
words of names and keywords, their topics ──┴─► ridge regression ─► a row for every emoji, trained or filled

Eisner et al., "emoji2vec: Learning emoji representations from their description", SocialNLP 2016. Of its
1,661 keys 17 are no emojis, 47 emojis occur twice with different vectors, and dozens were never trained:
their descriptions were all in the validation and test sets, so they are still what they were initialised
with. Emojis since 2016 are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from ...errors import InputError
from ...store.atomic import sha256
from ..text import all_canonical, canonical, display
from .names import build_vectors, word_features
from .word2vec import Origin, keyed, read_word2vec, unit

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

_ALPHAS = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0)
_HELD_OUT = 5  # one trained emoji of so many is held out to choose alpha
_FEWEST = 50  # trained emojis that a regression can learn from


@dataclass(frozen=True)
class Cleaned:
    """What is in a file: float32 rows by canonical emoji, variants kept, and what was left out."""

    keys: int  # in the file
    rows: dict[str, np.ndarray]
    junk: tuple[str, ...]  # keys that are no emojis
    twins: tuple[str, ...]  # emojis that had several keys
    untrained: tuple[str, ...]  # emojis of which no key was trained


@dataclass(frozen=True)
class Fit:
    """The regression's strength, and how well it did on emojis that it had not seen."""

    alpha: float
    cosine: float  # mean cosine of regression and truth
    cosine_of_mean: float  # the same of the mean vector, which knows nothing of the emoji
    cosine_stretched: float  # the same of what is filled in
    median_rank: float  # of the truth among all trained vectors, by cosine to what is filled in; 1 is best


def complete(path: Path) -> tuple[KeyedVectors, Origin]:
    """Clean a file of trained vectors; estimate one for every folded emoji that it lacks from its words.

    A variant that was not trained is left out: its emoji's vector stands for it (`resolve` in word2vec.py).
    """
    cleaned = clean(path)
    known = [e for e in all_canonical() if e in cleaned.rows]
    lacking = [e for e in all_canonical() if e not in cleaned.rows]
    if len(known) < _FEWEST:
        raise InputError(f"{path} has {len(known)} trained emojis, too few to estimate others: {_FEWEST}.")
    rows = np.stack([cleaned.rows[e] for e in known]).astype(np.float64)
    with threadpool_limits(1):  # so that sums are taken in one order
        alike = _alike([*known, *lacking], known)
        filled, fit = fill(alike[: len(known)], rows, alike[len(known) :])
    facts = {
        "keys": cleaned.keys,
        "junk": len(cleaned.junk),
        "twins": len(cleaned.twins),
        "never trained": " ".join(map(display, cleaned.untrained)),
        "alpha": fit.alpha,
        "held-out cosine": round(fit.cosine, 4),
        "held-out cosine of the mean vector": round(fit.cosine_of_mean, 4),
        "held-out cosine as filled": round(fit.cosine_stretched, 4),
        "held-out median rank as filled": fit.median_rank,
    }
    table = keyed([*cleaned.rows, *lacking], np.stack([*cleaned.rows.values(), *filled.astype(np.float32)]))
    return table, Origin("emoji2vec", {path.name: sha256(path)}, facts, tuple(lacking))


def clean(path: Path) -> Cleaned:
    """One row per emoji: of several keys the one that was trained, else the qualified one, else the first."""
    vectors = read_word2vec(path)
    keys = list(map(str, vectors.index_to_key))
    trained = ~never_trained(vectors.vectors)
    candidates: dict[str, list[int]] = {}
    junk = []
    for i, key in enumerate(keys):
        if e := canonical(key, keep_variants=True):
            candidates.setdefault(e, []).append(i)
        else:
            junk.append(key)
    best = {e: max(rows, key=lambda i: (trained[i], keys[i] == display(e))) for e, rows in candidates.items()}
    return Cleaned(
        len(keys),
        {e: vectors.vectors[i] for e, i in best.items() if trained[i]},
        tuple(junk),
        tuple(e for e, rows in candidates.items() if len(rows) > 1),
        tuple(e for e, i in best.items() if not trained[i]),
    )


def never_trained(matrix: np.ndarray) -> np.ndarray:
    """Which rows [n, d] are still as initialised, evenly distributed between two bounds: bool [n].

    Such a row is near to no other, and its kurtosis is an even distribution's, -1.2. Rows that were trained
    little are near to none either, but Adam's first steps, of one size, have left values of two sizes: -2.
    """
    rows = unit(matrix.astype(np.float64))
    cosine = rows @ rows.T
    np.fill_diagonal(cosine, -1)
    centred = matrix - matrix.mean(axis=1, keepdims=True)
    kurtosis = (centred**4).mean(axis=1) / np.maximum((centred**2).mean(axis=1), 1e-30) ** 2 - 3
    return (cosine.max(axis=1) < 0.3) & (np.abs(kurtosis + 1.2) < 0.35)


def fill(kernel: np.ndarray, rows: np.ndarray, cross: np.ndarray) -> tuple[np.ndarray, Fit]:
    """Estimate rows [m, d] of emojis from trained ones.

    Kernel ridge regression on the rows' directions, the mean as intercept. It shrinks what it is unsure of
    towards the mean, where an emoji would be among the nearest of very many others; so an estimate is moved
    away from the mean until it is as long as a trained row. One emoji in five is held out to choose alpha.

    Args:
        kernel: how alike the trained ones' words are, float64 [n, n].
        rows: the trained ones', float64 [n, d].
        cross: how alike the wanted ones' words are to the trained ones', float64 [m, n].
    """
    directions = unit(rows)
    held_out, seen = np.split(np.random.default_rng(0).permutation(len(rows)), [len(rows) // _HELD_OUT])
    mean, truth = directions[seen].mean(axis=0), directions[held_out]
    deviations = {
        alpha: _ridge(kernel[np.ix_(seen, seen)], directions[seen], kernel[np.ix_(held_out, seen)], alpha)
        for alpha in _ALPHAS
    }

    def cosine(estimates: np.ndarray) -> float:
        return float((unit(estimates) * truth).sum(axis=1).mean())

    alpha = max(_ALPHAS, key=lambda each: cosine(mean + deviations[each]))
    stretched = _stretch(deviations[alpha], mean)
    scores = stretched @ directions.T
    ranks = 1 + (scores > scores[np.arange(len(held_out)), held_out][:, None]).sum(axis=1)
    fit = Fit(
        alpha,
        cosine(mean + deviations[alpha]),
        cosine(np.tile(mean, (len(held_out), 1))),
        cosine(stretched),
        float(np.median(ranks)),
    )
    estimates = _stretch(_ridge(kernel, directions, cross, alpha), directions.mean(axis=0))
    return estimates * np.median(np.linalg.norm(rows, axis=1)), fit


def _alike(emojis: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """How alike emojis are, [emojis, others]: half by their words, half by their cosine in the default table.

    In the table words that never meet share topics, so that every emoji is like some other.
    """
    table = build_vectors()
    topics = {e: table[e] if e in table else np.zeros(table.vector_size) for e in {*emojis, *others}}
    words = (word_features(emojis) @ word_features(others).T).toarray()
    return (words + np.stack([topics[e] for e in emojis]) @ np.stack([topics[e] for e in others]).T) / 2


def _ridge(kernel: np.ndarray, rows: np.ndarray, cross: np.ndarray, alpha: float) -> np.ndarray:
    """Deviations from the mean of the rows, float64 [m, d]."""
    return cross @ np.linalg.solve(kernel + alpha * np.eye(len(rows)), rows - rows.mean(axis=0))


def _stretch(deviations: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """mean + s · deviation, with s > 0 such that the norm is 1; without a deviation, the mean."""
    a = np.maximum((deviations**2).sum(axis=1), 1e-30)
    b = deviations @ mean
    s = (np.sqrt(b**2 + a * (1 - mean @ mean)) - b) / a
    return mean + s[:, None] * deviations
