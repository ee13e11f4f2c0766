"""A table of emoji vectors as a page for people and a few lines for the terminal.

EmojiVectors (+ vocabulary of shards) ─► probes ─► VectorReport ─┬─► report.html.j2 ─► one page
                                                                 └─► format_table ─► text
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...printable import printable
from ...store.atomic import write_atomic
from ..text import display
from .probes import (
    Cover,
    Hubs,
    Riddle,
    Space,
    analogies,
    compositions,
    coverage,
    duplicates,
    hubs,
    median_rank,
    neighbours,
    sequences,
    space,
)
from .word2vec import EmojiVectors

_FEWEST = 12  # emojis that can be mapped and have neighbours worth a page
_CARDS = 40  # emojis whose neighbours are shown
_PER_CARD = 6
_HUBS = 12
# The most used emojis (Unicode's list of 2021 and emojitracker's), where no shards say what is used.
_POPULAR = "😂❤🤣👍😭🙏😘🥰😍😊🎉😁💕🥺😅🔥☺🤦♥🤷🙄😆🤗😉🎂🤔👏🙂😳🥳😎👌💜😔💪✨💖👀😋📸🐶🍕✈🌅"


@dataclass(frozen=True)
class Point:
    """An emoji on the map, from 0 to 1000 both ways; `used` if it is in the vocabulary."""

    emoji: str
    x: float
    y: float
    used: bool


@dataclass(frozen=True)
class VectorReport:
    """What the page shows."""

    file: str
    vectors: EmojiVectors
    filled: frozenset[str]
    folded: int  # emojis that are compared, variants folded
    genders: int  # and with gender variants, for the riddles
    coverage: Mapping[str, Cover] | None
    points: tuple[Point, ...]
    cards: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    analogies: tuple[Riddle, ...]
    compositions: tuple[Riddle, ...]
    sequences: tuple[Riddle, ...]
    hubs: Hubs
    duplicates: tuple[tuple[str, ...], ...]


def examine(vectors: EmojiVectors, file: str, vocabulary: Mapping[str, int] | None) -> VectorReport:
    """Probe a table.

    Args:
        file: its name, to be shown.
        vocabulary: emoji → tuples of a dataset, the most frequent first.
    """
    folded, genders = space(vectors, variants=False), space(vectors, variants=True)
    if len(folded.emojis) < _FEWEST:
        raise InputError(f"{file} has vectors of {len(folded.emojis)} emojis: a report needs {_FEWEST}.")
    shown = [e for e in vocabulary or _POPULAR if e in folded.index][:_CARDS]
    return VectorReport(
        file,
        vectors,
        frozenset(vectors.origin.filled if vectors.origin else ()),
        len(folded.emojis),
        len(genders.emojis),
        coverage(vectors, vocabulary) if vocabulary is not None else None,
        _map(folded, vocabulary),
        tuple((e, tuple(neighbours(folded, e, _PER_CARD))) for e in shown),
        tuple(analogies(genders)),
        tuple(compositions(genders)),
        tuple(sorted(sequences(genders), key=lambda riddle: riddle.rank)),
        hubs(folded, _HUBS),
        tuple(duplicates(folded)),
    )


def format_table(report: VectorReport) -> str:
    """The report as a few aligned lines."""
    count, dimension = report.vectors.matrix.shape
    filled = f", {len(report.filled)} filled" if report.filled else ""
    lines = [("vectors", f"{count} of {dimension} dimensions{filled}; {report.folded} without variants")]
    for kind, cover in (report.coverage or {}).items():
        lines.append(
            (f"vocabulary: {LOOKUPS[kind][0]}", f"{len(cover.emojis)}, {cover.share:.1%} of the tuples")
        )
    for what, riddles in riddle_sets(report).items():
        if riddles:
            lines.append((what, _solved(riddles, report.genders)))
    lines.append(
        ("hubs", f"skew {report.hubs.skew:.2f}, centred {report.hubs.skew_centred:.2f}; {_most(report.hubs)}")
    )
    together = sum(map(len, report.duplicates))
    lines.append(("duplicates", f"{together} emojis" if together else "none"))
    width = max(len(label) for label, _ in lines)
    return "\n".join(f"{label.ljust(width)}  {printable(text)}" for label, text in lines)


LOOKUPS = {
    "trained": ("own vector", "in the file, as trained or given"),
    "filled": ("filled", "in the file, estimated from their names and keywords"),
    "relative": (
        "a relative's",
        "borrowed from the untoned or folded emoji, a variant, or the mean of its parts",
    ),
    "none": ("none", "none: such tuples are left out of the training"),
}
"""How an emoji of a vocabulary gets its vector: in short, and in full."""


def riddle_sets(report: VectorReport) -> dict[str, tuple[Riddle, ...]]:
    """The riddles by what they are."""
    return {
        "analogies": report.analogies,
        "compositions": report.compositions,
        "ZWJ sequences": report.sequences,
    }


def write_page(report: VectorReport, path: Path) -> None:
    """Write the page, which needs no other file and no network."""
    from ...pages.page import render

    page = render(
        Path(__file__).with_name("report.html.j2"),
        report=report,
        lookups=LOOKUPS,
        riddle_sets=riddle_sets(report),
        median_rank=median_rank,
    )
    write_atomic(path, page)


def _solved(riddles: Sequence[Riddle], among: int) -> str:
    first = sum(riddle.rank == 1 for riddle in riddles)
    alone = np.median([riddle.rank_of_best_part for riddle in riddles])
    return (
        f"{first} of {len(riddles)} solved; median rank {median_rank(riddles):g} of {among} "
        f"(the best part alone {alone:g}, chance {among // 2})"
    )


def _most(hubs: Hubs) -> str:
    return ", ".join(f"{display(e)} near {count}" for e, count in hubs.most[:5])


def _map(space: Space, vocabulary: Mapping[str, int] | None) -> tuple[Point, ...]:
    """The emojis in the plane: t-SNE of their cosine distances."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(space.emojis) - 1) / 3)
    tsne = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=0, n_jobs=1)
    plane = tsne.fit_transform(space.rows)  # [emojis, 2]
    low, high = plane.min(axis=0), plane.max(axis=0)
    scaled = 1000 * (plane - low) / np.maximum(high - low, 1e-9)
    return tuple(
        Point(e, float(x), float(y), vocabulary is None or e in vocabulary)
        for e, (x, y) in zip(space.emojis, scaled, strict=True)
    )
