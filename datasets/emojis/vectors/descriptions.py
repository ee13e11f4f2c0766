"""Emoji vectors from descriptions in words, in the space of any word vectors.

descriptions (emoji, text) + word vectors ─► a sum of word vectors per text ─┬─► added up per emoji
                                                                             └─► emoji2vec's training

The sum of a description's word vectors is EmojiGAN's second embedding. The training is that of Eisner et al.,
"emoji2vec: Learning emoji representations from their description", SocialNLP 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError
from ...store.atomic import sha256
from ...work.progress import progress
from ..text import all_canonical, canonical, display
from .names import keywords
from .word2vec import Origin, keyed, read_word2vec, unit

if TYPE_CHECKING:
    import torch
    from gensim.models import KeyedVectors

_BATCH_SIZE = 8  # descriptions that fit, with one that does not for each
_LEARNING_RATE = 1e-3
_INITIAL = 0.1  # bound of the vectors at the start


@dataclass(frozen=True)
class Descriptions:
    """Texts about emojis, as word vectors: text i is about `emoji[i]`, and the texts of an emoji adjoin."""

    emojis: tuple[str, ...]  # those with a known word
    emoji: np.ndarray  # int64 [texts]
    words: tuple[tuple[int, ...], ...]  # of each text, its rows of `vectors`
    vectors: np.ndarray  # float32 [words, dimension]
    facts: dict[str, str | int | float]  # what was found, and what was not

    def sums(self) -> np.ndarray:
        """The sum of the word vectors of each text, float32 [texts, dimension]."""
        return np.stack([self.vectors[list(rows)].sum(axis=0) for rows in self.words])


def sum_words(words: Path, descriptions: Path | None) -> tuple[KeyedVectors, Origin]:
    """For each emoji the sum of the vectors of its distinct words. Norms are as they come.

    Args:
        words: a word2vec file.
        descriptions: lines "description TAB emoji"; None for our own names and keywords.
    """
    known = _read(words, descriptions)
    rows: list[set[int]] = [set() for _ in known.emojis]
    for emoji, text in zip(known.emoji, known.words, strict=True):
        rows[emoji].update(text)
    matrix = np.stack([known.vectors[sorted(each)].sum(axis=0) for each in rows])
    return keyed(known.emojis, matrix), Origin("sum", _sources(words, descriptions), known.facts)


def train(words: Path, descriptions: Path | None, *, epochs: int, seed: int) -> tuple[KeyedVectors, Origin]:
    """Train an emoji's vector to tell its descriptions from others', as emoji2vec was; rows of norm 1.

    The probability that text t describes emoji e is sigmoid(v_e · sum of t's word vectors); binary cross
    entropy, one random description of another emoji for each that fits, Adam, no dropout. The same seed gives
    the same vectors.
    """
    known = _read(words, descriptions)
    if len(known.emojis) < 2:
        raise InputError(f"{words} knows the words of {len(known.emojis)} emoji, and training contrasts two.")
    matrix, losses = fit(known.sums(), known.emoji, epochs=epochs, seed=seed)
    facts = known.facts | {
        "epochs": epochs,
        "seed": seed,
        "loss of the first epoch": round(losses[0], 4),
        "loss of the last epoch": round(losses[-1], 4),
    }
    return keyed(known.emojis, unit(matrix)), Origin("train", _sources(words, descriptions), facts)


def fit(sums: np.ndarray, emoji: np.ndarray, *, epochs: int, seed: int) -> tuple[np.ndarray, list[float]]:
    """Vectors of the emojis, float32 [emojis, dimension], and each epoch's mean loss.

    Args:
        sums: float32 [texts, dimension].
        emoji: int64 [texts], ascending from 0 without gaps: what each text is about.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    texts, owner = torch.from_numpy(sums), torch.from_numpy(emoji)
    count = torch.bincount(owner)
    first = count.cumsum(0) - count
    vectors = torch.empty(len(count), sums.shape[1])
    vectors.uniform_(-_INITIAL, _INITIAL, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([vectors], lr=_LEARNING_RATE, fused=True)
    losses = []
    with progress(epochs * len(texts), "training", "descriptions") as bar:
        for _ in range(epochs):
            total = 0.0
            for fitting in torch.randperm(len(texts), generator=generator).split(_BATCH_SIZE):
                about = owner[fitting]
                other = (torch.rand(len(about), generator=generator) * (len(texts) - count[about])).long()
                other += (other >= first[about]) * count[about]  # skips the texts of the emoji itself
                loss = description_loss(vectors[about], texts[fitting], texts[other])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(fitting)
                bar.update(len(fitting))
            losses.append(total / len(texts))
            bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
    return vectors.detach().numpy(), losses


def description_loss(vectors: torch.Tensor, fitting: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Mean binary cross entropy of vectors [n, d], each with a text that describes it and with another."""
    from torch.nn.functional import softplus

    return (softplus(-(vectors * fitting).sum(1)) + softplus((vectors * other).sum(1))).mean() / 2


def _read(words: Path, descriptions: Path | None) -> Descriptions:
    """Descriptions as rows of a file's word vectors. A word that the file lacks is tried in lower case."""
    texts = _read_descriptions(descriptions) if descriptions else _own_descriptions()
    vectors = read_word2vec(words)
    if not np.isfinite(vectors.vectors).all():
        raise InputError(f"{words} holds NaN or infinity: give a word2vec file of finite vectors.")
    row: dict[str, int] = vectors.key_to_index  # pyright: ignore[reportAssignmentType]
    taken: list[tuple[str, tuple[int, ...]]] = []
    unknown: set[str] = set()
    for emoji, text in sorted(texts, key=lambda each: each[0]):
        tokens = [token if token in row else token.lower() for token in text.split()]
        unknown.update(token for token in tokens if token not in row)
        if found := tuple(row[token] for token in tokens if token in row):
            taken.append((emoji, found))
    emojis = sorted({emoji for emoji, _ in taken})
    if not emojis:
        raise InputError(f"{words} knows no word of the descriptions: give vectors of the same language.")
    without = sorted({emoji for emoji, _ in texts} - set(emojis))
    facts = {
        "descriptions": len(taken),
        "words without a vector": len(unknown),
        "emojis without a known word": " ".join(map(display, without)) or "none",
    }
    number = {emoji: i for i, emoji in enumerate(emojis)}
    about = np.array([number[emoji] for emoji, _ in taken], np.int64)
    return Descriptions(tuple(emojis), about, tuple(rows for _, rows in taken), vectors.vectors, facts)


def _own_descriptions() -> list[tuple[str, str]]:
    """Of folded emojis: a variant's own words are mostly its tone or gender."""
    return [(emoji, text) for emoji in all_canonical() for text in keywords(emoji)]


def _read_descriptions(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason} at byte {error.start}.") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        text, tab, key = line.rpartition("\t")
        if line.strip() and not tab:
            raise InputError(f'{path}, line {number}: write "description TAB emoji".')
        if emoji := canonical(key.strip(), keep_variants=True):
            pairs.append((emoji, text))
    if not pairs:
        raise InputError(f'{path} describes no emoji: write lines "description TAB emoji".')
    return pairs


def _sources(*paths: Path | None) -> dict[str, str]:
    return {path.name: sha256(path) for path in paths if path}
