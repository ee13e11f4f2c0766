"""What a post is, wherever it comes from.

    SOURCE… ─► a format's `read` ─► Post | Reject, in the order of the source

A format is one file in formats/, with two functions:

    recognises(source: Path) -> bool                          by names and first bytes, cheaply
    read(source: Path, columns: Mapping[str, str]) -> Iterator[Post | Reject]

An entry that cannot be read is a Reject, never an exception: the builder counts them and decides. A post
without an image or without text is still a Post. Of an archive only the files that are needed are opened.
"""

import importlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import InputError

FORMATS = ("instagram", "x", "mastodon", "telegram", "instaloader", "webdataset", "table")
"""In the order in which they are asked whether they recognise a source."""


class ImageSource(Protocol):
    """Where the bytes of one image lie: a frozen dataclass, whose repr tells one image from another."""

    def read(self) -> bytes:
        """The encoded image. Raises OSError (FileNotFoundError where it is missing)."""
        ...


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a file of its own."""

    path: str

    def read(self) -> bytes:
        mode = os.stat(self.path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OSError(f"{self.path} is no file")  # a pipe would keep its reader waiting
        return Path(self.path).read_bytes()


@dataclass(frozen=True, slots=True)
class Post:
    """One post."""

    id: str
    account: str  # the post's own id where none is known; hashed before it is written anywhere
    images: tuple[ImageSource, ...]
    caption: str = ""
    comments: tuple[str, ...] = ()
    reactions: tuple[tuple[str, int], ...] = ()  # emoji as the platform writes it, and how many gave it


@dataclass(frozen=True, slots=True)
class Reject:
    """A post that was skipped: where it stands, and why, in the few words that it is counted under."""

    where: str
    reason: str


def read_posts(
    sources: Iterable[Path], form: str = "auto", columns: Mapping[str, str] | None = None
) -> Iterator[Post | Reject]:
    """Yield every post of every source, and a Reject for what is not one.

    Args:
        form: one of FORMATS, or "auto" to find it out for each source.
        columns: other names for columns of a table, ours to theirs: {"text": "caption"}.

    Raises:
        InputError: a source is missing, or no format knows it.
    """
    for source in sources:
        yield from _format(source, form).read(source, columns or {})


def detect(source: Path) -> str:
    """The name of the first format that recognises a source."""
    if not source.exists():
        raise InputError(f"{source}: no such file or folder.")
    for name in FORMATS:
        if _module(name).recognises(source):
            return name
    raise InputError(f"{source}: not a format that we know ({', '.join(FORMATS)}). Name it with --format.")


def files_in(source: Path, endings: Collection[str]) -> list[Path]:
    """The source itself, or a folder's files with such an ending; else those one folder below. Sorted."""
    if not source.is_dir():
        return [source] if source.suffix.lower() in endings else []
    for pattern in ("*", "*/*"):
        files = (path for path in source.glob(pattern) if path.suffix.lower() in endings)
        if found := sorted(path for path in files if path.name[0] != "." and path.is_file()):
            return found
    return []


def place_of(path: Path, source: Path) -> str:
    """How a file of a source is called in ids and rejects: its name, or its path in the folder."""
    name = path.name if path == source else path.relative_to(source).as_posix()
    return name.encode(errors="backslashreplace").decode()


def stays_inside(name: str) -> bool:
    """Whether a relative path stays in its folder: a table that came with a download could name any file."""
    return not os.path.isabs(name) and ".." not in name.replace("\\", "/").split("/")


def is_clean(*texts: str) -> bool:
    """Whether texts can be written as UTF-8 and be names of files: no lone surrogate, no NUL."""
    try:
        return all("\0" not in text and text.encode() is not None for text in texts)
    except UnicodeEncodeError:
        return False


def _format(source: Path, form: str):
    if form == "auto":
        form = detect(source)
    elif not source.exists():
        raise InputError(f"{source}: no such file or folder.")
    return _module(form)


def _module(name: str):
    """A format's file; those that are not asked for need not be installable."""
    return importlib.import_module(f".formats.{name}", __package__)
