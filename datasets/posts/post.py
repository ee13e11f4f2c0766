"""What a post is, wherever it comes from, and what stands for one that cannot be read."""

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..errors import InputError
from .outcomes import UNREADABLE_FILE, UNREADABLE_FOLDER


class ImageSource(Protocol):
    """Where the bytes of one image lie: a frozen dataclass, whose repr tells one image from another."""

    def read(self) -> bytes:
        """The encoded image.

        Raises:
            OSError: it cannot be read; FileNotFoundError where it is missing.
            InputError: the file that it lies in, with other posts, is no longer what it was.
        """
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
    time: int | None = None  # seconds since 1970, UTC; None where it is not known


@dataclass(frozen=True, slots=True)
class Reject:
    """A post that was skipped, or a file: where it stands, and why, in the few words it is counted under."""

    where: str
    reason: str
    file: str = field(default="", compare=False)  # the path of a broken one, for messages: it is not kept

    def to_json(self) -> str:
        """Its line in rejects.jsonl."""
        return json.dumps({"where": self.where, "reason": self.reason}, ensure_ascii=False) + "\n"


def unreadable(path: Path, name: str) -> Reject:
    """What stands for a file, or a folder, that cannot be read and is called `name` in its source."""
    return Reject(name, UNREADABLE_FOLDER if path.is_dir() else UNREADABLE_FILE, str(path))


def changed(path: str) -> InputError:
    """What to raise where a file that gave posts before no longer has what belongs to them."""
    return InputError(
        f"{path} changed while it was read, or went away. Put it back whole, and run the same command again."
    )
