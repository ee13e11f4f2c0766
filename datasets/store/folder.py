"""A folder of files, on this machine or on an object store, in which a file is whole or absent.

    url ─► open_folder ─► LocalFolder | StoreFolder: one protocol

Names are relative and stay inside the folder: they come out of manifests, which somebody else may have
written. Of fsspec's protocols only plain stores are allowed: others start programs, or wrap further
protocols.
"""

import errno
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import fsspec

from ..errors import InputError
from .atomic import create, remove_folder, replacing, sha256, telling_where, write_atomic
from .conditions import unless_changed, write_if
from .trouble import FULL

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "http", "https", "memory")
_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "fsspec", "gcsfs", "google", "azure", "httpx", "asyncio")
_NAME = re.compile(r"[\w.+=@-]+(/[\w.+=@-]+)*", re.ASCII)


class Folder(Protocol):
    """What both kinds do; `str` tells where it is. A name that might lead out of it is an InputError."""

    @property
    def path(self) -> Path | None:
        """Where it lies on this machine; None when it is on a store."""
        ...

    def absolute(self) -> "Folder":
        """The same folder, with a path that holds for processes in any working directory."""
        ...

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The content of a file, or its bytes from `start` to `end`. Raises FileNotFoundError."""
        ...

    def write(self, name: str, content: bytes | str) -> None:
        """Write a file so that a reader sees the old one or the new one, never a part."""
        ...

    def swap(self, name: str, old: bytes | None, new: bytes | str) -> bool:
        """Write a file if it still has the content `old`, None for no file; return whether it had.

        Of two at once who write the same, both are told that it had. S3 compares as it writes, if the server
        heeds conditions: `keeps_conditions`. Elsewhere somebody may write between the two: be its only
        writer.
        """
        ...

    def creating(self, name: str) -> AbstractContextManager[Path]:
        """Yield a path on this machine to write to; on success the file is here, on any error it is not.

        What somebody else has put there meanwhile stays on S3, and is an InputError if it is not the same.
        """
        ...

    def reading(self, name: str) -> AbstractContextManager[Path]:
        """Yield a path on this machine to read from; of a store's file, a copy that goes afterwards."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None when it is not there."""
        ...

    def names(self) -> list[str]:
        """The names of all files, sorted; temporary ones too."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is removed already."""
        ...

    def remove_folder(self, name: str) -> None:
        """Remove a folder with all that is in it; one that is not there is removed already."""
        ...


def open_folder(url: str) -> Folder:
    """A folder by its path or URL: `shards`, `file:///data/shards`, `s3://bucket/shards`.

    Raises:
        InputError: the URL is empty, or of no plain store.
    """
    if not url:
        raise InputError("The place of the shards is empty. Give a folder or a URL.")
    scheme, found, rest = url.partition("://")
    if "::" in url or url.startswith("pipe:") or (found and scheme not in (*SCHEMES, "file")):
        raise InputError(f"{url}: not a place for shards. Give a folder, or {'://, '.join(SCHEMES)}://.")
    if found and scheme != "file":
        return StoreFolder(url)
    return LocalFolder(Path(rest if found else url))


def is_safe(name: str) -> bool:
    """Whether a name stays inside its folder: parts of ASCII letters, digits and .+=@_- between slashes."""
    return bool(_NAME.fullmatch(name)) and not {".", ".."} & set(name.split("/"))


def _checked(name: str) -> str:
    if not is_safe(name):
        raise InputError(f"{name!r} is not a name of a file inside a dataset.")
    return name


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def absolute(self) -> "LocalFolder":
        return LocalFolder(self.path.absolute())

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        with open(self.path / _checked(name), "rb") as file:
            file.seek(start)
            return file.read(-1 if end is None else end - start)

    def write(self, name: str, content: bytes | str) -> None:
        write_atomic(self.path / _checked(name), content)

    def swap(self, name: str, old: bytes | None, new: bytes | str) -> bool:
        if old is None:
            return create(self.path / _checked(name), new)
        same = self.size(name) is not None and self.read(name) == old
        if same:
            self.write(name, new)
        return same

    def creating(self, name: str) -> AbstractContextManager[Path]:
        return replacing(self.path / _checked(name))

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        yield self.path / _checked(name)

    def size(self, name: str) -> int | None:
        try:
            return (self.path / _checked(name)).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self) -> list[str]:
        found = (path for path in self.path.rglob("*") if path.is_file())
        return sorted(str(PurePosixPath(path.relative_to(self.path))) for path in found)

    def remove(self, name: str) -> None:
        (self.path / _checked(name)).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        if (self.path / _checked(name)).exists():
            remove_folder(self.path / name)


@dataclass(frozen=True)
class StoreFolder:
    """A folder on an object store, by its URL."""

    url: str
    path = None

    def __str__(self) -> str:
        return self.url

    def absolute(self) -> "StoreFolder":
        return self

    @cached_property
    def _opened(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """The store, and the path of this folder there."""
        try:
            return fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            raise InputError(
                f"{self.url}: {error}. For S3, in the checkout: pip install -e '.[s3]'."
            ) from error

    @contextmanager
    def _reaching(self, name: str | None = None) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
        """The store, and the path of a file there, or of the folder itself.

        The clients of stores let errors through which are no OSErrors: no credentials, no such host. Here
        they become OSErrors, which name this folder; and what is forbidden an InputError.
        """
        store, root = self._opened
        path = root if name is None else f"{root}/{_checked(name)}"
        try:
            yield store, path
        except PermissionError as error:  # no trouble that passes
            reason = str(error).rstrip(".") or "Forbidden"
            raise InputError(
                f"{self.url}: {reason}. The store does not let this key and secret in: see "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what your store asks for."
            ) from error
        except OSError as error:
            if error.filename is None:  # s3fs gives its own nothing but a sentence
                error.strerror = error.strerror or str(error).rstrip(".")
                error.filename = self.url
            raise
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in _CLIENTS:
                raise
            raise OSError(errno.EIO, str(error) or type(error).__name__, self.url) from error

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        part = {} if not start and end is None else {"start": start, "end": end}
        with self._reaching(name) as (store, path):
            content = store.cat_file(path, **part)
        assert isinstance(content, bytes)
        return content

    def write(self, name: str, content: bytes | str) -> None:
        with self._reaching(name) as (store, path):
            store.pipe_file(path, content.encode() if isinstance(content, str) else content)

    def swap(self, name: str, old: bytes | None, new: bytes | str) -> bool:
        content = new.encode() if isinstance(new, str) else new
        with self._reaching(name) as (store, path):
            condition = {"mode": "create"} if old is None else unless_changed(store, path)
        # We look ourselves first: some servers of S3 do not heed the condition.
        return self._found(name) == old and write_if(
            partial(self._pipe, name, content), condition, is_ours=lambda: self._found(name) == content
        )

    def keeps_conditions(self, name: str) -> bool:
        """Whether the store refuses to create the file of this name, which is there, once more."""
        content = self.read(name)
        return not write_if(partial(self._pipe, name, content), {"mode": "create"}, is_ours=lambda: False)

    @contextmanager
    def creating(self, name: str) -> Iterator[Path]:
        with self._reaching(name) as (store, path):  # before the work
            condition = unless_changed(store, path)
        with tempfile.TemporaryDirectory(prefix="emojigan-") as folder:
            file = Path(folder) / "file"
            with telling_where(Path(folder)):
                yield file
            if not write_if(partial(self._put, name, file), condition, is_ours=lambda: self._is(name, file)):
                raise InputError(
                    f"{self}/{name} was changed by somebody else meanwhile. Run the same command again when "
                    "nobody writes there."
                )

    def _pipe(self, name: str, content: bytes, **condition: Any) -> None:
        with self._reaching(name) as (store, path):
            store.pipe_file(path, content, **condition)

    def _put(self, name: str, file: Path, **condition: Any) -> None:
        with self._reaching(name) as (store, path):
            store.put_file(str(file), path, **condition)

    def _found(self, name: str) -> bytes | None:
        """The content of a file; None when it is not there."""
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def _is(self, name: str, file: Path) -> bool:
        """Whether a file is there and equal to one of this machine."""
        try:
            with self.reading(name) as other:
                return sha256(other) == sha256(file)
        except FileNotFoundError:
            return False

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="emojigan-") as folder:
            self.download(name, Path(folder) / "file")
            yield Path(folder) / "file"

    def download(self, name: str, file: Path) -> None:
        """Copy a file to this machine, whole or not at all. An OSError names the folder that it is about."""
        try:
            with replacing(file) as temporary, self._reaching(name) as (store, path):
                store.get_file(path, str(temporary))
        except OSError as error:
            error.filename = str(file.parent) if error.errno in FULL else error.filename or self.url
            raise

    def size(self, name: str) -> int | None:
        try:
            with self._reaching(name) as (store, path):
                return store.size(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self) -> list[str]:
        with self._reaching() as (store, root):
            return sorted(path[len(root) + 1 :] for path in store.find(root))

    def remove(self, name: str) -> None:
        with self._reaching(name) as (store, path):
            if store.exists(path):
                store.rm_file(path)

    def remove_folder(self, name: str) -> None:
        with self._reaching(name) as (store, path):
            if store.exists(path):
                store.rm(path, recursive=True)
