"""What is in a table of emoji vectors: probes that need no gold standard but the emojis themselves.

EmojiVectors ─► Space (directions of the emojis that are compared) ─► neighbours, hubs, duplicates, riddles
EmojiVectors + vocabulary of shards ─► coverage

A riddle is a sum whose answer is known: an analogy (🤴 − 👨 + 👩 = 👸), or a composition. Unicode itself
gives compositions: a ZWJ sequence such as ❤️‍🔥 is drawn as the union of its parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..text import canonical, without_tone
from .word2vec import EmojiVectors, resolve, unit

NEIGHBOURS = 10  # of each emoji; a hub is among those of very many
DUPLICATE = 0.999  # cosine
_ZWJ = "\u200d"

ANALOGIES = (  # a − b + c = answer
    ("👑", "🚹", "🚺", "👸"),
    ("💵", "🇺🇸", "🇬🇧", "💷"),
    ("💵", "🇺🇸", "🇪🇺", "💶"),
    ("💵", "🇺🇸", "🇯🇵", "💴"),
    ("🤴", "👨", "👩", "👸"),
    ("👦", "👨", "👩", "👧"),
    ("👴", "👨", "👩", "👵"),
    ("🎅", "👨", "👩", "🤶"),
    ("👨‍🚀", "👨", "👩", "👩‍🚀"),
    ("🗼", "🇯🇵", "🇺🇸", "🗽"),
    ("🍕", "🇮🇹", "🇯🇵", "🍣"),
    ("🍕", "🇮🇹", "🇲🇽", "🌮"),
    ("😺", "😃", "😍", "😻"),
    ("😹", "😂", "😢", "😿"),
    ("🐶", "🐕", "🐈", "🐱"),
    ("🐮", "🐄", "🐖", "🐷"),
    ("🐭", "🐁", "🐇", "🐰"),
    ("🌞", "☀", "🌕", "🌝"),
)
COMPOSITIONS = (  # parts, answer; beside the ZWJ sequences
    ("😍🐱", "😻"),
    ("😂🐱", "😹"),
    ("😢🐱", "😿"),
    ("❤🏹", "💘"),
    ("❤🎁", "💝"),
    ("❤💋", "😘"),
    ("🏠🌳", "🏡"),
    ("🎅🌲", "🎄"),
    ("🐷👃", "🐽"),
    ("🌽🎥", "🍿"),
    ("☀🌧", "🌦"),
    ("⚡🌧", "⛈"),
    ("❄⛰", "🏔"),
    ("👨👩👧", "👪"),
    ("🎂🎉", "🥳"),
    ("📷⚡", "📸"),
)


@dataclass(frozen=True)
class Space:
    """Emojis and their directions: float64 [emojis, dimension], rows of norm 1."""

    emojis: tuple[str, ...]
    rows: np.ndarray

    @cached_property
    def index(self) -> dict[str, int]:
        """The row of each emoji."""
        return {e: i for i, e in enumerate(self.emojis)}

    @cached_property
    def cosine(self) -> np.ndarray:
        """float64 [emojis, emojis], -1 between an emoji and itself."""
        cosine = self.rows @ self.rows.T
        np.fill_diagonal(cosine, -1)
        return cosine

    def centred(self) -> Space:
        """The same about the mean of the rows, as the default recipe trains on them."""
        return Space(self.emojis, unit(self.rows - self.rows.mean(axis=0)))


@dataclass(frozen=True)
class Cover:
    """The emojis of a vocabulary that are served in one way, each with the emoji whose row it gets, or the
    parts whose mean."""

    emojis: tuple[tuple[str, str | None], ...]
    share: float  # of the tuples


@dataclass(frozen=True)
class Riddle:
    """A sum of emojis whose answer is known."""

    plus: tuple[str, ...]
    minus: tuple[str, ...]
    answer: str
    rank: int  # of the answer among all emojis but the parts; 1 is best
    rank_of_best_part: int  # where the answer is among the neighbours of that single part it is closest to
    nearest: tuple[str, ...]


@dataclass(frozen=True)
class Hubs:
    """How unevenly emojis are among the 10 nearest of others."""

    skew: float  # of the number of lists an emoji is in; 0 is even, above 1 a few emojis are near everything
    skew_centred: float
    most: tuple[tuple[str, int], ...]  # the emojis in most lists, and in how many
    in_none: int  # emojis that are in no list


def space(vectors: EmojiVectors, *, variants: bool) -> Space:
    """Emojis with a vector of their own and no skin tone: all, or those to which variants fold."""
    kept = [
        i
        for i, e in enumerate(vectors.emojis)
        if (without_tone(e) == e if variants else canonical(e) == e) and vectors.matrix[i].any()
    ]
    return Space(tuple(vectors.emojis[i] for i in kept), unit(vectors.matrix[kept].astype(np.float64)))


def coverage(vectors: EmojiVectors, vocabulary: Mapping[str, int]) -> dict[str, Cover]:
    """How a vocabulary (emoji → tuples) is served: trained, filled, by a relative's vector, or by none."""
    filled = set(vectors.origin.filled) if vectors.origin else set()
    served: dict[str, list[tuple[str, str | None]]] = {
        "trained": [],
        "filled": [],
        "relative": [],
        "none": [],
    }
    for e, rows in zip(vocabulary, resolve(vectors, vocabulary), strict=True):
        found = "".join(vectors.emojis[row] for row in rows) or None
        kind = (
            "none" if found is None else "relative" if found != e else "filled" if e in filled else "trained"
        )
        served[kind].append((e, found))
    total = max(sum(vocabulary.values()), 1)
    return {
        kind: Cover(tuple(pairs), sum(vocabulary[e] for e, _ in pairs) / total)
        for kind, pairs in served.items()
    }


def neighbours(space: Space, emoji: str, count: int) -> list[tuple[str, float]]:
    """The nearest emojis by cosine, nearest first."""
    cosine = space.cosine[space.index[emoji]]
    return [(space.emojis[i], float(cosine[i])) for i in np.argsort(-cosine, kind="stable")[:count]]


def hubs(space: Space, count: int) -> Hubs:
    """Who is among the nearest of many (Radovanović et al., "Hubs in space", JMLR 2010)."""
    from scipy.stats import skew

    lists, centred = _occurrences(space), _occurrences(space.centred())
    most = [(space.emojis[i], int(lists[i])) for i in np.argsort(-lists, kind="stable")[:count]]
    return Hubs(float(skew(lists)), float(skew(centred)), tuple(most), int((lists == 0).sum()))


def duplicates(space: Space) -> list[tuple[str, ...]]:
    """Groups of emojis that nothing tells apart: joined by cosines above 0.999; the largest first."""
    from scipy.sparse.csgraph import connected_components

    _, group = connected_components(space.cosine > DUPLICATE, directed=False)
    members: dict[int, list[str]] = {}
    for e, g in zip(space.emojis, group, strict=True):
        members.setdefault(g, []).append(e)
    return sorted((tuple(each) for each in members.values() if len(each) > 1), key=len, reverse=True)


def analogies(space: Space) -> list[Riddle]:
    """Those of the known analogies all of whose emojis have a vector."""
    known = ((a, b, c, d) for a, b, c, d in ANALOGIES if {a, b, c, d} <= space.index.keys())
    return [_solve(space, (a, c), (b,), d) for a, b, c, d in known]


def compositions(space: Space) -> list[Riddle]:
    """The known compositions all of whose emojis have a vector."""
    return _compose(space, ((tuple(parts), answer) for parts, answer in COMPOSITIONS))


def sequences(space: Space) -> list[Riddle]:
    """The ZWJ sequences all of whose parts have a vector, as sums of the parts. One gender is enough."""
    joined = (e for e in space.emojis if _ZWJ in e and canonical(e) == e)
    return _compose(space, ((tuple(e.split(_ZWJ)), e) for e in joined))


def median_rank(riddles: Sequence[Riddle]) -> float:
    """The middle of the answers' ranks; chance is at half the emojis."""
    return float(np.median([riddle.rank for riddle in riddles]))


def _compose(space: Space, sums: Iterable[tuple[tuple[str, ...], str]]) -> list[Riddle]:
    return [
        _solve(space, parts, (), answer) for parts, answer in sums if {*parts, answer} <= space.index.keys()
    ]


def _solve(space: Space, plus: tuple[str, ...], minus: tuple[str, ...], answer: str) -> Riddle:
    parts = [space.index[e] for e in (*plus, *minus)]
    signs = np.array([1.0] * len(plus) + [-1.0] * len(minus))
    scores = space.rows @ (signs @ space.rows[parts])
    others = np.setdiff1d(np.arange(len(space.emojis)), parts)
    alone = min(_rank(space.rows @ space.rows[i], others, space.index[answer]) for i in parts[: len(plus)])
    nearest = others[np.argsort(-scores[others], kind="stable")[:3]]
    return Riddle(
        plus,
        minus,
        answer,
        _rank(scores, others, space.index[answer]),
        alone,
        tuple(space.emojis[i] for i in nearest),
    )


def _rank(scores: np.ndarray, others: np.ndarray, answer: int) -> int:
    return 1 + int((scores[others] > scores[answer]).sum())


def _occurrences(space: Space) -> np.ndarray:
    """In how many emojis' nearest ten each is, int64 [emojis]."""
    k = min(NEIGHBOURS, len(space.emojis) - 1)
    nearest = np.argpartition(-space.cosine, k - 1, axis=1)[:, :k]
    return np.bincount(nearest.ravel(), minlength=len(space.emojis))
