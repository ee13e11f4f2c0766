"""Emoji vectors from how people use emojis: skip-gram over captions in which emojis are words.

posts ─► captions ─► words and canonical emojis, a caption a line ─► word2vec ─► the emojis' rows

Mikolov et al., "Distributed representations of words and phrases and their compositionality", NeurIPS 2013.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ...errors import InputError
from ...posts.post import Reject
from ...posts.read import read_posts
from ...work.progress import progress
from ..text import extract
from .word2vec import WORD, Origin, keyed, unit

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

_DIMENSION = 300
_WINDOW = 5  # words to either side that a word predicts


def train_on_captions(
    sources: Sequence[Path], form: str, *, min_count: int, epochs: int, seed: int
) -> tuple[KeyedVectors, Origin]:
    """A row of norm 1 for every emoji that is in captions at least `min_count` times.

    Rows are centred first: skip-gram gives all words a large common part. The captions are read once, and
    stand in a temporary file meanwhile. The same posts and seed give the same rows.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "captions.txt"
        with open(file, "w", encoding="utf-8") as lines:
            counts, facts = _write_captions(sources, form, lines)
        emojis = [e for e, count in counts.most_common() if count >= min_count]
        if len(emojis) < 2:
            raise InputError(
                f"{len(emojis)} emojis are in captions {min_count} times or more, of {len(counts)} that are "
                "there: give more posts or a lower --min-count."
            )
        matrix = _skip_gram(file, min_count, epochs, seed)[emojis]
    facts |= {
        "emojis below min_count": len(counts) - len(emojis),
        "min_count": min_count,
        "epochs": epochs,
        "seed": seed,
    }
    return keyed(emojis, unit(matrix - matrix.mean(axis=0))), Origin("skipgram", {}, facts)


def tokens(text: str) -> list[str]:
    """A text's words in lower case and canonical emojis, in order; a run of one emoji counts once."""
    found, end = [], 0
    for word in WORD.finditer(text):
        found += [e for e, _ in groupby(extract(text[end : word.start()]))]
        found.append(word[0].lower())
        end = word.end()
    return found + [e for e, _ in groupby(extract(text[end:]))]


def _write_captions(
    sources: Sequence[Path], form: str, lines: TextIO
) -> tuple[Counter[str], dict[str, str | int | float]]:
    """Write a line of tokens per caption; count the emojis, and posts that were read and rejected."""
    counts, rejected, number = Counter[str](), 0, 0
    with progress(None, "reading", "posts") as bar:
        for post in read_posts(sources, form):
            bar.update()
            if isinstance(post, Reject):
                rejected += 1
                continue
            number += 1
            found = tokens(post.caption)
            counts.update(token for token in found if not WORD.match(token))
            lines.write(" ".join(found) + "\n")
    return counts, {"posts": number, "posts rejected": rejected}


def _skip_gram(file: Path, min_count: int, epochs: int, seed: int) -> KeyedVectors:
    from gensim.models import Word2Vec
    from gensim.models.callbacks import CallbackAny2Vec

    with progress(epochs, "training", "epochs") as bar:

        class Epochs(CallbackAny2Vec):
            def on_epoch_end(self, model: Word2Vec) -> None:
                bar.update()

        return Word2Vec(
            corpus_file=str(file),
            sg=1,
            vector_size=_DIMENSION,
            window=_WINDOW,
            min_count=min_count,
            epochs=epochs,
            seed=seed,
            workers=1,  # so that the same seed gives the same vectors
            callbacks=[Epochs()],
        ).wv
