"""What a trainer must know of a shard, so that it never parses tar.

    000000.tar ─► index_shard ─► Index ─► 000000.index.npz ─► read_index

One row per image (where its bytes lie, their CRC-32, the sample's key and post) and one row per tuple
(which image, which emoji). The index is made by reading the finished tar, so a foreign WebDataset gets its
own in the same way. Strings travel as JSON bytes: fixed-width text would cost the longest post id in every
row, and object arrays would need pickle.
"""

import io
import json
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import InputError
from .files import write_atomic

IMAGE_EXTENSIONS = ("npy", "jpg")


@dataclass(frozen=True)
class Index:
    """Rows of one shard."""

    extension: str  # of the image members
    keys: tuple[str, ...]  # [images], the samples' names in the tar
    posts: tuple[str, ...]  # [images]
    emojis: tuple[str, ...]  # the distinct canonical emojis of the shard
    offset: np.ndarray  # int64 [images], first byte of the image in the tar
    length: np.ndarray  # int64 [images], bytes
    crc32: np.ndarray  # uint32 [images], of those bytes
    image: np.ndarray  # int64 [tuples], row of the tuple's image
    emoji: np.ndarray  # int64 [tuples], position in `emojis`


def index_path(shard: Path) -> Path:
    """Where the index of a shard lies: 000000.tar → 000000.index.npz."""
    return shard.with_suffix(".index.npz")


def index_shard(shard: Path) -> Index:
    """Read a finished tar once, from the first member to the last."""
    images: dict[str, tuple[str, int, int, int]] = {}  # key → extension, offset, length, crc
    labels: dict[str, dict] = {}
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            file = tar.extractfile(member)
            assert file is not None, member.name
            content = file.read()
            if extension in IMAGE_EXTENSIONS:
                images[key] = (extension, member.offset_data, member.size, zlib.crc32(content))
            elif extension == "json":
                labels[key] = json.loads(content)
    assert images.keys() == labels.keys(), f"{shard}: a sample without its image or its emojis"
    emojis = sorted({emoji for label in labels.values() for emoji in label["emojis"]})
    position = {emoji: number for number, emoji in enumerate(emojis)}
    tuples = [(row, position[e]) for row, key in enumerate(images) for e in labels[key]["emojis"]]
    extensions = {extension for extension, *_ in images.values()}
    assert len(extensions) <= 1, f"{shard}: images of two encodings"
    offset, length, crc32 = np.array([rest for _, *rest in images.values()], np.int64).reshape(-1, 3).T
    image, emoji = np.array(tuples, np.int64).reshape(-1, 2).T
    return Index(
        extension=next(iter(extensions), ""),
        keys=tuple(images),
        posts=tuple(labels[key]["post"] for key in images),
        emojis=tuple(emojis),
        offset=offset,
        length=length,
        crc32=crc32.astype(np.uint32),
        image=image,
        emoji=emoji,
    )


def write_index(index: Index, shard: Path) -> None:
    """Write the index beside its shard; the same index always gives the same bytes."""
    texts = {name: getattr(index, name) for name in ("extension", "keys", "posts", "emojis")}
    arrays = {name: getattr(index, name) for name in ("offset", "length", "crc32", "image", "emoji")}
    buffer = io.BytesIO()
    np.savez(buffer, texts=np.frombuffer(json.dumps(texts).encode(), np.uint8), **arrays)
    write_atomic(index_path(shard), buffer.getvalue())


def read_index(shard: Path) -> Index:
    """Read the index of a shard.

    Raises:
        InputError: it is damaged.
    """
    try:
        return _read(index_path(shard))
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{index_path(shard)} is damaged. Copy it again, or build the shards again."
        ) from error


def _read(path: Path) -> Index:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        texts = json.loads(arrays["texts"].tobytes())
        return Index(
            extension=texts["extension"],
            keys=tuple(texts["keys"]),
            posts=tuple(texts["posts"]),
            emojis=tuple(texts["emojis"]),
            **{name: arrays[name] for name in arrays.files if name != "texts"},
        )
