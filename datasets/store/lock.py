"""One writer at a time in a folder; a second one is told so, and who the first is.

    writing ─► a disk: a lock of the system on `.lock`, which ends with its process
            ─► a store: a file of one's own in `.writers/`, of a new name every few seconds: a sign of life
            ─► a disk without such locks, as some networks have: signs of life, too

Of two writers on a store each says that it writes before it lists what others say, so at least one sees the
other and steps back. This asks of a store only that it lists what was written, which all do. No clocks are
compared, but to choose who of those that wait is the next. One without a sign of life for SILENCE was killed,
and its file goes.
"""

import fcntl
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from io import FileIO
from pathlib import Path

from ..errors import InputError
from .atomic import telling_where
from .folder import Folder, StoreFolder
from .trouble import patiently, tell

LOCK, WRITERS = ".lock", ".writers"
WRITES, WAITS = "writes", "waits"  # how the name of a sign of life ends
POLL, BEAT, SILENCE = 1.0, 10.0, 45.0  # seconds


@contextmanager
def writing(folder: Folder, what: str, *, wait: bool = False) -> Iterator[Folder]:
    """Be the only writer of a folder; yield it, to be written through, in other processes too.

    On a store each of its writings sees first that this writer was not taken for dead meanwhile.

    Args:
        what: is being done, for a second writer to read: "shards forget".
        wait: for the end of another writer, instead of refusing.

    Raises:
        InputError: another one is writing there.
    """
    writer = f"`{what}`, process {os.getpid()} on {socket.gethostname()} since {datetime.now():%H:%M:%S}"
    if isinstance(folder, StoreFolder):
        with _announced(folder, writer, wait) as fenced:
            yield fenced
    else:
        assert folder.path is not None
        with _locked(folder.path, writer, wait):
            yield folder


def is_of_lock(name: str) -> bool:
    """Whether a file is one by which writers know of each other."""
    return name == LOCK or name.startswith(f"{WRITERS}/")


class _Waiting:
    """Tells for whom a writer waits; or refuses, where it shall not wait."""

    def __init__(self, folder: Folder | Path, waits: bool) -> None:
        self._folder, self._waits = folder, waits
        self._told: set[Callable] = set()

    def may_live(self, other: Callable[[], str]) -> None:
        """There are signs of another writer, which may be dead."""
        if self.may_live not in self._told:
            self._told.add(self.may_live)
            tell(
                f"{self._folder} was being written by {other()}: waiting {SILENCE:.0f} s for a sign of life."
            )

    def lives(self, other: Callable[[], str]) -> None:
        """There is another writer."""
        if not self._waits:
            raise InputError(f"{self._folder} is being written by {other()}. Try again when that has ended.")
        if self.lives not in self._told:
            self._told.add(self.lives)
            tell(f"{self._folder} is being written by {other()}: waiting for its end.")


@contextmanager
def _locked(path: Path, writer: str, wait: bool) -> Iterator[None]:
    waiting, made = _Waiting(path, wait), not path.exists()
    while True:
        path.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path / LOCK, "a+b", buffering=0)  # noqa: SIM115, closed below
        except FileNotFoundError:
            continue  # the writer before us took away the folder, which it had made
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting.lives(partial(_who, file))
                time.sleep(POLL)
                continue
            except OSError:  # a network disk may have none
                (path / WRITERS).mkdir(exist_ok=True)
                with _announced(StoreFolder(f"file://{path.absolute()}"), writer, wait):
                    yield
                return
            if not _is_at(file.fileno(), path / LOCK):
                continue  # the writer before us took the file away after we had opened it
            with telling_where(path / LOCK):
                file.truncate(0)
                file.write(writer.encode())
            try:
                yield
            finally:
                (path / LOCK).unlink(missing_ok=True)
                if made:
                    with suppress(OSError):  # something came into it
                        path.rmdir()
            return


def _who(file: FileIO) -> str:
    """Who has the lock, as he writes a moment after he has got it."""
    for _ in range(10):
        file.seek(0)
        if writer := file.read():
            return writer.decode()
        time.sleep(0.05)
    return "another process"


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


@dataclass(frozen=True)
class _Fenced(StoreFolder):
    """A store's folder that is not written to any more once its writer is taken for dead."""

    identity: str

    def write(self, name: str, content: bytes | str) -> None:
        self._check()
        super().write(name, content)

    def swap(self, name: str, old: bytes | None, new: bytes | str) -> bool:
        self._check()
        return super().swap(name, old, new)

    @contextmanager
    def creating(self, name: str) -> Iterator[Path]:
        with super().creating(name) as path:
            yield path
            self._check()

    def remove(self, name: str) -> None:
        self._check()
        super().remove(name)

    def remove_folder(self, name: str) -> None:
        self._check()
        super().remove_folder(name)

    def _check(self) -> None:
        """Raise InputError unless this one writes, and nobody else.

        One that waits may say that it writes, and takes that back a moment later, when it sees who does.
        """
        deadline = time.monotonic() + SILENCE
        while True:
            names = patiently(_writers(self).names, self)
            others = [name for name in names if not name.startswith(self.identity)]
            if len(others) == len(names) or time.monotonic() > deadline:
                raise _taken_for_dead(self)
            if not any(name.endswith(f"-{WRITES}") for name in others):
                return
            time.sleep(POLL)


def _writers(folder: StoreFolder) -> StoreFolder:
    """Where each writer of a folder has its file."""
    return StoreFolder(f"{folder.url}/{WRITERS}")


def _taken_for_dead(folder: Folder) -> InputError:
    """What to raise where another one may be writing by now."""
    return InputError(
        f"{folder} had no sign of life from this process for too long: another one may be writing there. Run "
        "the same command again."
    )


class _SignsOfLife:
    """A writer's file in `.writers/`, and the thread that puts one of a new name in its place."""

    def __init__(self, folder: StoreFolder, writer: str) -> None:
        self.identity = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        self._folder, self._writers, self._writer = folder, _writers(folder), writer
        self._writes = False
        self._number = 0
        self._name = ""
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.give(writes=False)
        self._thread = threading.Thread(target=self._keep_giving, daemon=True)
        self._thread.start()

    def give(self, writes: bool | None = None) -> None:
        """Give a sign, which tells whether this one writes, or waits. Raises InputError where it is dead."""
        with self._lock:
            if self._name and self._writers.size(self._name) is None:
                raise _taken_for_dead(self._folder)
            self._writes = self._writes if writes is None else writes
            old, self._number = self._name, self._number + 1
            self._name = f"{self.identity}-{self._number:06d}-{WRITES if self._writes else WAITS}"
            self._writers.write(self._name, self._writer)
            if not old:
                return
            if self._writers.size(old) is None:  # taken away while this one was on its way: too late
                self._writers.remove(self._name)
                raise _taken_for_dead(self._folder)
            self._writers.remove(old)

    def keeps_conditions(self) -> bool:
        """Whether the store heeds the conditions of a writing."""
        with self._lock:
            return self._writers.keeps_conditions(self._name)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self._writers.remove(self._name)

    def _keep_giving(self) -> None:
        while not self._ended.wait(BEAT):
            with suppress(Exception):  # the store may be back at the next one
                self.give()


@contextmanager
def _announced(folder: StoreFolder, writer: str, wait: bool) -> Iterator[Folder]:
    own = _SignsOfLife(folder, writer)
    try:
        _become_writer(_writers(folder), own, _Waiting(folder, wait))
        if folder.url.startswith("s3:") and not own.keeps_conditions():
            tell(
                f"{folder} is on a server that does not heed conditional writes: two writers at once are "
                "kept apart by their signs of life alone."
            )
        yield _Fenced(folder.url, own.identity)
    finally:
        own.end()


@dataclass(frozen=True)
class _Sign:
    """What the name of a file in `.writers/` says."""

    name: str
    number: int
    writes: bool  # or waits


def _become_writer(writers: StoreFolder, own: _SignsOfLife, waiting: _Waiting) -> None:
    """Return when nobody else writes. Raises InputError when somebody does who gives signs of life."""
    met: dict[str, tuple[int, float]] = {}  # the last sign of each other one, and when it was first seen
    while True:
        others = _others(writers, own.identity)
        for identity, sign in others.items():
            last, since = met.setdefault(identity, (sign.number, time.monotonic()))
            if sign.number > last:  # a smaller one is left of one that was killed beside its last sign
                met[identity] = sign.number, time.monotonic()
                if sign.writes:
                    waiting.lives(partial(_text, writers, sign))
            elif time.monotonic() - since > SILENCE:
                writers.remove(sign.name)
            elif sign.writes or identity < own.identity:
                waiting.may_live(partial(_text, writers, sign))
        if not any(sign.writes or identity < own.identity for identity, sign in others.items()):
            own.give(writes=True)
            if not any(sign.writes for sign in _others(writers, own.identity).values()):
                return
            own.give(writes=False)
        time.sleep(POLL)


def _others(writers: StoreFolder, own: str) -> dict[str, _Sign]:
    """The last sign of each other one, by who gave it: a listing tells all."""
    found: dict[str, _Sign] = {}
    for name in writers.names():  # sorted
        identity, number, writes = name.rsplit("-", 2)
        found[identity] = _Sign(name, int(number), writes == WRITES)
    return {identity: sign for identity, sign in found.items() if identity != own}


def _text(writers: StoreFolder, sign: _Sign) -> str:
    try:
        return writers.read(sign.name).decode()
    except FileNotFoundError:  # there is a newer one, or it has ended
        return "another process"
