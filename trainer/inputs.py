"""Shards and vectors, brought together for training.

    vocabulary ∩ emoji vectors ─► Inputs: splits, scaled vectors, a weight for each emoji

An emoji without a vector cannot be learned, and one that is denied is not. Its tuples keep their place in the
order, which depends on the manifest alone, and count with weight 0. Vocabulary and weights are those that the
dataset had when the run began: an emoji that went with a forgotten account is one that the networks say, and
has no tuples.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ..datasets.emojis.text import canonical, is_listed
from ..datasets.emojis.vectors.word2vec import load_vectors, match
from ..datasets.emojis.weights import effective_sample_size, weights
from ..datasets.errors import InputError
from ..datasets.shards.manifest import Manifest, lineage, read_manifest
from ..datasets.store.cache import ShardCache
from ..datasets.store.folder import Folder
from ..datasets.stream.order import Order
from ..datasets.stream.quarantine import Quarantined
from ..datasets.stream.reader import Batch, Rows
from ..datasets.stream.split import Split
from ..datasets.stream.stream import names, stream
from .config import Config
from .forgotten import Mark
from .helpers import num_helpers
from .run import Origin

MIN_COVERAGE = 0.5  # of the tuples must have a vector
NAMED = 8  # emojis, in a message


@dataclass(frozen=True)
class Inputs:
    """What a training is given. V emojis of the run's vocabulary can be learned; the manifest has M."""

    train: Split
    vocabulary: tuple[str, ...]  # [V]
    vectors: torch.Tensor  # float32 [V, vector_dim], scaled as the config asks
    weights: np.ndarray  # float64 [V], mean 1 over the tuples that there were when the run began
    # int64 [M], position of each of the manifest's emojis in the run's vocabulary; -1 for one without vector,
    # or denied
    ids: torch.Tensor
    tuple_weights: torch.Tensor  # float32 [M], 0 for those
    num_without_vector: int  # tuples of emojis that are not denied
    num_denied: int  # tuples
    effective_share: float  # of the tuples, that the weighted ones are worth
    dataset: str  # SHA-256 of the manifest
    origin: Origin  # the dataset when the run began
    vectors_hash: str  # SHA-256 of the vector file

    @cached_property
    def lineage(self) -> dict[str, tuple[dict, ...]]:
        """The identities that the dataset had and has, each with what was forgotten since."""
        return lineage(self.train.manifest)

    @cached_property
    def shares(self) -> np.ndarray:
        """Of each emoji in the weighted tuples that there were when the run began, float64 [V]."""
        counts = [self.origin.vocabulary[emoji] for emoji in self.vocabulary]
        weighted = self.weights * np.array(counts, np.float64)
        return weighted / weighted.sum()

    @cached_property
    def num_alike(self) -> int:
        """Emojis that have the vector of another one, as variants may have that of the folded emoji."""
        _, counts = np.unique(self.vectors.numpy(), axis=0, return_counts=True)
        return int(counts[counts > 1].sum())

    @cached_property
    def forgotten(self) -> Mark | None:
        """What was forgotten since the run began. The origin must be in the lineage."""
        return Mark.of(self.lineage[self.origin.dataset])

    def stream(
        self,
        config: Config,
        *,
        start: int,
        rank: int = 0,
        world_size: int = 1,
        tell_quarantined: Callable[[Quarantined], None] = lambda quarantined: None,
        resident: torch.Tensor | None = None,
    ) -> Generator[Batch | Rows]:
        """The batches of training from number `start` on, this rank's part; close it when done.

        With `resident` they are Rows of it, and it is filled first: see `stream`.
        """
        return stream(
            self.train,
            seed=config.optimizer.seed,
            window=config.data.window,
            lanes=config.data.lanes,
            batch_size=config.data.batch_size,
            start=start,
            rank=rank,
            world_size=world_size,
            helpers=num_helpers(config),
            max_quarantined=config.run.max_quarantined,
            tell_quarantined=tell_quarantined,
            resident=resident,
        )

    def samples(self, config: Config, number: int, rows: list[int]) -> list[str]:
        """What some rows of global batch `number` are: shards, and names in them."""
        order = Order(config.optimizer.seed, self.train.sizes, config.data.window, config.data.lanes)
        return names(self.train, order, config.data.batch_size, number, rows)


def read_inputs(config: Config, shards: Folder, vector_file: Path, origin: Origin | None = None) -> Inputs:
    """Open the shards and the vectors.

    Args:
        origin: of a run that was begun; without it one begins.

    Raises:
        InputError: one is missing, or the vectors cover too little of the vocabulary, or cannot train, or too
            little of it is not denied.
    """
    manifest = read_manifest(shards)
    cache = ShardCache(Path(config.run.cache).expanduser(), int(config.run.cache_gib * 2**30))
    train = Split(shards, manifest, "train", cache, config.data.unit, config.data.fold)
    origin = origin or Origin.of(manifest)
    emoji_vectors = load_vectors(vector_file)
    matrix, missing = match(emoji_vectors, list(origin.vocabulary))
    unknown, deny = set(missing), config.data.deny
    _refuse_variants(manifest, deny)
    counts = np.array(list(origin.vocabulary.values()), np.int64)
    has_vector = np.array([emoji not in unknown for emoji in origin.vocabulary])
    known = has_vector & [not is_listed(emoji, deny) for emoji in origin.vocabulary]
    _refuse_too_few(vector_file, shards, counts, has_vector, known)
    vocabulary = tuple(emoji for emoji, here in zip(origin.vocabulary, known, strict=True) if here)
    matrix = matrix[known[has_vector]]
    _refuse_untrainable(vector_file, vocabulary, matrix)
    settings = config.objective
    weight = weights(settings.weights, counts[known], k=settings.k, num_posts=origin.images)
    ids, tuple_weights = _of_manifest(manifest, vocabulary, weight / (counts[known].sum() / counts.sum()))
    denied = {emoji for emoji in manifest.vocabulary if is_listed(emoji, deny)}
    sayable = {*vocabulary, *denied}
    return Inputs(
        train=train,
        vocabulary=vocabulary,
        vectors=torch.from_numpy(scale(matrix) if config.model.center_vectors else matrix),
        weights=weight,
        ids=ids,
        tuple_weights=tuple_weights,
        num_without_vector=sum(count for emoji, count in manifest.vocabulary.items() if emoji not in sayable),
        num_denied=sum(manifest.vocabulary[emoji] for emoji in denied),
        effective_share=effective_sample_size(weight, counts[known]),
        dataset=manifest.sha256(),
        origin=origin,
        vectors_hash=emoji_vectors.sha256,
    )


def _refuse_variants(manifest: Manifest, deny: Sequence[str]) -> None:
    """Refuse to deny variants of shards that have none: nothing would be denied."""
    variants = [emoji for emoji in deny if canonical(emoji) != emoji]
    if variants and not manifest.options.get("keep_variants"):
        raise InputError(
            f"deny: the shards have no variants such as {variants[0]}. Deny {canonical(variants[0])}."
        )


def _refuse_too_few(
    path: Path, shards: Folder, counts: np.ndarray, has_vector: np.ndarray, known: np.ndarray
) -> None:
    """Refuse vectors of too little of the vocabulary, and a list that denies nearly all of it; [M] each."""
    coverage, number = counts[has_vector].sum() / counts.sum(), has_vector.sum()
    if coverage < MIN_COVERAGE or number < 2:
        raise InputError(
            f"{path} has vectors for {coverage:.0%} of the tuples of {shards} ({number} of {len(counts)} "
            "emojis). Use others, such as `emojigan vectors build` makes."
        )
    if known.sum() < 2:
        raise InputError(
            f"Of {number} emojis with a vector {known.sum()} are not denied, and one must be told from "
            "another. Shorten the --deny list."
        )


def _refuse_untrainable(path: Path, vocabulary: tuple[str, ...], matrix: np.ndarray) -> None:
    """Refuse vectors, float32 [V, d], with which no network can learn; nothing is trained then."""
    with np.errstate(over="ignore", under="ignore"):
        squares = (matrix.astype(np.float32) ** 2).sum(axis=1)
        spread = np.abs(matrix - matrix.mean(axis=0, dtype=np.float64)).max()
    ways_out = "Take them out of the file, and their tuples do not count; or give other vectors."
    largest = np.finfo(np.float32).max / len(squares)  # all squares together are a number, too
    for kind, bad in (("zero", squares == 0), ("too large for float32", squares > largest)):
        if bad.any():
            emojis = [vocabulary[row] for row in np.flatnonzero(bad)]
            named = " ".join(emojis[:NAMED]) + (" …" if len(emojis) > NAMED else "")
            raise InputError(
                f"{path}: {len(emojis)} of {len(vocabulary)} vectors are {kind}: {named}. {ways_out}"
            )
    if spread <= 1e-6 * np.abs(matrix).max():
        raise InputError(
            f"{path}: the vectors of all {len(vocabulary)} emojis are the same, so none can be told from "
            "another. Give others, such as `emojigan vectors build` makes."
        )


def _of_manifest(
    manifest: Manifest, vocabulary: tuple[str, ...], weight: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """`Inputs.ids` and `Inputs.tuple_weights`; `weight` has mean 1 over all tuples."""
    row = {emoji: number for number, emoji in enumerate(vocabulary)}
    ids = np.array([row.get(emoji, -1) for emoji in manifest.vocabulary])
    tuple_weights = np.where(ids >= 0, weight[ids], 0).astype(np.float32)
    return torch.from_numpy(ids), torch.from_numpy(tuple_weights)


def scale(matrix: np.ndarray) -> np.ndarray:
    """Centre vectors and divide by their overall standard deviation, float32 [V, d] → [V, d]."""
    centred = matrix - matrix.mean(axis=0)
    return (centred / centred.std()).astype(np.float32)
