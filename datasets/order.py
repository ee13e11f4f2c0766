"""Which tuple is at which position of an epoch: a pure function, so that a position is one integer.

    (seed, epoch, tuples per shard, window)  ─►  position ─► (shard, tuple of that shard)

The shards are permuted; the tuples are permuted inside a window of consecutive shards, so that reads stay
near each other and mixing is as wide as the window (a window of all shards is a full permutation). Nothing
here knows of ranks, threads or restarts: those only choose which positions to ask for.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Order:
    """The order of every epoch over shards that hold `tuples` tuples each."""

    seed: int
    tuples: tuple[int, ...]  # per shard
    window: int  # shards

    def locate(self, epoch: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The tuples at positions [start, stop) of an epoch, at a cost that does not depend on `start`.

        Returns:
            int64 [stop - start] shards, and int64 [stop - start] tuples within their shards.
        """
        assert 0 <= start <= stop <= sum(self.tuples)
        _, first = _shard_order(self, epoch)
        parts = []
        for window in range(np.searchsorted(first, start, side="right") - 1, len(first) - 1):
            if first[window] >= stop:
                break
            places = _window_order(self, epoch, window)
            parts.append(places[:, max(start - first[window], 0) : stop - first[window]])
        shard, row = np.concatenate(parts, axis=1) if parts else np.empty((2, 0), np.int64)
        return shard, row


@lru_cache(maxsize=4)
def _shard_order(order: Order, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The epoch's permutation of the shards, and the first position of each window, and the end."""
    shards = _permutation(len(order.tuples), order.seed, "shards", epoch)
    sizes = np.array(order.tuples, np.int64)[shards]
    sizes = np.add.reduceat(sizes, np.arange(0, len(sizes), order.window))
    return shards, np.concatenate([[0], np.cumsum(sizes)])


@lru_cache(maxsize=2)
def _window_order(order: Order, epoch: int, window: int) -> np.ndarray:
    """int64 [2, tuples]: shard and row of every tuple of a window, in the order in which they come."""
    shards = _shard_order(order, epoch)[0][window * order.window : (window + 1) * order.window]
    sizes = np.array(order.tuples, np.int64)[shards]
    places = np.stack([np.repeat(shards, sizes), np.concatenate([np.arange(size) for size in sizes])])
    return places[:, _permutation(places.shape[1], order.seed, "window", epoch, window)]


def _permutation(size: int, *key: int | str) -> np.ndarray:
    """A permutation of range(size) that depends on the key alone.

    Sorting raw bits, because NumPy freezes the streams of its bit generators but not what Generator makes
    of them: a run resumed under another NumPy must find the same order.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    bits = np.random.Philox(key=int.from_bytes(digest, "little")).random_raw(size)
    return np.argsort(bits, kind="stable")
