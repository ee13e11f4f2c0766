"""What the platforms' exports have in common: JSON that may be anything, and names that may lead anywhere.

    a file of the export ─► read_json, read_list ─► dig ─► a format's Post | Reject

A file that cannot be read is a Reject of its own; an entry of another shape than the platform writes is one,
too. A file is held in memory while its entries are read.
"""

import hashlib
import json
import lzma
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

from ..errors import InputError
from .outcomes import BROKEN_ENTRY, IMAGE_OUTSIDE_EXPORT, UNREADABLE_FILE
from .paths import is_clean
from .post import ImageFile, Reject


def hidden(identity: str) -> str:
    """An id for a post whose own id gives away the account: ids are written as they are, accounts never."""
    return hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()


def refuse_zip(source: Path) -> None:
    """Raise an InputError for an export that is still packed."""
    if source.suffix.lower() == ".zip":
        raise InputError(f"{source}: unpack it first, and name the folder.")


def read_json(path: Path, after: bytes = b"") -> Any:
    """The content of a JSON file (of an .xz, too), or a Reject where that cannot be had.

    Args:
        after: what ends the text before the JSON, such as the = of an assignment in JavaScript.
    """
    opener = lzma.open if path.suffix == ".xz" else open
    try:
        with opener(path, "rb") as file:
            content = file.read()
        return json.loads(content.partition(after)[2] if after else content)
    except (OSError, EOFError, lzma.LZMAError, ValueError, RecursionError):
        return Reject(path.name, UNREADABLE_FILE, str(path))


def read_list(path: Path, *keys: str, after: bytes = b"") -> Iterator[tuple[str, Any]]:
    """Yield (where, entry) of the list that lies at `keys` in a JSON file: `posts_1.json[3]` is its fourth.

    The entry is a Reject where the file has no such list.
    """
    content = read_json(path, after)
    entries = dig(content, *keys)
    if not isinstance(entries, list):
        yield path.name, Reject(path.name, UNREADABLE_FILE, str(path))
        return
    for number, entry in enumerate(entries):
        yield f"{path.name}[{number}]", entry


def dig(value: Any, *path: str | int) -> Any:
    """What lies at a path of keys and positions within JSON; None where the path leads nowhere."""
    for step in path:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and step < len(value) else None
    return value


def image_inside(folder: Path, name: str, where: str) -> ImageFile | Reject:
    """The image that an export names by its path within the folder; a Reject where it leads out of it."""
    if not name or not is_clean(name):
        return Reject(where, BROKEN_ENTRY)
    path = PureWindowsPath(name)  # knows / and \ and drives, so that no machine is led out
    if path.anchor or ".." in path.parts:
        return Reject(where, IMAGE_OUTSIDE_EXPORT)
    return ImageFile(str(folder / name))
