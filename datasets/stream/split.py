"""One split of a dataset, and its shards opened for reading.

    manifest + folder (or its cache) ─► Split ─► open_shard ─► OpenShard: a memory map, its images, its tuples

What a dataset says of itself is checked first: an index must be the one that the manifest names, and every
image in it must lie inside its tar.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..shards.index import Index, ShardError, fits, parse_index
from ..shards.manifest import Manifest, ShardEntry
from ..store.cache import ShardCache
from ..store.folder import Folder, StoreFolder


@dataclass(frozen=True)
class OpenShard:
    """The bytes of a shard, and its tuples with an emoji of the vocabulary."""

    content: np.ndarray  # uint8 [bytes of the tar], by memory map
    offset: np.ndarray  # int64 [images], first byte of the image
    length: np.ndarray  # int64 [images], bytes
    crc32: np.ndarray  # uint32 [images], of those bytes
    image: np.ndarray  # int32 [tuples], row of the image
    emoji: np.ndarray  # int32 [tuples], position in the vocabulary

    def member(self, row: int) -> np.ndarray:
        """The encoded image of one row, uint8 [bytes]."""
        return self.content[self.offset[row] : self.offset[row] + self.length[row]]

    def tuples_of(self, row: int) -> int:
        """How many tuples the image of one row has."""
        return int((self.image == row).sum())


@dataclass(frozen=True)
class Split:
    """One split of a dataset."""

    folder: Folder
    manifest: Manifest
    name: str
    cache: ShardCache | None = None  # where a store's shards are kept while they are read

    def __post_init__(self) -> None:
        if not self.shards:
            raise InputError(
                f"{self.folder}: the {self.name} split is empty. Build from more posts, or with --split-by "
                "post."
            )

    @cached_property
    def shards(self) -> tuple[ShardEntry, ...]:
        """The entries of its shards, in order."""
        return self.manifest.of_split(self.name)

    @cached_property
    def tuples(self) -> tuple[int, ...]:
        """Tuples in each shard."""
        return tuple(shard.tuples for shard in self.shards)

    @cached_property
    def num_tuples(self) -> int:
        """Tuples with an emoji of the vocabulary."""
        return sum(self.tuples)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {emoji: position for position, emoji in enumerate(self.manifest.vocabulary)}

    def check(self) -> None:
        """Refuse a local folder in which shards are missing or cut short, before the work starts."""
        for shard in self.shards if self.folder.path is not None else ():
            if self.folder.size(shard.name) != shard.bytes or self.folder.size(shard.index) is None:
                raise InputError(
                    f"{self.folder}/{shard.name} or its index is missing or cut short. "
                    "Copy the whole folder, or build it again."
                )

    def read_index(self, number: int) -> Index:
        """The index of a shard. Raises ShardError when it is missing or not the one of the manifest."""
        shard = self.shards[number]
        try:
            with self._local(shard.index, shard.index_sha256) as path:
                return parse_index(path.read_bytes(), shard)
        except OSError as error:
            raise ShardError(f"index cannot be read: {error.strerror or error}") from error

    def open_shard(self, number: int) -> OpenShard:
        """Open a shard. Raises ShardError when that is not possible; nothing of it is then used."""
        shard, index = self.shards[number], self.read_index(number)
        if not fits(index, shard):
            raise ShardError("index does not fit the manifest")
        emoji = np.array([self._positions.get(each, -1) for each in index.emojis], np.int32)[index.emoji]
        known = emoji >= 0
        if known.sum() != shard.tuples:
            raise ShardError("index does not fit the manifest")
        try:
            with self._local(shard.name, shard.sha256) as path:
                content = _map(path, shard.bytes)
        except OSError as error:
            raise ShardError(f"cannot be read: {error.strerror or error}") from error
        return OpenShard(content, index.offset, index.length, index.crc32, index.image[known], emoji[known])

    def _local(self, name: str, sha256: str) -> AbstractContextManager[Path]:
        if self.folder.path is not None:
            return nullcontext(self.folder.path / name)
        assert isinstance(self.folder, StoreFolder) and self.cache is not None, "a store needs a cache"
        return self.cache.holding(self.folder, name, sha256)


def _map(path: Path, size: int) -> np.ndarray:
    """The bytes of a file, uint8 [size], by memory map. Not by np.memmap: it would keep the file open."""
    if path.stat().st_size != size:
        raise ShardError("cut short")
    return torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
