"""metrics.jsonl of a run: what was measured, a line a reading. It is the truth; MLflow is told of it.

    {"step": 20, "time": 1764191000123, "train/nll": 2.31, …}     time: milliseconds since 1970

Lines are in the order of their steps. A line is written at once and whole, so a process that is killed leaves
whole lines; a machine that loses its power may leave others, and they are dropped by the next start.
"""

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from ...datasets.store.atomic import telling_where, write_atomic

_NAME = re.compile(r"[\w/. -]{1,250}", re.ASCII)  # such names MLflow takes


@dataclass(frozen=True)
class Reading:
    """What a line says."""

    step: int
    time: int | None  # milliseconds since 1970; None in a file of an earlier version
    metrics: dict[str, float]

    @classmethod
    def of(cls, line: bytes) -> "Reading | None":
        """That of a line with its end; None where it says nothing that can be understood."""
        if not line.endswith(b"\n"):
            return None
        try:
            content = json.loads(line)
            step, at = content.pop("step"), content.pop("time", None)
            metrics = {name: float(value) for name, value in content.items()}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None
        known = _is_count(step) and (at is None or _is_count(at)) and all(map(_NAME.fullmatch, metrics))
        return cls(step, at, metrics) if known else None


class MetricsFile:
    """Appends to metrics.jsonl."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115, closed by `close`

    def append(self, step: int, metrics: dict[str, float]) -> None:
        """Write a line."""
        line = json.dumps({"step": step, "time": time.time_ns() // 1_000_000, **metrics}) + "\n"
        rest = line.encode()
        with telling_where(self._path):
            while rest:  # a disk that is nearly full takes a part
                rest = rest[self._file.write(rest) :]

    def sync(self) -> None:
        """See that what was written outlasts a loss of power."""
        with telling_where(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close it, synced."""
        with self._file:
            self.sync()


def cut(path: Path, step: int) -> int:
    """Leave the lines of steps up to `step`; return how many were dropped because they are damaged."""
    if not path.exists():
        return 0
    with telling_where(path):
        lines = path.read_bytes().splitlines(keepends=True)
    readings = [Reading.of(line) for line in lines]
    kept = [line for line, each in zip(lines, readings, strict=True) if each and each.step <= step]
    if len(kept) < len(lines):
        write_atomic(path, b"".join(kept))
    return readings.count(None)


def read_from(path: Path, start: int, most: int) -> tuple[list[Reading], int]:
    """Read whole lines from a position on. -> what they say, and the position behind them.

    Args:
        start, most: bytes.
    """
    with open(path, "rb") as file:
        file.seek(start)
        block = file.read(most)
    block = block[: block.rfind(b"\n") + 1]
    readings = [Reading.of(line) for line in block.splitlines(keepends=True)]
    return [each for each in readings if each], start + len(block)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63
