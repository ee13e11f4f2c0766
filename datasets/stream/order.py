"""Which tuple is at which position of an epoch: a pure function, so that a position is one integer.

    (seed, epoch, tuples per shard, window, lanes)  ─►  batch, rank ─► lane and positions ─► (shard, tuple)

So it is of reactions, where these are what a batch is made of.

The shards are permuted and laid end to end. Lanes cut this line into equal parts, and a batch takes the same
number of tuples from each: with as many lanes as nodes, a node meets only the shards of its own part. Inside
a lane the tuples are permuted within a window of consecutive shards, so that reads stay near each other and
mixing is as wide as the window (one lane, a window of all shards: a full permutation). Nothing here knows of
threads or restarts, and ranks only choose which positions to ask for.
"""

import hashlib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Window:
    """The tuples that are mixed with each other."""

    first: int  # position in the lane of its first tuple
    pieces: np.ndarray  # int64 [pieces, 3]: shard, and its tuples from … to …
    permutation: np.ndarray  # int64 [tuples]: which of the pieces' tuples comes first, second, …


@dataclass(frozen=True)
class Lane:
    """One lane of one epoch."""

    key: tuple[int, int]  # seed, epoch
    number: int  # of its first window; no two windows of an epoch have the same
    window: int  # shards
    pieces: np.ndarray  # int64 [pieces, 3], as in Window
    first: list[int]  # [windows + 1], position of the first tuple of each window, and the end

    @property
    def num_windows(self) -> int:
        return len(self.first) - 1

    def windows(self, start: int, stop: int) -> range:
        """The windows in which positions [start, stop) lie."""
        assert 0 <= start <= stop <= self.first[-1]
        return range(bisect_right(self.first, start) - 1, bisect_left(self.first, stop))

    def open(self, window: int) -> Window:
        """One window, at a cost that does not depend on its number."""
        first, end = self.first[window : window + 2]
        pieces = self.pieces[window * self.window : (window + 1) * self.window]
        seed, epoch = self.key
        permutation = _permutation(end - first, seed, "window", epoch, self.number + window)
        return Window(first, pieces, permutation)


@dataclass(frozen=True)
class Order:
    """The order of every epoch over shards of these sizes."""

    seed: int
    sizes: tuple[int, ...]  # tuples per shard
    window: int  # shards
    lanes: int = 1

    @property
    def lane_size(self) -> int:
        """Tuples in a lane; the remainder, fewer than there are lanes, is left out."""
        return sum(self.sizes) // self.lanes

    def lane(self, epoch: int, number: int) -> Lane:
        """A lane's part of the epoch's line of shards."""
        sizes = np.array(self.sizes, np.int64)
        shards = _permutation(len(sizes), self.seed, "shards", epoch)
        end = np.cumsum(sizes[shards])
        begin = end - sizes[shards]
        low, high = number * self.lane_size, (number + 1) * self.lane_size
        inside = np.flatnonzero((end > low) & (begin < high)) if self.lanes > 1 else np.arange(len(shards))
        start = np.maximum(low - begin[inside], 0)
        stop = np.minimum(high - begin[inside], sizes[shards[inside]])
        first = np.concatenate([[0], np.cumsum(stop - start)])
        return Lane(
            key=(self.seed, epoch),
            number=number * len(shards),
            window=self.window,
            pieces=np.stack([shards[inside], start, stop], axis=1),
            first=[*first[:-1][:: self.window].tolist(), int(first[-1])],
        )

    def parts(
        self, batch_in_epoch: int, batch_size: int, rank: int, world_size: int
    ) -> list[tuple[int, int, int]]:
        """Where a rank's slice of a batch lies: lanes, and of each the positions from … to …."""
        per_lane, per_rank = batch_size // self.lanes, batch_size // world_size
        parts = []
        for lane in range(rank * per_rank // per_lane, -(-(rank + 1) * per_rank // per_lane)):
            start = max(rank * per_rank - lane * per_lane, 0)
            stop = min((rank + 1) * per_rank - lane * per_lane, per_lane)
            parts.append((lane, batch_in_epoch * per_lane + start, batch_in_epoch * per_lane + stop))
        return parts

    def locate(self, epoch: int, start: int, stop: int, lane: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The tuples at positions [start, stop) of a lane: int64 shards, and int64 tuples within them."""
        whole = self.lane(epoch, lane)
        found = [np.empty((2, 0), np.int64)]
        for number in whole.windows(start, stop):
            window = whole.open(number)
            rows = [np.stack([np.full(b - a, shard), np.arange(a, b)]) for shard, a, b in window.pieces]
            tuples = np.concatenate(rows, axis=1)[:, window.permutation]
            found.append(tuples[:, max(start - window.first, 0) : stop - window.first])
        shard, row = np.concatenate(found, axis=1)
        return shard, row


def _permutation(size: int, *key: int | str) -> np.ndarray:
    """A permutation of range(size) that depends on the key alone."""
    return np.argsort(random_bits(size, *key), kind="stable")


def random_bits(size: int, *key: int | str) -> np.ndarray:
    """uint64 [size] that depend on the key alone.

    Raw bits, because NumPy freezes the streams of its bit generators but not what Generator makes of them: a
    run resumed under another NumPy must find the same order.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Philox(key=int.from_bytes(digest, "little")).random_raw(size)
