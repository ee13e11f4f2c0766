"""One split of a dataset, and its shards opened for reading.

    manifest + folder (or its cache) ─► Split ─► open_shard ─► OpenShard: a memory map, its images, its tuples

What a dataset says of itself is checked first: an index must be the one that the manifest names, and every
image in it must lie inside its tar.
"""

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from zlib_ng import zlib_ng

from ..errors import InputError
from ..shards.bus_error import name_on_bus_error
from ..shards.index import Index, ShardError, fits, parse_index
from ..shards.manifest import MOST, Manifest, ShardEntry, is_adopted, read_manifest
from ..store.cache import ShardCache, WrongFile
from ..store.folder import Folder, StoreFolder
from ..store.trouble import MISSING, patiently
from .order import random_bits

T = TypeVar("T")
Unit = Literal["tuple", "reaction"]


@dataclass(frozen=True)
class OpenShard:
    """The bytes of a shard, and its units: tuples with an emoji of the vocabulary, or reactions."""

    content: np.ndarray  # uint8 [bytes of the tar], by memory map
    offset: np.ndarray  # int64 [images], first byte of the image
    length: np.ndarray  # int64 [images], bytes
    crc32: np.ndarray  # uint32 [images], of those bytes
    image: np.ndarray  # int32 [units], row of the image
    # Positions in the vocabulary, int32: of a tuple [units]; of a reaction [units, slots], then -1.
    emoji: np.ndarray

    def member(self, row: int) -> np.ndarray:
        """The encoded image of one row, uint8 [bytes]."""
        return self.content[self.offset[row] : self.offset[row] + self.length[row]]

    def is_right(self, row: int) -> bool:
        """Whether the image of one row has its CRC-32."""
        return zlib_ng.crc32(self.member(row)) == self.crc32[row]

    def tuples_of(self, row: int) -> int:
        """How many tuples the image of one row has."""
        return int((self.emoji[self.image == row] >= 0).sum())


@dataclass(frozen=True)
class Split:
    """One split of a dataset."""

    folder: Folder
    manifest: Manifest
    name: str
    cache: ShardCache | None = None  # where a store's shards are kept while they are read
    unit: Unit = "tuple"  # what a batch is made of
    fold: int | None = None  # of a cross-validation: train lacks it, and it stands for test

    def __post_init__(self) -> None:
        if self.fold not in (None, *self.manifest.folds):
            there = f"are {len(self.manifest.folds)}, from 0 on" if self.manifest.folds else "is none"
            raise InputError(
                f"{self.folder} has no fold {self.fold}: there {there}. `emojigan shards build --folds` "
                "deals train to folds."
            )
        if not self.shards:
            others = (
                "other shares, or --split-by post" if self.manifest.split_by == "account" else "other shares"
            )
            since = " since accounts were forgotten" if self.manifest.history else ""
            raise InputError(
                f"{self.folder}: the {self.name} split is empty{since}. Build from more posts, or with "
                f"{others}."
            )

    @property
    def text(self) -> str:
        """How the splits were dealt, and what that makes of the scores."""
        told = "" if self.fold is None else f"; fold {self.fold} of train stands for test"
        return self.manifest.split_text + told

    @cached_property
    def shards(self) -> tuple[ShardEntry, ...]:
        """The entries of its shards, in order."""
        return self.manifest.of_split(self.name, self.fold)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Units in each shard. Raises InputError where the manifest does not tell it."""
        if self.unit == "tuple":
            return tuple(shard.tuples for shard in self.shards)
        return tuple(self._by_size.sum(axis=1).tolist())

    @cached_property
    def slots(self) -> int:
        """Emojis that a batch has room for in each unit: as many as the largest has, MOST at most."""
        return 1 if self.unit == "tuple" else max([1, *(np.flatnonzero(self.by_size) + 1).tolist()])

    @property
    def by_size(self) -> np.ndarray:
        """How many reactions have 1, 2, … emojis, int64 [MOST]. Raises InputError as `sizes` does."""
        return self._by_size.sum(axis=0)

    @cached_property
    def _by_size(self) -> np.ndarray:
        """The same of each shard, [shards, MOST]."""
        counts = [shard.reactions for shard in self.shards]
        if None in counts:
            how = "adopt them again" if is_adopted(self.manifest) else "build them again"
            raise InputError(
                f"{self.folder}: these shards were made before reactions were counted: {how}, or train with "
                "--recipe tuples (--unit tuple where a unit is given)."
            )
        return np.array(counts, np.int64)

    @cached_property
    def num_units(self) -> int:
        """Tuples, or reactions."""
        return sum(self.sizes)

    @cached_property
    def num_tuples(self) -> int:
        """Tuples with an emoji of the vocabulary."""
        return sum(shard.tuples for shard in self.shards)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {emoji: position for position, emoji in enumerate(self.manifest.vocabulary)}

    def check(self) -> None:
        """Refuse a local folder in which shards are missing or cut short, before the work starts."""
        for shard in self.shards if self.folder.path is not None else ():
            size, index_size = (
                patiently(partial(self.folder.size, name), self.folder) for name in (shard.name, shard.index)
            )
            if size != shard.bytes or index_size is None:
                self.check_manifest()
                raise InputError(
                    f"{self.folder}/{shard.name} or its index is missing or cut short. "
                    "Copy the whole folder, or build it again."
                )

    def read_index(self, number: int) -> Index:
        """The index of a shard.

        Raises:
            ShardError: it is not the one of the manifest, or the store has none.
            InputError: this machine or the store is in trouble, the dataset was changed meanwhile, or a file
                of a local one is gone: all were there at the start, and other ranks may have opened it.
        """
        shard = self.shards[number]

        def parse(path: Path) -> Index:
            return parse_index(path.read_bytes(), shard)

        return self._read("index cannot be read", shard.index, shard.index_sha256, parse)

    def open_shard(self, number: int, *, compare: bool = False) -> OpenShard:
        """Open a shard. Raises as `read_index` does; of a shard with a ShardError nothing is used.

        Args:
            compare: a cached copy with the manifest's digest first, and fetch it again if it has another.
        """
        shard, index = self.shards[number], self.read_index(number)
        if not fits(index, shard):
            raise ShardError("index does not fit the manifest")
        emoji = np.array([self._positions.get(each, -1) for each in index.emojis], np.int32)[index.emoji]
        known = emoji >= 0
        if known.sum() != shard.tuples or shard.reactions not in (index.reaction_sizes, None):
            raise ShardError("index does not fit the manifest")
        image, emoji = (
            (index.image[known], emoji[known])
            if self.unit == "tuple"
            else _reactions(index, emoji, shard.name, self.slots)
        )

        def map_whole(path: Path) -> np.ndarray:
            return _map(path, shard.bytes)

        content = self._read("cannot be read", shard.name, shard.sha256, map_whole, compare=compare)
        return OpenShard(content, index.offset, index.length, index.crc32, image, emoji)

    def mend(self, number: int, shard: OpenShard, row: int) -> bool:
        """Put the store's bytes of an image in the place of a damaged cached copy's; whether they are right.

        They go into this process's memory alone. Other threads may read other images of the shard meanwhile.
        """
        if self.folder.path is not None:
            return False
        try:
            shard.member(row)[:] = self._compared(number).member(row)
        except ShardError:  # the store has not the right one either
            return False
        return shard.is_right(row)

    @cached_property
    def _compared(self) -> Callable[[int], OpenShard]:
        return lru_cache(1)(partial(self.open_shard, compare=True))

    def check_manifest(self) -> None:
        """Refuse a folder that holds another dataset by now: its shards are not damaged, but others."""
        if read_manifest(self.folder).sha256() != self.manifest.sha256():
            raise InputError(
                f"{self.folder} was changed since it was opened: accounts were forgotten, or it was built "
                "anew. Run the same command again."
            )

    def _read(
        self, trouble: str, name: str, digest: str, read: Callable[[Path], T], *, compare: bool = False
    ) -> T:
        """What `read` makes of a file. A cached copy that it refuses is compared with `digest` first."""

        def attempt(compare: bool) -> T:
            if self.folder.path is not None:
                try:
                    return read(self.folder.path / name)
                except MISSING as error:
                    self.check_manifest()
                    raise InputError(f"{self.folder}/{name} is missing by now. Copy it again.") from error
            assert isinstance(self.folder, StoreFolder) and self.cache is not None, "a store needs a cache"
            try:
                with self.cache.holding(self.folder, name, digest, compare=compare) as path:
                    return read(path)
            except WrongFile as error:
                raise ShardError(f"{trouble}: {error}") from error
            except ShardError:
                if compare:
                    raise
                return attempt(compare=True)

        try:
            return patiently(partial(attempt, compare), self.folder)
        except ShardError:
            self.check_manifest()
            raise


def _reactions(index: Index, emoji: np.ndarray, key: str, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """`OpenShard.image` and `OpenShard.emoji` of reactions. Of more than MOST emojis, some are drawn.

    Args:
        emoji: int32 [tuples], position in the vocabulary, or -1.
        key: of the draw.
    """
    whose, known = index.reaction, np.flatnonzero(emoji >= 0)
    image = index.image[np.flatnonzero(np.diff(whose, prepend=-1))]
    if len(known) and np.bincount(whose[known]).max() > MOST:
        # Those that come first when the emojis of each reaction are shuffled, in their old order.
        bits = random_bits(len(whose), "reactions", key)[known]
        shuffled = known[np.lexsort([bits, whose[known]])]
        known = np.sort(shuffled[_places(whose[shuffled]) < MOST])
    emojis = np.full((len(image), slots), -1, np.int32)
    emojis[whose[known], _places(whose[known])] = emoji[known]
    return image, emojis


def _places(whose: np.ndarray) -> np.ndarray:
    """The place of each among those that are equal, of rising numbers: 5 5 5 7 7 → 0 1 2 0 1."""
    return np.arange(len(whose)) - np.searchsorted(whose, whose)


def _map(path: Path, size: int) -> np.ndarray:
    """The bytes of a file, uint8 [size], by memory map. Not by np.memmap: it would keep the file open.

    Raises:
        ShardError: it has another size.
        OSError: this machine cannot.
    """
    if path.stat().st_size != size:
        raise ShardError("cut short")
    try:
        content = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
    except RuntimeError as error:  # torch tells the number of the error at the end
        number = re.search(r"\((\d+)\)$", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error
    return name_on_bus_error(content, path)
