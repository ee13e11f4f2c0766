"""Local tars, as long as a stream reads them: what is written over one shows in the memory that maps it."""

from functools import partial
from pathlib import Path

from ..errors import InputError
from ..store.atomic import sha256
from ..store.trouble import MISSING, patiently
from .split import Split


class Unchanged:
    """What the tars of a split were when each was first opened. Copies in a cache are not looked at."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self._identities: dict[int, tuple[int, ...] | None] = {}

    def check(self, number: int) -> None:
        """Refuse a tar that is another than when it was first checked.

        Raises:
            InputError: the file, its size or its time is another, and its bytes are not the manifest's; or
                this machine is in trouble.
        """
        folder, shard = self._split.folder.path, self._split.shards[number]
        if folder is None:
            return
        path = folder / shard.name
        now = patiently(partial(_identity, path), path)
        if self._identities.setdefault(number, now) == now:
            return
        if now is None or patiently(partial(sha256, path), path) != shard.sha256:
            self._split.check_manifest()
            raise InputError(
                f"{path} was removed or written over while it was read. Put the right one there, and run the "
                "same command again."
            )
        self._identities[number] = now


def _identity(path: Path) -> tuple[int, ...] | None:
    """What becomes another when a file is written to or replaced; None where there is none."""
    try:
        stat = path.stat()
    except MISSING:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
