"""Shards of a store, kept on this machine while they are read.

A file lies under the SHA-256 that the manifest gives it, so it is whole or absent, and any number of ranks
and runs can share one folder. When it is full, the files that were asked for longest ago are removed, also
while they are memory-mapped: the system keeps their bytes until they are unmapped.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .atomic import sha256
from .folder import StoreFolder


@dataclass(frozen=True)
class ShardCache:
    """A folder of at most `max_bytes`; the file that was asked for last stays, however large it is."""

    path: Path
    max_bytes: int

    @contextmanager
    def holding(self, folder: StoreFolder, name: str, digest: str) -> Iterator[Path]:
        """Yield the local copy of a file, fetched if it is not there; meanwhile nobody removes it.

        Raises:
            OSError: the store has no such file, or gives another than the manifest tells of, twice.
        """
        path = self.path / digest
        self.path.mkdir(parents=True, exist_ok=True)
        with self._locked(digest):  # ranks of one machine want the same shards at the same time
            if fetched := not path.exists():
                self._fetch(folder, name, digest)
            os.utime(path)
            yield path
        if fetched:
            self._evict()

    def _fetch(self, folder: StoreFolder, name: str, digest: str) -> None:
        for _ in range(2):
            folder.download(name, self.path / digest)
            if sha256(self.path / digest) == digest:
                return
            (self.path / digest).unlink()
        raise OSError("the store gives another file than the manifest tells of")

    def _evict(self) -> None:
        """Remove the files that were asked for longest ago, until the rest fits."""
        files = []
        for path in self.path.iterdir():
            with suppress(FileNotFoundError):  # another rank was faster
                if len(path.name) == 64:
                    stat = path.stat()
                    files.append((stat.st_mtime_ns, stat.st_size, path))
        left = sum(size for _, size, _ in files)
        for _, size, path in sorted(files)[:-1]:
            if left <= self.max_bytes:
                return
            with suppress(BlockingIOError), self._locked(path.name, fcntl.LOCK_NB):
                path.unlink(missing_ok=True)
                left -= size

    @contextmanager
    def _locked(self, digest: str, option: int = 0) -> Iterator[None]:
        with open(self.path / f"{digest[:2]}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | option)
            yield
