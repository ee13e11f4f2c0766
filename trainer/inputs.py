"""Shards and vectors, brought together for training.

    manifest's vocabulary ∩ emoji vectors ─► Inputs: splits, scaled vectors, a weight for each emoji

An emoji without a vector cannot be learned. Its tuples keep their place in the order, which depends on the
manifest alone, and count with weight 0.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..datasets.emojis.vectors.word2vec import load_vectors, match
from ..datasets.emojis.weights import effective_sample_size, weights
from ..datasets.errors import InputError
from ..datasets.shards.manifest import Manifest, read_manifest
from ..datasets.store.cache import ShardCache
from ..datasets.store.folder import Folder
from ..datasets.stream.quarantine import Quarantined
from ..datasets.stream.reader import Batch
from ..datasets.stream.split import Split
from ..datasets.stream.stream import stream
from .config import Config

MIN_COVERAGE = 0.5  # of the tuples must have a vector


@dataclass(frozen=True)
class Inputs:
    """What a training is given. V emojis of the vocabulary have a vector, of M in the manifest."""

    train: Split
    val: Split
    vocabulary: tuple[str, ...]  # [V]
    vectors: torch.Tensor  # float32 [V, vector_dim], scaled as the config asks
    weights: np.ndarray  # float64 [V], mean 1 over the tuples
    # int64 [M], position of each of the manifest's emojis in the vocabulary; 0 for one without vector
    ids: torch.Tensor
    tuple_weights: torch.Tensor  # float32 [M], 0 for one without vector
    num_without_vector: int  # tuples
    effective_share: float  # of the tuples, that the weighted ones are worth
    dataset: str  # SHA-256 of the manifest
    vectors_hash: str  # SHA-256 of the vector file

    def stream(
        self,
        config: Config,
        *,
        start: int,
        rank: int = 0,
        world_size: int = 1,
        tell_quarantined: Callable[[Quarantined], None] = lambda quarantined: None,
    ) -> Generator[Batch]:
        """The batches of training from number `start` on, this rank's part; close it when done."""
        return stream(
            self.train,
            seed=config.optimizer.seed,
            window=config.data.window,
            lanes=config.data.lanes,
            batch_size=config.data.batch_size,
            start=start,
            rank=rank,
            world_size=world_size,
            helpers=config.run.helpers,
            max_quarantined=config.run.max_quarantined,
            tell_quarantined=tell_quarantined,
        )


def read_inputs(config: Config, shards: Folder, vector_file: Path) -> Inputs:
    """Open the shards and the vectors.

    Raises:
        InputError: one is missing, or the vectors cover too little of the vocabulary.
    """
    manifest = read_manifest(shards)
    emoji_vectors = load_vectors(vector_file)
    matrix, missing = match(emoji_vectors, list(manifest.vocabulary))
    known = np.array([emoji not in set(missing) for emoji in manifest.vocabulary])
    counts = np.array(list(manifest.vocabulary.values()), np.int64)
    coverage = counts[known].sum() / counts.sum()
    if coverage < MIN_COVERAGE or known.sum() < 2:
        raise InputError(
            f"{vector_file} has vectors for {coverage:.0%} of the tuples of {shards} "
            f"({known.sum()} of {len(known)} emojis). Use others, such as `emojigan vectors build` makes."
        )
    cache = ShardCache(Path(config.run.cache).expanduser(), int(config.run.cache_gib * 2**30))
    train = Split(shards, manifest, "train", cache)
    weight = _weights(config, manifest, counts[known], train)
    tuple_weights = np.zeros(len(known), np.float32)
    tuple_weights[known] = weight / coverage  # so that the mean over all tuples is 1
    return Inputs(
        train=train,
        val=replace(train, name="val"),
        vocabulary=tuple(emoji for emoji, here in zip(manifest.vocabulary, known, strict=True) if here),
        vectors=torch.from_numpy(scale(matrix) if config.model.center_vectors else matrix),
        weights=weight,
        ids=torch.from_numpy(np.where(known, known.cumsum() - 1, 0)),
        tuple_weights=torch.from_numpy(tuple_weights),
        num_without_vector=int(counts[~known].sum()),
        effective_share=effective_sample_size(weight, counts[known]),
        dataset=manifest.sha256(),
        vectors_hash=emoji_vectors.sha256,
    )


def scale(matrix: np.ndarray) -> np.ndarray:
    """Centre vectors and divide by their overall standard deviation, float32 [V, d] → [V, d]."""
    centred = matrix - matrix.mean(axis=0)
    return (centred / centred.std()).astype(np.float32)


def _weights(config: Config, manifest: Manifest, counts: np.ndarray, train: Split) -> np.ndarray:
    num_posts = sum(shard.images for shard in manifest.of_split(train.name))
    return weights(config.objective.weights, counts, k=config.objective.k, num_posts=num_posts)
