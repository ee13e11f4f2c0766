"""What of a split is damaged: found by checksum, told once, and counted.

OpenShard ─► Quarantine.rows: those whose bytes differ from their CRC-32 ─► Quarantined ─► told, limit
"""

import hashlib
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from ..errors import InputError
from ..shards.encoding import min_bytes
from ..shards.index import ShardError
from .split import OpenShard, Split


@dataclass(frozen=True)
class Quarantined:
    """What is not trained on, because it is damaged: an image, or a whole shard where `key` is None."""

    shard: str
    key: str | None  # "row 5" where the index no longer tells it
    reason: str
    tuples: int


class Quarantine:
    """What is known to be damaged so far. Threads may ask and add at the same time."""

    def __init__(self, split: Split, max_share: float, tell: Callable[[Quarantined], None]) -> None:
        """`max_share` of the tuples may be damaged; `tell` is called once for whatever is found to be."""
        self._split, self._max_share, self._tell = split, max_share, tell
        self._min_bytes = min_bytes(split.manifest.encoding, split.manifest.image_size)
        self._rows: dict[int, dict[int, str]] = defaultdict(dict)  # of each shard: damaged rows, and why
        self._checked: set[int] = set()  # shards of which every image was checked
        self._tuples: Counter[int] = Counter()  # quarantined, of each shard
        self._first: list[Quarantined] = []  # three at most, for the message
        self._keys = lru_cache(8)(lambda number: split.read_index(number).keys)
        self._lock = threading.Lock()

    def rows(self, number: int, shard: OpenShard | None) -> list[int]:
        """The damaged rows of a shard. All of its images are checked when it is asked for the first time.

        Args:
            shard: None where it could not be opened; it was added by `add_shard` then.
        """
        if number not in self._checked:
            assert shard is not None
            if not self._is_as_built(number, shard):
                for row in range(len(shard.length)):
                    self.check(number, shard, row)
            self._checked.add(number)
        return list(self._rows[number])

    def _is_as_built(self, number: int, shard: OpenShard) -> bool:
        """Whether no image of a shard is damaged, by the shard's own digest.

        It is one call without the GIL. A call for each image costs less by itself, but threads that check
        wait for each other's turn at the interpreter then, and so does who feeds the GPU.
        """
        if (shard.length < self._min_bytes).any():
            return False
        return hashlib.sha256(shard.content.data).hexdigest() == self._split.shards[number].sha256

    def has_checked(self, number: int) -> bool:
        """Whether all images of a shard are checked, so that `rows` reads none."""
        return number in self._checked

    def check(self, number: int, shard: OpenShard, row: int) -> bool:
        """Check one image of a shard; whether it is damaged."""
        if not shard.is_right(row) and not self._split.mend(number, shard, row):
            self.add_image(number, shard, row, "checksum differs")
        elif shard.length[row] < self._min_bytes:
            self.add_image(number, shard, row, "too few bytes")
        return row in self._rows[number]

    def add_shard(self, number: int, error: ShardError) -> None:
        """Note that nothing of a shard can be read, though it could when it was checked, perhaps."""
        entry = self._split.shards[number]
        with self._lock:
            if len(self._rows[number]) < entry.images:
                self._rows[number] = dict.fromkeys(range(entry.images), str(error))
                self._checked.add(number)
                tuples = entry.tuples - self._tuples[number]
                self._add(number, Quarantined(entry.name, None, str(error), tuples))

    def add_image(self, number: int, shard: OpenShard, row: int, reason: str) -> None:
        """Note that an image cannot be used."""
        try:
            key = self._keys(number)[row]
        except ShardError:  # the index was damaged since the shard was opened
            key = f"row {row}"
        with self._lock:
            if row not in self._rows[number]:
                self._rows[number][row] = reason
                name = self._split.shards[number].name
                self._add(number, Quarantined(name, key, reason, shard.tuples_of(row)))

    def check_limit(self) -> None:
        """Raise InputError when more is damaged than is allowed."""
        allowed = int(self._max_share * self._split.num_tuples)
        damaged = self._tuples.total()
        if damaged > allowed:
            first = "; ".join(f"{each.shard} {each.key or ''}: {each.reason}" for each in self._first)
            raise InputError(
                f"{damaged} tuples of {self._split.folder} are damaged, more than {allowed}: {first}. "
                f"See `emojigan shards verify {self._split.folder}`, and copy the shards again."
            )

    def _add(self, number: int, quarantined: Quarantined) -> None:
        self._tuples[number] += quarantined.tuples
        self._first += [quarantined][: 3 - len(self._first)]
        self._tell(quarantined)
