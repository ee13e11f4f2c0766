"""Posts out of any source.

    SOURCE… ─► a format's `read` ─► Post | Reject, in the order of the source

A format is one file in formats/, with two functions:

    recognises(source: Path) -> bool                          by names and first bytes, cheaply
    read(source: Path, columns: Mapping[str, str]) -> Iterator[Post | Reject]

An entry that cannot be read is a Reject, never an exception: the builder counts them and decides. So is a
file whose posts nobody can count (outcomes.BROKEN_FILES), with its path. A post without an image or without
text is still a Post. Of an archive only the files that are needed are opened.
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ..errors import InputError
from .post import Post, Reject

FORMATS = ("instagram", "x", "mastodon", "telegram", "instaloader", "webdataset", "table")
"""In the order in which they are asked whether they recognise a source."""


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


def _format(source: Path, form: str):
    if form == "auto":
        form = detect(source)
    elif not source.exists():
        raise InputError(f"{source}: no such file or folder.")
    return _module(form)


def _module(name: str):
    """A format's file; those that are not asked for need not be installable."""
    return importlib.import_module(f".formats.{name}", __package__)
