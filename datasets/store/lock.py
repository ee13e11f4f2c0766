"""One writer at a time in a folder; a second one is told so, and who the first is.

    writing ─► a disk: a lock of the system on `.lock`, which ends with its process
            ─► a store: a file of one's own in `.writers/`, written anew every few seconds: a sign of life

Of two writers on a store each writes that it writes before it lists what others wrote, so at least one sees
the other and steps back. This asks of a store only that it lists what was written, which all do; and no
clocks are compared. A file without a sign of life for SILENCE is of a writer that was killed, and goes.
"""

import fcntl
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from ..errors import InputError
from .folder import Folder, StoreFolder

LOCK, WRITERS = ".lock", ".writers"
POLL, BEAT, SILENCE = 1.0, 10.0, 45.0  # seconds


class Lock(Protocol):
    """What the only writer holds."""

    def check(self) -> None:
        """Raise InputError when another one may have begun, because no sign of life came from here."""
        ...


@contextmanager
def writing(folder: Folder, what: str, *, wait: bool = False) -> Iterator[Lock]:
    """Be the only writer of a folder.

    Args:
        what: is being done, for a second writer to read: "shards forget".
        wait: for the end of another writer, instead of refusing.

    Raises:
        InputError: another one is writing there.
    """
    writer = f"`{what}`, process {os.getpid()} on {socket.gethostname()} since {datetime.now():%H:%M:%S}"
    if isinstance(folder, StoreFolder):
        held = _announced(StoreFolder(f"{folder.url}/{WRITERS}"), folder, writer, wait)
    else:
        assert folder.path is not None
        held = _locked(folder.path, writer, wait)
    with held as lock:
        yield lock


def is_of_lock(name: str) -> bool:
    """Whether a file is one by which writers know of each other."""
    return name == LOCK or name.startswith(f"{WRITERS}/")


class _Waiting:
    """Tells once for whom a writer waits; or refuses, where it shall not wait."""

    def __init__(self, folder: Folder | Path, wait: bool) -> None:
        self._folder, self._wait, self._told = folder, wait, False

    def find(self, other: str) -> None:
        """There is a sign of another writer, which may be dead."""
        self._tell(
            f"{self._folder} was being written by {other}: waiting {SILENCE:.0f} s for a sign of life."
        )

    def meet(self, other: str) -> None:
        """There is another writer."""
        if not self._wait:
            raise InputError(f"{self._folder} is being written by {other}. Try again when that has ended.")
        self._tell(f"{self._folder} is being written by {other}: waiting for its end.")

    def _tell(self, line: str) -> None:
        if not self._told:
            print(line, file=sys.stderr)
        self._told = True


class _SystemLock:
    """A lock that the system keeps as long as this process lives."""

    def check(self) -> None:
        """Nobody can have taken it."""


@contextmanager
def _locked(path: Path, writer: str, wait: bool) -> Iterator[Lock]:
    path.mkdir(parents=True, exist_ok=True)
    waiting = _Waiting(path, wait)
    while True:
        with open(path / LOCK, "a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                waiting.meet(file.read() or "another process")
                time.sleep(POLL)
                continue
            except OSError:  # a network disk may have none
                print(f"{path}: this disk has no locks. See that nobody else writes there.", file=sys.stderr)
            if not _is_at(file.fileno(), path / LOCK):
                continue  # the writer before us took the file away after we had opened it
            file.truncate(0)
            file.write(writer)
            file.flush()
            try:
                yield _SystemLock()
            finally:
                (path / LOCK).unlink(missing_ok=True)
            return


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


@dataclass(frozen=True)
class _Sign:
    """What the file of a writer says."""

    writer: str
    writes: bool  # or waits
    number: str  # another each time


class _SignsOfLife:
    """A writer's file in `.writers/`, and the thread that writes it anew."""

    def __init__(self, writers: StoreFolder, folder: Folder, writer: str) -> None:
        self.name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"  # who came first is the first by name
        self._writers, self._folder, self._writer = writers, folder, writer
        self._writes = self._lost = False
        self._last = time.monotonic()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.give(writes=False)
        self._thread = threading.Thread(target=self._keep_giving, daemon=True)
        self._thread.start()

    def give(self, writes: bool | None = None) -> None:
        """Write the file, which tells whether this one writes, or waits."""
        with self._lock:
            begun = time.monotonic()
            self._lost |= begun - self._last > SILENCE  # and is taken for dead
            if self._lost:
                return
            self._writes = self._writes if writes is None else writes
            sign = _Sign(self._writer, self._writes, secrets.token_hex(8))
            self._writers.write(self.name, json.dumps(asdict(sign)))
            self._last = begun

    def check(self) -> None:
        if self._lost or time.monotonic() - self._last > SILENCE / 2:
            raise InputError(
                f"{self._folder} had no sign of life from this process for too long: another one may be "
                "writing there. Run the same command again."
            )

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self._writers.remove(self.name)

    def _keep_giving(self) -> None:
        while not self._ended.wait(BEAT):
            with suppress(Exception):  # the store may be back at the next one; else `check` tells
                self.give()


@contextmanager
def _announced(writers: StoreFolder, folder: Folder, writer: str, wait: bool) -> Iterator[Lock]:
    own = _SignsOfLife(writers, folder, writer)
    try:
        _become_writer(writers, own, _Waiting(folder, wait))
        yield own
    finally:
        own.end()


def _become_writer(writers: StoreFolder, own: _SignsOfLife, waiting: _Waiting) -> None:
    """Return when nobody else writes. Raises InputError when somebody does who gives signs of life."""
    met: dict[str, tuple[_Sign, float]] = {}  # the last sign of each other one, and when it was first seen
    while True:
        others = _read_others(writers, own.name)
        for name, sign in others.items():
            last, since = met.setdefault(name, (sign, time.monotonic()))
            if sign != last:
                met[name] = sign, time.monotonic()
                if sign.writes:
                    waiting.meet(sign.writer)
            elif time.monotonic() - since > SILENCE:
                writers.remove(name)
            elif sign.writes:
                waiting.find(sign.writer)
        if not any(sign.writes or name < own.name for name, sign in others.items()):
            own.give(writes=True)
            if not any(sign.writes for sign in _read_others(writers, own.name).values()):
                own.check()
                return
            own.give(writes=False)
        time.sleep(POLL)


def _read_others(writers: StoreFolder, own: str) -> dict[str, _Sign]:
    found = {}
    for name in writers.names():
        with suppress(FileNotFoundError):  # it has ended
            found[name] = _Sign(**json.loads(writers.read(name)))
    return {name: sign for name, sign in found.items() if name != own}
