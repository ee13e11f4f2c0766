"""Files of a source: which they are, how they are called, and that no name leads out of its folder."""

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

ENDS = 1 << 16  # bytes at the beginning and at the end of a file that tell it from others


def files_in(source: Path, endings: Collection[str]) -> list[Path]:
    """The source itself, or a folder's files with such an ending; else those one folder below. Sorted.

    Among them are links that lead nowhere and, beside folders that have such files, those that cannot be
    listed: whoever reads them finds that they are broken.
    """
    if not source.is_dir():
        return [source] if source.suffix.lower() in endings else []
    if found := _files_of(source, endings):
        return found
    found, closed = [], []
    for folder in source.iterdir():
        try:
            found += _files_of(folder, endings) if folder.is_dir() else []
        except PermissionError:
            closed.append(folder)
    return sorted(found + closed) if found else []


def _files_of(folder: Path, endings: Collection[str]) -> list[Path]:
    files = (path for path in folder.iterdir() if path.suffix.lower() in endings and path.name[0] != ".")
    return sorted(path for path in files if path.is_file() or (path.is_symlink() and not path.exists()))


def name_in(path: Path, source: Path) -> str:
    """How a file of a source is called in ids and rejects: its name, or its path in the folder."""
    name = path.name if path == source else path.relative_to(source).as_posix()
    return name.encode(errors="backslashreplace").decode()


def name_with_tag(path: Path, name: str) -> str:
    """What begins the ids of posts that have none of their own: posts@9c56cc51b374 of a posts.csv.

    The tag is a hash of the file's size and of its ENDS first and last bytes: files of one name that differ
    there give different ids, and a copy gives the same ones wherever it lies. Raises OSError.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(ENDS)
        file.seek(max(size - ENDS, 0))
        content += file.read(ENDS)
    tag = hashlib.blake2b(size.to_bytes(8, "big") + content, digest_size=6).hexdigest()
    return f"{name.removesuffix(path.suffix)}@{tag}"


def stays_inside(name: str) -> bool:
    """Whether a relative path stays in its folder: a table that came with a download could name any file."""
    return not os.path.isabs(name) and ".." not in name.replace("\\", "/").split("/")


def is_clean(*texts: str) -> bool:
    """Whether texts can be written as UTF-8 and be names of files: no lone surrogate, no NUL."""
    try:
        return all("\0" not in text and text.encode() is not None for text in texts)
    except UnicodeEncodeError:
        return False
