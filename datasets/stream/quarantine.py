"""What of a split is damaged: found by checksum, told once, and counted.

OpenShard ─► Damage.of: the rows that differ from their CRC-32 ─► Loss ─► quarantine, limit
"""

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from zlib_ng import zlib_ng

from ..errors import InputError
from ..shards.encoding import min_bytes
from ..shards.index import ShardError
from .split import OpenShard, Split


@dataclass(frozen=True)
class Loss:
    """What cannot be trained on: an image, or a whole shard where `key` is None."""

    shard: str
    key: str | None
    reason: str
    tuples: int


class Damage:
    """What is known so far. Threads may ask and add at the same time."""

    def __init__(self, split: Split, max_lost: float, quarantine: Callable[[Loss], None]) -> None:
        """`max_lost` is the share of the tuples that may be damaged; `quarantine` is told of each loss."""
        self._split, self._max_lost, self._quarantine = split, max_lost, quarantine
        self._smallest = min_bytes(split.manifest.encoding, split.manifest.image_size)
        self._rows: dict[int, dict[int, str]] = defaultdict(dict)  # of each shard: damaged rows, and why
        self._checked: set[int] = set()  # shards, from the first image to the last
        self._lost = 0  # tuples
        self._first: list[Loss] = []  # three at most
        self._keys = lru_cache(8)(lambda number: split.read_index(number).keys)
        self._lock = threading.Lock()

    def of(self, number: int, shard: OpenShard | None) -> list[int]:
        """The damaged rows of a shard; the first time, all of it is checked. None is a shard that is lost."""
        if number not in self._checked:
            assert shard is not None
            for row in range(len(shard.length)):
                self.has(number, shard, row)
            self._checked.add(number)
        return list(self._rows[number])

    def has(self, number: int, shard: OpenShard, row: int) -> bool:
        """Check one image of a shard."""
        if zlib_ng.crc32(shard.member(row)) != shard.crc32[row]:
            self.lose_image(number, shard, row, "checksum differs")
        elif shard.length[row] < self._smallest:
            self.lose_image(number, shard, row, "too few bytes")
        return row in self._rows[number]

    def lose_shard(self, number: int, error: ShardError) -> None:
        """Note that nothing of a shard can be read."""
        entry = self._split.shards[number]
        with self._lock:
            if number not in self._checked:
                self._rows[number] = dict.fromkeys(range(entry.images), str(error))
                self._checked.add(number)
                self._lose(number, None, str(error), entry.tuples)

    def lose_image(self, number: int, shard: OpenShard, row: int, reason: str) -> None:
        """Note that an image cannot be used."""
        key = self._keys(number)[row]
        with self._lock:
            if row not in self._rows[number]:
                self._rows[number][row] = reason
                self._lose(number, key, reason, shard.tuples_of(row))

    def check_limit(self) -> None:
        """Raise InputError when more is damaged than is allowed."""
        allowed = int(self._max_lost * self._split.num_tuples)
        if self._lost > allowed:
            first = "; ".join(f"{loss.shard} {loss.key or ''}: {loss.reason}" for loss in self._first)
            raise InputError(
                f"{self._lost} tuples of {self._split.folder} are damaged, more than {allowed}: {first}. "
                f"See `emojigan shards verify {self._split.folder}`, and copy the shards again."
            )

    def _lose(self, number: int, key: str | None, reason: str, tuples: int) -> None:
        loss = Loss(self._split.shards[number].name, key, reason, tuples)
        self._lost += tuples
        self._first += [loss][: 3 - len(self._first)]
        self._quarantine(loss)
