"""What a post is, wherever it comes from, and what stands for one that cannot be read."""

import os
import stat
from dataclasses import dataclass
from typing import Protocol


class ImageSource(Protocol):
    """Where the bytes of one image lie: a frozen dataclass, whose repr tells one image from another."""

    def size(self) -> int:
        """Its bytes, counted before they are read. Raises OSError (FileNotFoundError where it is missing)."""
        ...

    def read(self) -> bytes:
        """The encoded image, no more bytes than `size` told. Raises OSError as `size` does."""
        ...


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a file of its own."""

    path: str

    def size(self) -> int:
        about = os.stat(self.path)
        if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
            raise OSError(f"{self.path} is no file")  # a pipe would keep its reader waiting
        return about.st_size

    def read(self) -> bytes:
        size = self.size()
        with open(self.path, "rb") as file:
            return file.read(size)


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
