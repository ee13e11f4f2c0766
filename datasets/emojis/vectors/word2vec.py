"""Emoji vectors: where each canonical emoji sits in space.

names, emoji2vec, descriptions, captions ─► word2vec file ─► EmojiVectors ─► rows of a vocabulary

Any word2vec file with emoji keys loads, whoever made it.

A file of ours ends with a line of JSON about its origin, after the last row, where readers of the word2vec
format have stopped reading: so it is one file, its hash covers both, and stock gensim reads it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError
from ...store.atomic import sha256
from ..text import canonical, display, without_tone

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|(?:(?!.[\ufe0f\u20e3])[^\W_ℹ\u3040-\u30ff\u3400-\u9fff])+")
"""A word; of Han and kana, written without spaces, a character. No part of an emoji, such as 1️⃣, is one."""
_ORIGIN = b"\n# emojigan origin "


@dataclass(frozen=True)
class Origin:
    """How a table was made: the last line of its file."""

    method: str
    sources: Mapping[str, str]
    """Name of a file it was made from -> SHA-256."""
    facts: Mapping[str, str | int | float]
    """Settings, counts, and what was measured on the way."""
    filled: tuple[str, ...] = ()
    """The emojis whose vector was estimated from their words; those of all others were trained."""


@dataclass(frozen=True)
class EmojiVectors:
    """The vectors of a file by canonical emoji, variants kept."""

    emojis: tuple[str, ...]
    matrix: np.ndarray
    """float32 [emojis, dimension], finite."""
    sha256: str
    """Of the file: the table's identity."""
    origin: Origin | None = None
    """None where the file does not say."""


def keyed(emojis: Sequence[str], matrix: np.ndarray) -> KeyedVectors:
    """Gensim's form of a table: float32 [emojis, dimension] by emoji."""
    from gensim.models import KeyedVectors

    vectors = KeyedVectors(matrix.shape[1])
    vectors.add_vectors(list(emojis), matrix)
    return vectors


def save_vectors(vectors: KeyedVectors, path: Path, origin: Origin | None = None) -> None:
    """Write the word2vec binary format, whole or not at all; gensim's own would be a pickle."""
    from gensim.utils import open as gensim_open

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")  # its ending decides on compression
    try:
        vectors.save_word2vec_format(str(temporary), binary=True)
        if origin:
            with gensim_open(temporary, "ab") as file:
                file.write(_ORIGIN + json.dumps(asdict(origin), ensure_ascii=False).encode() + b"\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_vectors(path: Path) -> EmojiVectors:
    """Read a word2vec file, binary or text, and key it by canonical emoji, variants kept.

    Keys that are not emojis are dropped. Of keys that differ only in U+FE0F, whose vectors can differ
    widely, the fully-qualified one wins, else the first. Raises InputError for a file that is missing,
    unreadable, not finite or without emojis.
    """
    if not path.is_file():
        message = f"no vectors at {path}: `emojigan vectors build --out {path}` makes them"
        raise InputError(message) from FileNotFoundError(path)
    vectors = read_word2vec(path)
    row: dict[str, int] = {}
    for i, key in enumerate(map(str, vectors.index_to_key)):
        e = canonical(key, keep_variants=True)
        if e and (e not in row or key == display(e)):
            row[e] = i
    matrix = vectors.vectors[list(row.values())]
    if not matrix.size:
        raise InputError(f"{path} has no vector of an emoji: give a word2vec file whose keys are emojis")
    if not np.isfinite(matrix).all():
        named = " ".join(e for e, vector in zip(row, matrix, strict=True) if not np.isfinite(vector).all())
        raise InputError(f"{path} holds NaN or infinity for {named}: give a word2vec file of finite vectors")
    return EmojiVectors(tuple(row), matrix, sha256(path), _read_origin(path))


def resolve(vectors: EmojiVectors, vocabulary: Iterable[str]) -> list[tuple[int, ...]]:
    """The rows whose mean stands for each emoji of a vocabulary; none where there is none.

    An emoji without a vector of its own takes, in this order, that of the untoned, of the folded emoji or
    another of its variants, and the mean of those of its parts (❤ and 🔥 for ❤️‍🔥).
    """
    row = {e: i for i, e in enumerate(vectors.emojis)}
    for i, e in enumerate(vectors.emojis):
        row.setdefault(canonical(e) or e, i)

    def of(e: str) -> tuple[int, ...]:
        return next(((row[c],) for c in (e, without_tone(e), canonical(e)) if c in row), ())

    return [of(e) or tuple(found for part in e.split("\u200d") for found in of(part)) for e in vocabulary]


def match(vectors: EmojiVectors, vocabulary: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The rows of a vocabulary's emojis in order, float32 [found, dimension], and those without a vector."""
    rows = resolve(vectors, vocabulary)
    missing = [e for e, found in zip(vocabulary, rows, strict=True) if not found]
    means = [vectors.matrix[[*found]].mean(axis=0) for found in rows if found]
    return np.array(means, np.float32).reshape(len(means), vectors.matrix.shape[1]), missing


def read_word2vec(path: Path) -> KeyedVectors:
    """Read any word2vec file, binary or text, compressed or not. Raises InputError."""
    from gensim.models import KeyedVectors

    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    for binary in (False, True):  # a binary file fails as text in its first row
        try:
            return KeyedVectors.load_word2vec_format(str(path), binary=binary)
        except (ValueError, ArithmeticError, EOFError, OSError, MemoryError):
            continue
    raise InputError(f"{path} is not a word2vec file, binary or text: build or download it again")


def unit(matrix: np.ndarray) -> np.ndarray:
    """Rows scaled to norm 1; zero rows stay zero."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(norms > 1e-6, norms, np.inf)


def _read_origin(path: Path) -> Origin | None:
    from gensim.utils import open as gensim_open

    with gensim_open(path, "rb") as file:
        _, found, line = file.read().rpartition(_ORIGIN)
    if not found:
        return None
    try:
        content = json.loads(line)
        return Origin(**content | {"filled": tuple(content["filled"])})
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: the line about its origin is damaged. Build or copy it again.") from error
