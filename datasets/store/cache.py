"""Shards of a store, kept on this machine while they are read.

A file lies under the SHA-256 that the manifest gives it, so it is whole or absent, and any number of ranks
and runs can share one folder. When it is full, the files that were asked for longest ago are removed, also
while they are memory-mapped: the system keeps their bytes until they are unmapped. For the same reason a copy
that turns out to be damaged is removed and fetched again, and never written over.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .atomic import sha256
from .folder import StoreFolder
from .trouble import MISSING, tell

_UNFINISHED = re.compile(r"\.([0-9a-f]{64})\..*\.tmp")


class WrongFile(ValueError):
    """A store has not the file that the manifest tells of; the message says how."""


@dataclass(frozen=True)
class ShardCache:
    """A folder of at most `max_bytes`; the file that was asked for last stays, however large it is."""

    path: Path
    max_bytes: int

    @contextmanager
    def holding(
        self, folder: StoreFolder, name: str, digest: str, *, compare: bool = False
    ) -> Iterator[Path]:
        """Yield the local copy of a file, fetched if it is not there; meanwhile nobody removes it.

        Args:
            compare: also fetch it if a copy is there that has another digest.

        Raises:
            WrongFile: the store has no such file, or gives another than the manifest tells of, twice.
            OSError: this machine or the store is in trouble.
        """
        path = self.path / digest
        self.path.mkdir(parents=True, exist_ok=True)
        fetching = False
        try:
            with self._locked(digest):  # ranks of one machine want the same shards at the same time
                if compare and path.exists() and sha256(path) != digest:
                    tell(f"{path}: a damaged copy of {folder}/{name}. Fetching it again.")
                    path.unlink()
                if fetching := not path.exists():
                    self._fetch(folder, name, digest)
                os.utime(path)
                yield path
        finally:
            if fetching:  # also in vain: what killed ranks left may have filled the disk
                with self._locked("evict"):  # two at once may each remove what the other one keeps
                    self._evict()

    def _fetch(self, folder: StoreFolder, name: str, digest: str) -> None:
        for _ in range(2):
            try:
                folder.download(name, self.path / digest)
            except MISSING as error:
                if folder.size(name) is None:  # else it is the folder of this cache that is gone
                    raise WrongFile("the store has no such file") from error
                raise
            if sha256(self.path / digest) == digest:
                return
            (self.path / digest).unlink()
        raise WrongFile("the store gives another file than the manifest tells of")

    def _evict(self) -> None:
        """Remove what killed ranks left, and then what was asked for longest ago, until the rest fits."""
        files, left = [], 0
        for path in self.path.iterdir():
            with suppress(FileNotFoundError):  # another rank was faster
                stat = path.stat()
                if len(path.name) == 64:
                    files.append((stat.st_mtime_ns, stat.st_size, path))
                elif not (unfinished := _UNFINISHED.fullmatch(path.name)) or self._remove(
                    path, unfinished[1]
                ):
                    continue
                left += stat.st_size
        for _, size, path in sorted(files)[:-1]:
            if left <= self.max_bytes:
                return
            if self._remove(path, path.name):
                left -= size

    def _remove(self, path: Path, digest: str) -> bool:
        """Remove a file, unless its lock is held: by who uses it, or writes it; a killed rank holds none."""
        try:
            with self._locked(digest, fcntl.LOCK_NB):
                path.unlink(missing_ok=True)
                return True
        except BlockingIOError:
            return False

    @contextmanager
    def _locked(self, digest: str, option: int = 0) -> Iterator[None]:
        """Hold the lock of a digest, or that of "evict", which no digest has: "v" is no hexadecimal digit."""
        with open(self.path / f"{digest[:2]}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | option)
            yield
