"""A sample in a tar of ours: the JSON of its label, then its image, and nothing else.

    Label, image ─► add_sample ─► tar ─► read_sample ─► ImageSpan, Label ─► index_shard ─► Index

A sample is read without those before it, so that one that is damaged does not make the next unreadable.
"""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from zlib_ng import zlib_ng

from .bus_error import name_on_bus_error
from .encoding import ENCODERS
from .index import ImageSpan, Index, Label, index_rows

BLOCK = 512  # bytes: what members of a tar are padded to


def add_sample(tar: tarfile.TarFile, key: str, label: Label, extension: str, image: bytes) -> None:
    """Write a sample into a USTAR."""
    for name, content in (
        (f"{key}.json", json.dumps(label.to_json(), ensure_ascii=False).encode()),
        (f"{key}.{extension}", image),
    ):
        tar.addfile(_header(name, len(content)), io.BytesIO(content))


def read_sample(content: np.ndarray, start: int) -> tuple[ImageSpan, Label]:
    """Read the sample that begins at a byte of a tar.

    Args:
        content: uint8 [bytes of the tar].

    Raises:
        ValueError: none of ours is there, or a damaged one; the message says how.
    """
    name, text, end = _read_member(content, start)
    key, _, extension = name.partition(".")
    if extension != "json":
        raise ValueError("no label where one belongs")
    try:
        label = Label.from_json(json.loads(text.tobytes()))
        whole = all(
            each.emojis and all(isinstance(text, str) for text in (each.post, each.account, *each.emojis))
            for each in (label, *label.reposts)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("damaged label") from error
    if not whole:
        raise ValueError("damaged label")
    name, image, _ = _read_member(content, end)
    extension = name.removeprefix(f"{key}.")
    if extension not in ENCODERS:
        raise ValueError("no image behind the label")
    return ImageSpan(key, extension, end + BLOCK, len(image), zlib_ng.crc32(image)), label


def read_samples(content: np.ndarray) -> Iterator[tuple[ImageSpan, Label]]:
    """Read all samples of a tar. Raises ValueError where it is not ours or damaged."""
    start = 0
    while content[start : start + BLOCK].any():
        span, label = read_sample(content, start)
        yield span, label
        start = end_of(span)


def index_shard(shard: Path) -> Index:
    """The index of a finished tar. Raises ValueError where it is not ours or damaged."""
    return index_rows(list(read_samples(map_tar(shard))))


def map_tar(path: Path) -> np.ndarray:
    """The bytes of a tar, uint8 [bytes], by memory map."""
    if not path.stat().st_size:
        return np.empty(0, np.uint8)
    return name_on_bus_error(np.asarray(np.memmap(path, np.uint8, "r")), path)


def end_of(span: ImageSpan) -> int:
    """Where the sample behind this one begins, in bytes."""
    return _padded(span.offset + span.length)


def _read_member(content: np.ndarray, start: int) -> tuple[str, np.ndarray, int]:
    """The name and the content of the member at `start`, and where the next one is."""
    header = content[start : start + BLOCK].tobytes()
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
        whole = header == _header(member.name, member.size).tobuf(tarfile.USTAR_FORMAT)
    except (tarfile.TarError, ValueError) as error:
        raise ValueError("cut off" if len(header) < BLOCK else "damaged header") from error
    if not whole:
        raise ValueError("damaged header")
    stop = start + BLOCK + member.size
    if _padded(stop) > len(content):
        raise ValueError("cut off")
    if content[stop : _padded(stop)].any():
        raise ValueError("damaged padding")
    return member.name, content[start + BLOCK : stop], _padded(stop)


def _header(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)  # its time is 0, its owner nobody
    member.size = size
    return member


def _padded(position: int) -> int:
    return -(-position // BLOCK) * BLOCK
