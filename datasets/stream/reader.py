"""Any batch from its number.

    order ─► a window of shards ─► the table of its tuples ─► this rank's slice ─► one gather ─► Batch
                                                                               └► their rows ─► Rows

The next window is opened while one is read; of a store, that is when its shards are fetched. Every image is
checked against its CRC-32 before it is first read, most of them ahead. A damaged image is quarantined, and
the next good tuple of its window takes its place, so that all ranks keep in step and a resumed run sees the
same.
"""

import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ..errors import InputError
from ..shards.encoding import decode, has_plain_pixels, num_pixel_bytes
from ..shards.index import ShardError
from .gather import overlapping
from .order import Order
from .quarantine import Quarantine
from .split import OpenShard, Split
from .unchanged import Unchanged

OPEN_SHARDS = 256  # kept besides those of the windows that are read
FETCHERS = 8  # downloads at a time
TABLES = 3  # windows of a lane: the one that is read, the next, and one that a slow helper still reads


@dataclass(frozen=True)
class Batch:
    """What one rank trains on at once."""

    images: torch.Tensor  # uint8 [batch, 3, size, size], channels-last in memory
    emoji: torch.Tensor  # int64, positions in the manifest's vocabulary: as of OpenShard


@dataclass(frozen=True)
class Rows:
    """A batch whose pixels lie elsewhere: see resident.py."""

    rows: torch.Tensor  # int64 [batch], of all images of the split, in the order of its shards
    emoji: torch.Tensor  # int64, as in Batch


@dataclass(frozen=True)
class Reading:
    """Which part of which batches is read."""

    order: Order
    batch_size: int  # of all ranks together
    rank: int
    world_size: int


def first_rows(split: Split) -> np.ndarray:
    """The row, among all images of a split, of the first of each shard; int64 [shards + 1], with the end."""
    return np.cumsum([0, *(shard.images for shard in split.shards)])


@dataclass
class _Table:
    """The tuples of a window in the order in which they come, and the images of its shards."""

    first: int  # position in the lane of the first tuple
    numbers: list[int]  # [shards], in the split
    shards: list[OpenShard | None]  # [shards], kept open; None where one cannot be read
    checked: np.ndarray  # bool [shards]: all of its images are
    shard: np.ndarray  # int32 [images], position in `shards`
    row: np.ndarray  # int32 [images], in their shard
    start: np.ndarray  # int64 [images], first byte in the tar
    length: np.ndarray  # int64 [images], bytes
    memory: np.ndarray  # uint8 [bytes, 3·size²]: a row begins at every byte of the tars, see `overlapping`
    memory_row: np.ndarray  # int64 [images], row of `memory` that holds the pixels of a npy
    known: np.ndarray  # bool [images]: checked
    good: np.ndarray  # bool [images], as far as they are checked
    image: np.ndarray  # int32 [units], row in this table
    emoji: np.ndarray  # int32, of each unit as OpenShard has it
    settled: tuple[np.ndarray, np.ndarray] | None = None
    """`image` and `emoji` with damaged tuples replaced; None until all shards of the window are checked."""

    def replaced(self) -> np.ndarray:
        """The tuple to read for each, int64 [tuples]: itself, or if its image is damaged the next good one.

        Behind the last good tuple of the window comes its first.
        """
        good = np.flatnonzero(self.good[self.image])
        if not len(good):
            raise InputError("All images of a window are damaged. Copy the shards again.")
        return good[np.searchsorted(good, np.arange(len(self.image))) % len(good)]


_Key = tuple[int, int, int]  # epoch, lane, window
_Opened = tuple[Future[_Table], Future[None]]  # the window's table, and when all of its images are checked


def _failed(opened: _Opened | None) -> bool:
    return opened is not None and opened[0].done() and opened[0].exception() is not None


class Reader:
    """Makes batches, in any threads. They share the open windows and what is known of damage."""

    def __init__(
        self,
        split: Split,
        reading: Reading,
        quarantine: Quarantine,
        opener: Executor,
        unchanged: Unchanged | None,
    ) -> None:
        """`unchanged` looks whether a tar is written over while images are read from it; None reads none."""
        self._split, self._reading, self._quarantine, self._opener = split, reading, quarantine, opener
        self._unchanged = unchanged
        self._per_epoch = split.num_units // reading.batch_size
        self._size = split.manifest.image_size
        self._of_unit = (split.slots,) if split.unit == "reaction" else ()
        self._first = first_rows(split)
        self._shard = lru_cache(OPEN_SHARDS)(self._open_shard)
        self._lane = lru_cache(4 * reading.order.lanes)(reading.order.lane)
        self._following = lru_cache(4 * reading.order.lanes)(self._next_window)
        self._tables: dict[_Key, _Opened] = {}
        self._lock = threading.Lock()  # of the tables
        self._closed = False

    def close(self) -> None:
        """Let the checking ahead end."""
        self._closed = True

    def batch(self, number: int) -> Batch:
        """This rank's part of a global batch.

        Raises:
            InputError: too much is damaged.
        """
        while True:
            tables, images, emoji = self._find(number)
            pixels = self._pixels(tables, images)
            if pixels is not None:  # else an image could not be decoded: it is marked, so try again
                pixels = torch.from_numpy(pixels.reshape(-1, self._size, self._size, 3))
                return Batch(pixels.permute(0, 3, 1, 2), torch.from_numpy(emoji))

    def rows(self, number: int) -> Rows:
        """The same without the pixels, where those images that cannot be decoded are known already."""
        tables, images, emoji = self._find(number)
        rows = [
            self._first[table.numbers][table.shard[chosen]] + table.row[chosen]
            for table, chosen in zip(tables, images, strict=True)
        ]
        return Rows(torch.from_numpy(np.concatenate(rows)), torch.from_numpy(emoji))

    def _find(self, number: int) -> tuple[list[_Table], list[np.ndarray], np.ndarray]:
        """Tables in which a batch lies, the rows of its images in each, and all of its emojis."""
        epoch, batch_in_epoch = divmod(number, self._per_epoch)
        reading = self._reading
        parts = reading.order.parts(batch_in_epoch, reading.batch_size, reading.rank, reading.world_size)
        spans = [
            ((epoch, lane, window), start, stop)
            for lane, start, stop in parts
            for window in self._lane(epoch, lane).windows(start, stop)
        ]
        tables, images, emojis = [], [], []
        windows = self._begin([key for key, _, _ in spans])
        for (opened, checked), (_, start, stop) in zip(windows, spans, strict=True):
            if checked.done():
                checked.result()  # raises what it raised
            table = opened.result()
            self._quarantine.check_limit()  # of shards that could not be opened
            image, emoji = self._resolve(table, max(start - table.first, 0), stop - table.first)
            tables.append(table)
            images.append(image)
            emojis.append(emoji)
        self._quarantine.check_limit()
        return tables, images, np.concatenate(emojis).astype(np.int64)

    def _begin(self, wanted: list[_Key]) -> list[_Opened]:
        """Begin to open windows, and behind them the next of each lane; those that are wanted."""
        following = [self._following(key) for key in wanted]
        with self._lock:
            for key in (*wanted, *following):
                if _failed(self._tables.get(key)):  # it was opened ahead: it may be long since
                    del self._tables[key]
            if not self._tables.keys() >= {*wanted, *following}:
                self._submit(wanted, kept=following)
                self._submit(following, kept=wanted)
            return [self._tables[key] for key in wanted]

    def _submit(self, keys: list[_Key], kept: list[_Key]) -> None:
        """Begin to open those windows that are not; `kept` are not dropped for them."""
        new = [key for key in keys if key not in self._tables]
        opened = [self._opener.submit(self._open, *key) for key in new]
        for key, table in zip(new, opened, strict=True):
            self._tables[key] = table, self._opener.submit(self._check_all, table)
            for old in [each for each in self._tables if each[1] == key[1]][:-TABLES]:
                if old not in keys and old not in kept:
                    del self._tables[old]

    def _next_window(self, key: _Key) -> _Key:
        """The window that comes behind one in its lane."""
        epoch, lane, window = key
        last = window + 1 == self._lane(epoch, lane).num_windows
        return (epoch + 1, lane, 0) if last else (epoch, lane, window + 1)

    def _open(self, epoch: int, lane: int, number: int) -> _Table:
        window = self._lane(epoch, lane).open(number)
        numbers = window.pieces[:, 0].tolist()
        if self._split.folder.path is None:
            with ThreadPoolExecutor(FETCHERS) as fetchers:
                shards = list(fetchers.map(self._shard, numbers))
        else:
            shards = [self._shard(each) for each in numbers]
        for each in numbers:
            if self._unchanged:
                self._unchanged.check(each)
        sizes = [self._split.shards[each].images for each in numbers]
        begins = np.cumsum([0, *sizes])
        units = [
            (shard.image[a:b] + begin, shard.emoji[a:b])
            if shard
            else (np.full(b - a, begin), np.zeros((b - a, *self._of_unit)))
            for shard, begin, (_, a, b) in zip(shards, begins, window.pieces.tolist(), strict=False)
        ]
        spans = [
            np.stack([shard.offset, shard.length]) if shard else np.zeros((2, size), np.int64)
            for shard, size in zip(shards, sizes, strict=True)
        ]
        start, length = np.concatenate(spans, axis=1)
        size = num_pixel_bytes(self._size)
        low, memory = overlapping([shard.content for shard in shards if shard], size)
        bases = [shard.content.ctypes.data - low if shard else 0 for shard in shards]
        return _Table(
            first=window.first,
            numbers=numbers,
            shards=shards,
            checked=np.zeros(len(numbers), bool),
            shard=np.repeat(np.arange(len(numbers), dtype=np.int32), sizes),
            row=np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]),
            memory=memory,
            memory_row=np.repeat(bases, sizes) + start + length - size,  # a npy ends with its pixels
            start=start,
            length=length,
            known=np.zeros(begins[-1], bool),
            good=np.ones(begins[-1], bool),
            image=np.concatenate([image for image, _ in units]).astype(np.int32)[window.permutation],
            emoji=np.concatenate([emoji for _, emoji in units]).astype(np.int32)[window.permutation],
        )

    def _open_shard(self, number: int) -> OpenShard | None:
        try:
            return self._split.open_shard(number)
        except ShardError as error:
            self._quarantine.add_shard(number, error)
            return None

    def _check_all(self, opened: Future[_Table]) -> None:
        """Check a window ahead, unless it is so wide that this would be a pass of its own over the data."""
        table = opened.result()
        for position in range(len(table.shards) if len(table.shards) <= OPEN_SHARDS else 0):
            if self._closed:
                return
            self._check(table, position)

    def _check(self, table: _Table, position: int) -> None:
        """Note in a table which images of one of its shards are damaged."""
        first, end = np.searchsorted(table.shard, [position, position + 1]).tolist()
        for row in self._quarantine.rows(table.numbers[position], table.shards[position]):
            table.good[first + row] = False
        table.known[first:end] = True
        table.checked[position] = True

    def _check_image(self, table: _Table, image: int) -> None:
        position = int(table.shard[image])
        number, shard = table.numbers[position], table.shards[position]
        if shard is None or self._quarantine.has_checked(number):
            self._check(table, position)
        else:
            table.good[image] &= not self._quarantine.check(number, shard, int(table.row[image]))
            table.known[image] = True

    def _resolve(self, table: _Table, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Images (rows of the table) and emojis at positions [start, stop) of a window; none is damaged."""
        while (settled := table.settled) is None:
            source = np.arange(start, min(stop, len(table.image)))
            if not table.good[table.image[source]].all():
                source = table.replaced()[start:stop]
            image = table.image[source]
            for each in image[~table.known[image]].tolist():  # at once; the others are checked ahead
                if not table.known[each]:  # with an image before it, when their shard had been checked
                    self._check_image(table, each)
            if table.checked.all():
                source = table.replaced()
                table.settled = table.image[source], table.emoji[source]
            elif table.good[image].all():
                return image, table.emoji[source]
        image, emoji = settled
        return image[start:stop], emoji[start:stop]

    def _pixels(self, tables: list[_Table], images: list[np.ndarray]) -> np.ndarray | None:
        """The pixels of images, uint8 [images, …]; None if one of them turns out to be damaged."""
        size, encoding = self._size, self._split.manifest.encoding
        if has_plain_pixels(encoding):
            parts = [
                table.memory[table.memory_row[chosen]] for table, chosen in zip(tables, images, strict=True)
            ]
            return parts[0] if len(parts) == 1 else np.concatenate(parts)
        pixels = np.empty((sum(map(len, images)), size, size, 3), np.uint8)
        out = iter(pixels)
        whole = True
        for table, chosen in zip(tables, images, strict=True):
            columns = (each[chosen].tolist() for each in (table.shard, table.start, table.length))
            for image, position, start, length in zip(chosen.tolist(), *columns, strict=True):
                shard = table.shards[position]
                assert shard is not None
                try:
                    decode(shard.content[start : start + length], encoding, next(out))
                except ValueError as error:
                    self._quarantine.add_image(
                        table.numbers[position], shard, int(table.row[image]), str(error)
                    )
                    table.good[image] = whole = False
                    table.settled = None
        return pixels if whole else None
