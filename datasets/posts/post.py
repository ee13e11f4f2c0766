"""What a post is, wherever it comes from, and what stands for one that cannot be read."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


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
    time: int | None = None  # seconds since 1970, UTC; None where it is not known


@dataclass(frozen=True, slots=True)
class Reject:
    """A post that was skipped: where it stands, and why, in the few words that it is counted under."""

    where: str
    reason: str
