"""Emoji vectors: where each canonical emoji sits in space.

names in 14 languages + keywords ─► tf-idf ─► LSI ─┐
emoji2vec, descriptions, captions ─────────────────┴─► word2vec file ─► EmojiVectors ─► rows of a vocabulary

The default table is built offline from the `emoji` package and keywords/keywords.tsv. Any other
word2vec file with emoji keys, such as emoji2vec's, loads the same way.

A file of ours ends with a line of JSON about its origin, after the last row, where readers of the word2vec
format have stopped reading: so it is one file, its hash covers both, and stock gensim reads it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import emoji
import numpy as np

from ...errors import InputError
from ...store.atomic import sha256
from ..text import all_canonical, canonical, display, without_tone

if TYPE_CHECKING:
    from gensim.models import KeyedVectors
    from scipy.sparse import csr_matrix

_DIMENSION = 300
_LEAN = 0.25
"""How far a variant leans from its folded emoji towards its own words. They are few, and mostly tone or
gender: alone they put 🏃🏽‍♀️ next to 👩, and 👍🏻 next to 💡."""
_KEYWORDS = Path(__file__).parent / "keywords" / "keywords.tsv"
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


def build_vectors() -> KeyedVectors:
    """The default table: a unit vector for every canonical emoji and variant, float32 [~4,000, 300].

    LSI is fitted on the folded emojis alone, lest a word count six times because its emoji comes in five
    tones; variants are projected. An emoji that shares no word with another is left out. Two builds with
    with the same packages on the same kind of machine are equal bit for bit.
    """
    return keyed(*_from_names())


@cache
def _from_names() -> tuple[list[str], np.ndarray]:
    emojis = all_canonical(keep_variants=True)
    row = {e: i for i, e in enumerate(emojis)}
    own = unit(_project(emojis))
    folded = own[[row[canonical(e) or e] for e in emojis]]
    matrix = unit(folded + _LEAN * own)
    kept = np.flatnonzero(matrix.any(axis=1))
    return [emojis[i] for i in kept], matrix[kept]


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
        raise InputError(f"no vectors at {path}: `emojigan vectors build --out {path}` makes them")
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
        raise InputError(f"{path} holds NaN or infinity: give a word2vec file of finite vectors")
    return EmojiVectors(tuple(row), matrix, sha256(path), _read_origin(path))


def resolve(vectors: EmojiVectors, vocabulary: Iterable[str]) -> list[int | None]:
    """The row that stands for each emoji of a vocabulary, None where there is none.

    An emoji without a vector of its own takes, in this order, that of the untoned, of the folded emoji or
    another of its variants, and of its first part (❤ for ❤️‍🔥).
    """
    row = {e: i for i, e in enumerate(vectors.emojis)}
    for i, e in enumerate(vectors.emojis):
        row.setdefault(canonical(e) or e, i)
    chains = ((e, without_tone(e), canonical(e), canonical(e.split("\u200d")[0])) for e in vocabulary)
    return [next((row[c] for c in chain if c in row), None) for chain in chains]


def match(vectors: EmojiVectors, vocabulary: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The rows of a vocabulary's emojis in order, float32 [found, dimension], and those without a vector."""
    rows = resolve(vectors, vocabulary)
    missing = [e for e, found in zip(vocabulary, rows, strict=True) if found is None]
    return vectors.matrix[[found for found in rows if found is not None]], missing


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


def word_features(emojis: Sequence[str]) -> csr_matrix:
    """The tf-idf of the words of emojis' names and keywords, float64 [emojis, words], rows of norm 1 or 0.

    The weights are fitted on the folded emojis, whatever is asked for.
    """
    from gensim.corpora import Dictionary
    from gensim.matutils import corpus2csc
    from gensim.models import TfidfModel

    fitted = [_document(e) for e in all_canonical()]
    dictionary = Dictionary(fitted)
    # A word of one emoji alone relates it to no other.
    dictionary.filter_extremes(no_below=2, no_above=1.0, keep_n=len(dictionary))
    tfidf = TfidfModel([dictionary.doc2bow(each) for each in fitted])
    bags = [tfidf[dictionary.doc2bow(_document(e))] for e in emojis]
    return corpus2csc(bags, num_terms=len(dictionary)).T.tocsr()


def keywords(emoji_: str) -> list[str]:
    """English names and keywords of an emoji, such as "smiling face with heart-eyes" and "love"."""
    return _keywords().get(without_tone(emoji_), "").split("|")


def unit(matrix: np.ndarray) -> np.ndarray:
    """Rows scaled to norm 1; zero rows stay zero."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(norms > 1e-6, norms, np.inf)


def _project(emojis: list[str]) -> np.ndarray:
    """float32 [emojis, 300]: each emoji's words on the LSI topics of the folded ones."""
    from gensim.matutils import Sparse2Corpus, corpus2dense
    from gensim.models import LsiModel
    from threadpoolctl import threadpool_limits

    fitted, projected = (
        Sparse2Corpus(word_features(each), documents_columns=False) for each in (all_canonical(), emojis)
    )
    with threadpool_limits(1):  # so that sums are taken in one order
        lsi = LsiModel(fitted, num_topics=_DIMENSION, random_seed=0)
        topics = corpus2dense(lsi[projected], _DIMENSION).T
    largest = np.abs(topics).argmax(axis=0)  # a topic's sign is arbitrary
    return topics * np.sign(topics[largest, np.arange(_DIMENSION)])


@cache
def _document(emoji_: str) -> tuple[str, ...]:
    """The distinct words of an emoji's names in 14 languages and English keywords, sorted."""
    emoji.config.load_language(emoji.LANGUAGES)
    names = emoji.EMOJI_DATA[display(emoji_)]
    texts = [names[language] for language in emoji.LANGUAGES if language in names]
    texts += [*names.get("alias", []), *keywords(emoji_)]
    return tuple(sorted({word for text in texts for word in WORD.findall(text.lower())}))


@cache
def _keywords() -> dict[str, str]:
    """Canonical emoji, variants kept -> English names and keywords between |."""
    return dict(line.split("\t") for line in _KEYWORDS.read_text(encoding="utf-8").splitlines())


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
