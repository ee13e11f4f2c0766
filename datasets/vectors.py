"""Emoji vectors: where each canonical emoji sits in a 300-dimensional space.

names in 14 languages + keywords -> tf-idf -> LSI -> word2vec file -> EmojiVectors -> rows of a vocabulary

The default table is built offline from the `emoji` package and keywords/keywords.tsv. Any other
word2vec file with emoji keys, such as emoji2vec's, loads the same way.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import emoji
import numpy as np

from .emoji_text import all_canonical, canonical, display, without_tone
from .errors import InputError

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

_DIMENSION = 300
_LEAN = 0.25
"""How far a variant leans from its folded emoji towards its own words. They are few, and mostly tone or
gender: alone they put 🏃🏽‍♀️ next to 👩, and 👍🏻 next to 💡."""
_KEYWORDS = Path(__file__).parent / "keywords" / "keywords.tsv"
# A word; of Han and kana, written without spaces, a character.
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True)
class EmojiVectors:
    """The vectors of a file by canonical emoji, variants kept."""

    emojis: tuple[str, ...]
    matrix: np.ndarray
    """float32 [emojis, dimension], finite."""
    sha256: str
    """Of the file: the table's identity."""


def build_vectors() -> KeyedVectors:
    """The default table: a unit vector for every canonical emoji and variant, float32 [~4,000, 300].

    LSI is fitted on the folded emojis alone, lest a word count six times because its emoji comes in five
    tones; variants are projected. An emoji that shares no word with another is left out. Two builds with
    the same packages on the same kind of machine are equal bit for bit.
    """
    emojis = all_canonical(keep_variants=True)
    row = {e: i for i, e in enumerate(emojis)}
    own = _unit(_project(emojis))
    folded = own[[row[canonical(e) or e] for e in emojis]]
    matrix = _unit(folded + _LEAN * own)
    kept = np.flatnonzero(matrix.any(axis=1))
    return keyed([emojis[i] for i in kept], matrix[kept])


def keyed(emojis: Sequence[str], matrix: np.ndarray) -> KeyedVectors:
    """Gensim's form of a table: float32 [emojis, dimension] by emoji."""
    from gensim.models import KeyedVectors

    vectors = KeyedVectors(matrix.shape[1])
    vectors.add_vectors(list(emojis), matrix)
    return vectors


def save_vectors(vectors: KeyedVectors, path: Path) -> None:
    """Write the word2vec binary format, whole or not at all; gensim's own would be a pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")  # its ending decides on compression
    try:
        vectors.save_word2vec_format(str(temporary), binary=True)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_vectors(path: Path) -> EmojiVectors:
    """Read a word2vec file, binary or text, and key it by canonical emoji, variants kept.

    Keys that are not emojis are dropped. Of keys that differ only in U+FE0F, whose vectors can differ
    widely, the fully-qualified one wins, else the first. Raises InputError for a file that is missing,
    unreadable, not finite or without emojis.
    """
    vectors = _read(path)
    row: dict[str, int] = {}
    for i, key in enumerate(map(str, vectors.index_to_key)):
        e = canonical(key, keep_variants=True)
        if e and (e not in row or key == display(e)):
            row[e] = i
    matrix = vectors.vectors[list(row.values())]
    if not matrix.size:
        raise InputError(f"{path} has no vector of an emoji: give a word2vec file whose keys are emojis")
    if not np.isfinite(matrix).all():
        raise InputError(f"{path} holds NaN or infinity: give a word2vec file of finite vectors")
    return EmojiVectors(tuple(row), matrix, hashlib.sha256(path.read_bytes()).hexdigest())


def match(vectors: EmojiVectors, vocabulary: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The rows of a vocabulary's emojis in order, float32 [found, dimension], and those without a vector.

    An emoji without a vector of its own takes, in this order, that of the untoned, of the folded emoji or
    another of its variants, and of its first part (❤ for ❤️‍🔥).
    """
    row = {e: i for i, e in enumerate(vectors.emojis)}
    for i, e in enumerate(vectors.emojis):
        row.setdefault(canonical(e) or e, i)
    rows, missing = [], []
    for e in vocabulary:
        chain = (e, without_tone(e), canonical(e), canonical(e.split("\u200d")[0]))
        found = next((row[c] for c in chain if c in row), None)
        if found is None:
            missing.append(e)
        else:
            rows.append(found)
    return vectors.matrix[rows], missing


def _project(emojis: list[str]) -> np.ndarray:
    """float32 [emojis, 300]: each emoji's document on the LSI topics of the folded ones."""
    from gensim.corpora import Dictionary
    from gensim.matutils import corpus2dense
    from gensim.models import LsiModel, TfidfModel
    from threadpoolctl import threadpool_limits

    emoji.config.load_language(emoji.LANGUAGES)
    documents = {e: _document(e) for e in emojis}
    dictionary = Dictionary(documents[e] for e in all_canonical())
    # A word of one emoji alone relates it to no other.
    dictionary.filter_extremes(no_below=2, no_above=1.0, keep_n=len(dictionary))
    bags = {e: dictionary.doc2bow(document) for e, document in documents.items()}
    tfidf = TfidfModel([bags[e] for e in all_canonical()])
    fitted = [tfidf[bags[e]] for e in all_canonical()]
    with threadpool_limits(1):  # so that sums are taken in one order
        lsi = LsiModel(fitted, id2word=dictionary, num_topics=_DIMENSION, random_seed=0)
        topics = corpus2dense(lsi[[tfidf[bags[e]] for e in emojis]], _DIMENSION).T
    largest = np.abs(topics).argmax(axis=0)  # a topic's sign is arbitrary
    return topics * np.sign(topics[largest, np.arange(_DIMENSION)])


def _document(emoji_: str) -> list[str]:
    """The distinct words of an emoji's names and keywords, sorted."""
    names = emoji.EMOJI_DATA[display(emoji_)]
    texts = [names[language] for language in emoji.LANGUAGES if language in names]
    texts += names.get("alias", [])
    texts.append(_keywords().get(without_tone(emoji_), ""))
    return sorted({word for text in texts for word in _TOKEN.findall(text.lower())})


@cache
def _keywords() -> dict[str, str]:
    """Canonical emoji, variants kept -> English keywords between |."""
    return dict(line.split("\t") for line in _KEYWORDS.read_text(encoding="utf-8").splitlines())


def _unit(matrix: np.ndarray) -> np.ndarray:
    """Rows scaled to norm 1; zero rows stay zero."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(norms > 1e-6, norms, np.inf)


def _read(path: Path) -> KeyedVectors:
    from gensim.models import KeyedVectors

    if not path.is_file():
        raise InputError(f"no vectors at {path}: `emojigan vectors build --out {path}` makes them")
    for binary in (False, True):  # a binary file fails as text in its first row
        try:
            return KeyedVectors.load_word2vec_format(str(path), binary=binary)
        except (ValueError, ArithmeticError, EOFError, OSError, MemoryError):
            continue
    raise InputError(f"{path} is not a word2vec file, binary or text: build or download it again")
