"""What lies between posts and shards: a part for each chunk of posts, until the dataset is built.

.build/000000.part      rows of posts and images, the posts' emojis
.build/000000.members   the encoded images, one behind the other
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..shards.layout import part_name
from ..store.folder import Folder

PART_VERSION = 3  # to be raised when arrays or what is denied change: others' parts are made again


@dataclass(frozen=True)
class Part:
    """A digested chunk."""

    fingerprint: str
    reasons: list[str]  # USED, and why posts are not
    names: list[str]  # [posts], the id, or where it stands when it is no post
    accounts: list[str]  # [posts], hashed
    emojis: list[list[str]]  # [posts], those that count
    unread: list[tuple[int, int, str]]  # bad images beside good ones: row of the post, number in it, reason
    denied: int  # tuples of denied emojis, in posts that are used
    outcome: np.ndarray  # uint16 [posts], position in `reasons`
    is_post: np.ndarray  # bool [posts], false for what could not be read as one
    time: np.ndarray  # int64 [posts], in seconds; NO_TIME where it is not known
    post: np.ndarray  # int32 [images], row of the post
    content: np.ndarray  # uint64 [images, 2], hash of the pixels
    near: np.ndarray  # int8 [images, WIDTH], fingerprint, close for images that look alike
    offset: np.ndarray  # int64 [images + 1], where the encoded images lie in the members
    crc32: np.ndarray  # uint32 [images], of the encoded images

    def where(self, row: int) -> str:
        """Where a post stands, in the words of a Reject."""
        return f"post {self.names[row]}" if self.is_post[row] else self.names[row]

    def to_bytes(self) -> bytes:
        """The file, in the safetensors format: it holds arrays, and text as JSON bytes, and runs nothing."""
        arrays = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        texts = {name: value for name, value in vars(self).items() if name not in arrays}
        return save({"texts": np.frombuffer(json.dumps(texts).encode(), np.uint8), **arrays})

    @classmethod
    def from_bytes(cls, content: bytes) -> "Part":
        """Read what `to_bytes` wrote. Raises ValueError for anything else."""
        try:
            values: dict[str, Any] = load(content)
            return cls(**json.loads(values.pop("texts").tobytes()), **values)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a part: {error}") from error


def read_part(folder: Folder, number: int) -> Part:
    """The finished part of a chunk. Raises FileNotFoundError, and ValueError when it is damaged."""
    return Part.from_bytes(folder.read(part_name(number)))


def has_part(folder: Folder, chunk: tuple[int, str]) -> bool:
    """Whether the part of a chunk, given by its number and fingerprint, is finished."""
    try:
        return read_part(folder, chunk[0]).fingerprint == chunk[1]
    except (FileNotFoundError, ValueError):
        return False
