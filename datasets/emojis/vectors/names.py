"""The default vectors, made offline from what emojis are called.

names in 14 languages + keywords/keywords.tsv ─► tf-idf ─► LSI ─► a unit vector for every emoji and variant
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import emoji
import numpy as np

from ..text import all_canonical, canonical, display, without_tone

if TYPE_CHECKING:
    from gensim.models import KeyedVectors
    from scipy.sparse import csr_matrix
from .word2vec import WORD, keyed, unit

_LEAN = 0.25
"""How far a variant leans from its folded emoji towards its own words. They are few, and mostly tone or
gender: alone they put 🏃🏽‍♀️ next to 👩, and 👍🏻 next to 💡."""
_KEYWORDS = Path(__file__).parent / "keywords" / "keywords.tsv"
_DIMENSION = 300


def build_vectors() -> KeyedVectors:
    """The default table: a unit vector for every canonical emoji and variant, float32 [~4,000, 300].

    LSI is fitted on the folded emojis alone, lest a word count six times because its emoji comes in five
    tones; variants are projected. An emoji that shares no word with another is left out. Two builds with
    the same packages on the same kind of machine are equal bit for bit.
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
