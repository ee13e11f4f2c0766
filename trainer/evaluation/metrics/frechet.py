"""Fréchet Emoji Distance: between two clouds of emoji vectors, by their means and covariances.

    FED = |m₁ − m₂|² + tr(S₁ + S₂ − 2 (S₁ S₂)^½)            (Heusel et al. 2017, of emoji vectors)

Of a distribution over emojis both are known without sampling; only the posts are a sample, and n of them are
further away than infinitely many, by about c / n. `fed_infinity` takes that away (Chong & Forsyth 2020).
Each needs posts alone; `by_chance` says how far posts are from themselves, drawn again.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .metric import Floats, Ids, Metric, Said

DRAWS = 10  # of half of the posts, and of `by_chance`

Moments = tuple[Floats, Floats]
"""Mean [d] and covariance [d, d]."""


def moments(p: Floats, vectors: Floats) -> Moments:
    """Of the vectors [V, d] of emojis that are drawn from p [V]."""
    mean = p @ vectors
    return mean, (vectors.T * p) @ vectors - np.outer(mean, mean)


def joint_moments(q: Floats, features: Floats, vectors: Floats) -> Moments:
    """Of an image's features and the vector of an emoji under it, one behind the other, [f + d].

    After FJD (DeVries et al. 2019): it sees whether emojis are under the right images.

    Args:
        q: over the emojis of each image, [n, V].
        features: [n, f].
        vectors: [V, d].
    """
    of_images, of_emojis = features.mean(axis=0), moments(q.mean(axis=0), vectors)
    centred = features - of_images
    across = centred.T @ (q @ vectors) / len(q)  # [f, d]
    within = centred.T @ centred / len(q)
    return (
        np.concatenate([of_images, of_emojis[0]]),
        np.block([[within, across], [across.T, of_emojis[1]]]),
    )


def frechet(one: Moments, other: Moments) -> float:
    """The distance; both covariances may be singular."""
    (m, s), (n, t) = one, other
    eigenvalues, basis = np.linalg.eigh(s)
    root = (basis * _roots(eigenvalues)) @ basis.T
    between = _roots(np.linalg.eigvalsh(root @ t @ root))
    return float(np.square(m - n).sum() + np.trace(s) + np.trace(t) - 2 * between.sum())


def _roots(eigenvalues: NDArray[np.floating]) -> Floats:
    """Square roots; what rounding left of a 0 is one, for the root of 10⁻¹⁶ would be 10⁻⁸."""
    least = eigenvalues.max() * len(eigenvalues) * np.finfo(np.float64).eps
    return np.sqrt(np.where(eigenvalues > least, eigenvalues, 0))


def _marginal(q: Floats, said: Said, rows: Ids) -> float:
    """Between all images' mean answer `q` and the posts of some rows."""
    posted = np.bincount(said.observed[rows], minlength=q.shape[1]) / len(rows)
    return frechet(moments(q.mean(axis=0), said.vectors), moments(posted, said.vectors))


def _infinite(q: Floats, said: Said, rows: Ids) -> float:
    """The same of infinitely many posts: where a line by 1/n, through n and its half, meets 0.

    Below some hundred posts it is no line, and what comes out is too small.
    """
    rng = np.random.default_rng(0)
    halves = [rng.permutation(rows)[: max(1, len(rows) // 2)] for _ in range(DRAWS)]
    return 2 * _marginal(q, said, rows) - float(np.mean([_marginal(q, said, half) for half in halves]))


def _clustered(q: Floats, said: Said, rows: Ids) -> float | None:
    """The marginal one of each cluster of images, weighted by its posts."""
    if said.clusters is None:
        return None
    total = 0.0
    for cluster in np.unique(said.clusters[rows]):
        here, asked = rows[said.clusters[rows] == cluster], said.clusters == cluster
        total += len(here) * _marginal(q[asked], said, here)
    return total / len(rows)


def _joint(q: Floats, said: Said, rows: Ids) -> float | None:
    """Of images and emojis together; the features are scaled to spread as far as vectors of length 1."""
    if said.features is None:
        return None
    scale = np.sqrt(said.features.var(axis=0).sum()) or 1.0
    features = said.features / scale
    posted = np.eye(q.shape[1])[said.observed[rows]]
    return frechet(
        joint_moments(q, features, said.vectors), joint_moments(posted, features[rows], said.vectors)
    )


OF: dict[str, Callable[[Floats, Said, Ids], float | None]] = {
    "fed": _marginal,
    "fed_infinity": _infinite,
    "fed_clusters": _clustered,
    "fed_joint": _joint,
}


def _of(key: str) -> Callable[[Said], Floats | None]:
    def of(said: Said) -> Floats | None:
        found = OF[key](said.q, said, np.arange(len(said.q)))
        return None if found is None else np.array([found])

    return of


def by_chance(said: Said) -> dict[str, float]:
    """How far as many posts, drawn from those that there are, lie from them: by chance alone."""
    rng, n = np.random.default_rng(0), len(said.q)
    posts = np.eye(said.q.shape[1])[said.observed]
    draws = [rng.integers(n, size=n) for _ in range(DRAWS)]
    found = {
        key: [each for rows in draws if (each := of(posts, said, rows)) is not None] for key, of in OF.items()
    }
    return {key: float(np.mean(each)) for key, each in found.items() if each}


METRICS: tuple[Metric[Said], ...] = (
    Metric(
        "fed",
        "Fréchet emoji distance",
        "lower",
        "Between the emojis of all answers and of all posts, by the means and covariances of their vectors. "
        "Who ignores the images passes it; few posts make it larger.",
        _of("fed"),
        rows="all",
    ),
    Metric(
        "fed_infinity",
        "Fréchet distance, unlimited posts",
        "lower",
        "What is left of it where the number of posts no longer counts; by chance it may be below 0.",
        _of("fed_infinity"),
        rows="all",
    ),
    Metric(
        "fed_clusters",
        "Fréchet distance, by cluster",
        "lower",
        "Its mean over clusters of images that look alike: who ignores the images fails it.",
        _of("fed_clusters"),
        rows="all",
    ),
    Metric(
        "fed_joint",
        "Fréchet distance, with images",
        "lower",
        "Of the vectors of emojis and the features of their images together.",
        _of("fed_joint"),
        rows="all",
    ),
)
