"""What weights would do to a dataset, told before anything is trained.

    manifest ─► counts of the train split ─► a grid of schemes and k ─► the effect of each ─► a table, or JSON

Weights move what a model learns from p to p·w. The shift told here is that of the marginal, the shares of the
emojis in all tuples: so far a model moves on an image that tells it nothing. On one that does, the shift is
among the emojis that suit it. Emojis without a vector count here, but training leaves them out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..emojis.text import display
from ..emojis.weights import (
    MIN_EFFECTIVE_SAMPLES,
    NUM_SAMPLES,
    effective_sample_size,
    samples_after_undoing,
    weights,
)
from ..errors import InputError
from ..shards.manifest import Manifest

KS = (1.0, 10.0, 100.0)
SHARES = (0.5, 0.1)  # what the weighted tuples are worth, as a share of all: the k that gives each is shown
LISTED = 10  # emojis that gain most, and that lose most
BAR = 10  # characters of the longest bar


@dataclass(frozen=True)
class Effect:
    """What weights do to the data and to the optimum."""

    scheme: str
    k: float | None  # of the exponential scheme
    largest_over_smallest: float
    effective_share: float  # what the weighted tuples are worth, as a share of all
    effective_tuples: float
    total_variation: float  # between the marginal and the shifted one
    gain: dict[str, float]  # canonical emoji → what its share of the marginal gains; the ten that gain most
    lose: dict[str, float]  # the ten that lose most; negative
    samples_left: float  # what 50 samples of the shifted marginal are worth, once the weights are undone
    can_be_undone: bool


@dataclass(frozen=True)
class Refusal:
    """Weights that training refuses."""

    scheme: str
    k: float | None
    refused: str


def effects(manifest: Manifest, ks: Sequence[float] = ()) -> list[Effect | Refusal]:
    """The effect of no weights, of exponential ones with each k, and of both kinds of tf-idf.

    Args:
        manifest: of the dataset.
        ks: to look at; if empty, 1, 10, 100, and those with which the tuples are worth a half and a tenth.

    Raises:
        InputError: the dataset has no vocabulary.
    """
    if not manifest.vocabulary:
        raise InputError("No emoji to weigh: build the shards from more posts or with a smaller --min-count.")
    counts = np.array(list(manifest.vocabulary.values()), np.int64)
    num_posts = sum(shard.images for shard in manifest.of_split("train"))  # as training counts them
    if not ks:
        ks = sorted({*KS, *(k for share in SHARES if (k := k_worth(share, counts)) is not None)})
    grid = [("none", None), *(("exponential", k) for k in ks), ("tfidf", None), ("tfidf-corpus", None)]
    found = []
    for scheme, k in grid:
        try:
            weight = weights(scheme, counts, k=k or 0.0, num_posts=num_posts)
        except InputError as error:
            found.append(Refusal(scheme, k, str(error)))
        else:
            found.append(_effect(scheme, k, list(manifest.vocabulary), counts, weight))
    return found


def k_worth(share: float, counts: np.ndarray) -> float | None:
    """The k, to three digits, with which the tuples are worth this share; None where no k goes so low.

    The share falls as k rises, so it is found by halving an interval.
    """
    frequency = counts / counts.sum()

    def worth(k: float) -> float:
        return effective_sample_size(np.exp(-k * (frequency - frequency.min())), counts)

    low, high = 0.0, 1.0
    while worth(high) > share:
        low, high = high, 2 * high
        if high > 1e12:
            return None
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if worth(middle) > share else (low, middle)
    return float(f"{high:.3g}")


def table(found: Sequence[Effect | Refusal]) -> str:
    """A line for each effect, then what gains and loses with it."""
    lines = [
        f"{'weights':<13}{'k':>9}{'max/min':>10}{'tuples worth':>19}  {'':{BAR}}{'shift':>8}"
        f"{f'undone, of {NUM_SAMPLES}':>15}"
    ]
    for each in found:
        start = f"{each.scheme:<13}{'' if each.k is None else f'{each.k:g}':>9}"
        if isinstance(each, Refusal):
            lines.append(f"{start}  {each.refused}")
            continue
        bar = "█" * round(BAR * each.effective_share)
        lines.append(
            f"{start}{each.largest_over_smallest:>10.3g}{each.effective_tuples:>12,.0f}"
            f"{each.effective_share:>7.1%}  {bar:<{BAR}}{each.total_variation:>8.1%}"
            f"{each.samples_left:>15.1f}{'' if each.can_be_undone else '  refused'}"
        )
    lines += ["", "What gains and what loses, in points of the whole:"]
    for each in found:
        if isinstance(each, Effect) and each.total_variation:
            lines.append(each.scheme if each.k is None else f"{each.scheme}, k = {each.k:g}")
            for shifts in (each.gain, each.lose):
                lines.append(
                    "  " + "  ".join(f"{display(e)} {100 * shift:+.2g}" for e, shift in shifts.items())
                )
    return "\n".join(lines)


def _effect(
    scheme: str, k: float | None, emojis: list[str], counts: np.ndarray, weight: np.ndarray
) -> Effect:
    share = effective_sample_size(weight, counts)
    marginal = counts / counts.sum()
    shift = marginal * (weight - 1)  # p·w sums to 1, since the weights have mean 1
    left = float(samples_after_undoing((marginal * weight)[None], weight)[0])

    def most(sign: int) -> dict[str, float]:
        order = np.argsort(-sign * shift, kind="stable")[:LISTED]
        return {emojis[e]: float(shift[e]) for e in order if sign * shift[e] > 0}

    return Effect(
        scheme=scheme,
        k=k,
        largest_over_smallest=float(weight.max() / weight.min()),
        effective_share=share,
        effective_tuples=share * int(counts.sum()),
        total_variation=float(np.abs(shift).sum() / 2),
        gain=most(1),
        lose=most(-1),
        samples_left=left,
        can_be_undone=left >= MIN_EFFECTIVE_SAMPLES,
    )
