"""Files and folders that are whole or absent: written under a temporary name, synced, then renamed."""

import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .trouble import BROKEN, FULL, MISSING

SUMS = "SHA256SUMS"
README = "README.md"


@contextmanager
def telling_where(path: Path) -> Iterator[None]:
    """Give `path` to the error of a full or broken disk: read, write and fsync do not say whose it is."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL or (error.errno in BROKEN and error.filename is None):
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`: on success it is renamed to `path`, on any error removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with telling_where(path):
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) so that a reader sees the old file or the new one, never a part."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def create(path: Path, content: bytes | str) -> bool:
    """Write a file that is not there yet, whole or not at all; return whether it was not."""
    temporary = _temporary(path)
    write_atomic(temporary, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # some disks know no links: between this look and the next line another may write
        if path.exists():
            return False
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    with telling_where(path), open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def creating_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success its files are summed and synced and it takes the name `path`.

    SHA256SUMS inside it is what `sha256sum -c` reads, and what `is_whole` checks. README.md is not in it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):  # by a process that was killed
        remove_folder(left)
    temporary.mkdir()
    try:
        with telling_where(path):
            yield temporary
            sums = "".join(f"{sha256(temporary / name)}  {name}\n" for name in _summed(temporary))
            (temporary / SUMS).write_text(sums, encoding="utf-8")
            for written in (*temporary.iterdir(), temporary):
                _sync(written)
            if path.exists():
                remove_folder(path)
            os.rename(temporary, path)
            _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it. An OSError names it, and not a part of the name of a file."""
    try:
        shutil.rmtree(path)
    except OSError as error:
        error.filename = str(path)
        raise


def is_whole(folder: Path) -> bool:
    """Whether every file of a folder made by `creating_folder` is there with the bytes that it had.

    But for what people change, README.md, and what stores of files add, under hidden names.

    Raises:
        OSError: a file is there and cannot be read: what is in it is not known.
    """
    try:
        with telling_where(folder / SUMS):
            lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        sums = {line[66:]: line[:64] for line in lines}
        names = _summed(folder)
        return sorted(sums) == names and all(sha256(folder / name) == sums[name] for name in names)
    except (*MISSING, UnicodeDecodeError):
        return False


def _summed(folder: Path) -> list[str]:
    names = (file.name for file in folder.iterdir())
    return sorted(name for name in names if name not in (SUMS, README) and not name.startswith("."))


def _temporary(path: Path) -> Path:
    """A name beside `path` that no other process takes, and by which what it leaves is known."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
