"""Files of a source: which they are, how they are called, and that no name leads out of its folder."""

import os
from collections.abc import Collection
from pathlib import Path


def files_in(source: Path, endings: Collection[str]) -> list[Path]:
    """The source itself, or a folder's files with such an ending; else those one folder below. Sorted."""
    if not source.is_dir():
        return [source] if source.suffix.lower() in endings else []
    for pattern in ("*", "*/*"):
        files = (path for path in source.glob(pattern) if path.suffix.lower() in endings)
        if found := sorted(path for path in files if path.name[0] != "." and path.is_file()):
            return found
    return []


def name_in(path: Path, source: Path) -> str:
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
