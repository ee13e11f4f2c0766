"""A folder of files, on this machine or on an object store, in which a file is whole or absent.

Names are relative and stay inside the folder: they come out of manifests, which somebody else may have
written. Of fsspec's protocols only plain stores are allowed: others run programs, or chain.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import fsspec

from ..errors import InputError
from .atomic import replacing, write_atomic

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "http", "https", "memory")
_NAME = re.compile(r"[\w.+=@-]+(/[\w.+=@-]+)*", re.ASCII)


@dataclass(frozen=True)
class Folder:
    """A folder by its path or URL (`shards`, `s3://bucket/shards`)."""

    place: str

    def __post_init__(self) -> None:
        scheme, found, _ = self.place.partition("://")
        if not self.place:
            raise InputError("The place of the shards is empty. Give a folder or a URL.")
        if (
            (found and scheme not in (*SCHEMES, "file"))
            or "::" in self.place
            or self.place.startswith("pipe:")
        ):
            raise InputError(
                f"{self.place}: not a place for shards. Give a folder, or {'://, '.join(SCHEMES)}://."
            )

    def __str__(self) -> str:
        return self.place

    @cached_property
    def path(self) -> Path | None:
        """The folder on this machine; None when it is on a store."""
        scheme, found, rest = self.place.partition("://")
        return Path(self.place) if not found else Path(rest) if scheme == "file" else None

    def absolute(self) -> "Folder":
        """The same folder, wherever a process works that is told of it."""
        return self if self.path is None else Folder(str(self.path.absolute()))

    @cached_property
    def _store(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            return fsspec.core.url_to_fs(self.place, use_listings_cache=False)
        except ImportError as error:
            raise InputError(f"{self.place}: {error}. For S3: `pip install emojigan[s3]`.") from error

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The content of a file, or its bytes from `start` to `end`. Raises FileNotFoundError."""
        if self.path is not None:
            with open(self.path / _checked(name), "rb") as file:
                file.seek(start)
                return file.read(-1 if end is None else end - start)
        store, root = self._store
        part = {} if not start and end is None else {"start": start, "end": end}
        with self._told():
            content = store.cat_file(f"{root}/{_checked(name)}", **part)
        assert isinstance(content, bytes)
        return content

    def write(self, name: str, content: bytes | str) -> None:
        """Write a file so that a reader sees the old one or the new one, never a part."""
        if self.path is not None:
            return write_atomic(self.path / _checked(name), content)
        store, root = self._store
        content = content.encode() if isinstance(content, str) else content
        with self._told():
            store.pipe_file(f"{root}/{_checked(name)}", content)

    @contextmanager
    def creating(self, name: str) -> Iterator[Path]:
        """Yield a path on this machine to write to; on success the file is here, on any error it is not."""
        if self.path is not None:
            with replacing(self.path / _checked(name)) as temporary:
                yield temporary
            return
        store, root = self._store
        with tempfile.TemporaryDirectory(prefix="emojigan-") as folder:
            temporary = Path(folder) / "file"
            yield temporary
            with self._told():
                store.put_file(str(temporary), f"{root}/{_checked(name)}")

    def download(self, name: str, file: Path) -> None:
        """Copy a file of a store to this machine, whole or not at all."""
        store, root = self._store
        with replacing(file) as temporary, self._told():
            store.get_file(f"{root}/{_checked(name)}", str(temporary))

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """Yield a path on this machine to read from; of a store's file, a copy that goes afterwards."""
        if self.path is not None:
            yield self.path / _checked(name)
            return
        with tempfile.TemporaryDirectory(prefix="emojigan-") as folder:
            self.download(name, Path(folder) / "file")
            yield Path(folder) / "file"

    def size(self, name: str) -> int | None:
        """Bytes of a file; None when it is not there."""
        try:
            if self.path is not None:
                return (self.path / _checked(name)).stat().st_size
            store, root = self._store
            with self._told():
                return store.size(f"{root}/{_checked(name)}")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, under: str = "") -> list[str]:
        """The names of all files, or of those in a folder of it, sorted; temporary ones too."""
        if self.path is not None:
            found = (path for path in (self.path / under).rglob("*") if path.is_file())
            return sorted(str(PurePosixPath(path.relative_to(self.path))) for path in found)
        store, root = self._store
        with self._told():
            return sorted(path[len(root) + 1 :] for path in store.find(f"{root}/{under}".rstrip("/")))

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is removed already."""
        if self.path is not None:
            return (self.path / _checked(name)).unlink(missing_ok=True)
        store, root = self._store
        with self._told():
            if store.exists(path := f"{root}/{_checked(name)}"):
                store.rm_file(path)

    def remove_folder(self, name: str) -> None:
        """Remove a folder with all that is in it; one that is not there is removed already."""
        if self.path is not None:
            if (self.path / _checked(name)).exists():
                shutil.rmtree(self.path / name)
            return
        store, root = self._store
        with self._told():
            if store.exists(path := f"{root}/{_checked(name)}"):
                store.rm(path, recursive=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What botocore refuses is no OSError (s3fs lets it through): no credentials, no such host."""
        try:
            yield
        except Exception as error:
            if not type(error).__module__.startswith("botocore."):
                raise
            raise InputError(f"{self.place}: {error}") from error


def is_safe(name: str) -> bool:
    """Whether a name stays inside its folder: parts of ASCII letters, digits and .+=@_- between slashes."""
    return bool(_NAME.fullmatch(name)) and not {".", ".."} & set(name.split("/"))


def _checked(name: str) -> str:
    if not is_safe(name):
        raise InputError(f"{name!r} is not a name of a file inside a dataset.")
    return name
