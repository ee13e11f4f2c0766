"""A split as a stock `webdataset.WebDataset`, for other people's loops.

    manifest ─► names of tars ─► WebDataset: ranks, workers, order ─► members of tars + index ─► image, emojis

The index tells which members are images of the split, and what was posted with them, as it tells our own
reader: a tar may hold several splits, emojis as mere text, and damaged images.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from webdataset.cache import FileCache, StreamingOpen
from webdataset.compat import WebDataset
from zlib_ng import zlib_ng

from ..errors import InputError
from ..store.folder import Folder, open_folder
from ..store.trouble import patiently, tell
from .encoding import decode
from .index import ShardError, read_index
from .manifest import Manifest, ShardEntry, read_manifest

Pair = tuple[np.ndarray, list[str]]
"""An image, uint8 [size, size, 3], and the canonical emojis of a post."""


def open_split(
    place: str | Path, split: str = "train", *, max_quarantined: float = 0.001, **stock: Any
) -> WebDataset:
    """A split as pairs of an image, uint8 [size, size, 3], and the emojis of one post, a list of str.

    An image that several posts share comes once for each. Emojis are canonical, and some are rarer than those
    of the manifest's vocabulary. What is damaged is told on stderr and left out. A tar on a store is copied
    to this machine while it is read.

    Args:
        place: folder or URL of the shards.
        split: train, val or test.
        max_quarantined: the share of the split's tuples that may be damaged in what one process reads.
        stock: arguments of WebDataset, such as nodesplitter, shardshuffle (False unless given) or resampled.

    Raises:
        InputError: there is no dataset, or the split is empty; while it is read, a tar is missing or cut
            short, or more is damaged than may be.
    """
    folder = open_folder(str(place)).absolute()
    manifest = read_manifest(folder)
    entries = {entry.name: entry for entry in manifest.of_split(split)}
    if not entries:
        raise InputError(f"{folder}: nothing is in a split {split}. Ask for train, val or test.")
    dataset = WebDataset([*entries], **{"shardshuffle": False, **stock})
    stages = dataset.pipeline
    (opener,) = (n for n, stage in enumerate(stages) if isinstance(stage, StreamingOpen | FileCache))
    stages[opener] = partial(_opened, str(folder), entries)
    allowed = int(max_quarantined * sum(entry.tuples for entry in entries.values()))
    dataset.append(partial(_pairs, str(folder), entries, manifest, allowed))
    return dataset


def _opened(place: str, entries: dict[str, ShardEntry], shards: Iterable[dict]) -> Iterator[dict]:
    """Open the tar of each shard: WebDataset itself cannot read from S3, and would not close it."""
    folder = open_folder(place)  # here, for the client of a store does not live on in a forked worker
    for shard in shards:
        name = shard["url"]
        if patiently(partial(folder.size, name), folder) != entries[name].bytes:
            raise InputError(
                f"{folder}/{name} is missing or cut short. Copy the whole folder, or build it again."
            )
        with ExitStack() as stack:
            path = patiently(partial(_enter, stack, folder, name), folder)
            yield {"url": name, "stream": stack.enter_context(open(path, "rb"))}


def _enter(stack: ExitStack, folder: Folder, name: str) -> Path:
    return stack.enter_context(folder.reading(name))


def _pairs(
    place: str, entries: dict[str, ShardEntry], manifest: Manifest, allowed: int, samples: Iterable[dict]
) -> Iterator[Pair]:
    """The pairs of WebDataset's samples."""
    folder, damaged = open_folder(place), 0
    for name, of_shard in groupby(samples, itemgetter("__url__")):
        damaged += yield from _pairs_of(folder, entries[name], manifest, of_shard)
        if damaged > allowed:
            raise InputError(
                f"{damaged} tuples of {folder} are damaged, more than {allowed}. See `emojigan shards verify "
                f"{folder}`, and copy the shards again."
            )


def _pairs_of(
    folder: Folder, entry: ShardEntry, manifest: Manifest, samples: Iterable[dict]
) -> Generator[Pair, None, int]:
    """The pairs of one shard; returns how many tuples are damaged."""
    try:
        rows = read_index(folder, entry).samples()
    except ShardError as error:
        tell(f"{folder}/{entry.name}: {error}. It is left out.")
        return entry.tuples
    labels = {(span.key, span.length, span.crc32): (label, *label.reposts) for span, label in rows}
    missing = dict(labels)
    for sample in samples:
        key = sample["__key__"].removeprefix("./")
        for member in (each for each in sample.values() if isinstance(each, bytes)):
            span = key, len(member), zlib_ng.crc32(member)
            pixels = _decoded(member, manifest) if span in labels else None
            if pixels is not None:
                missing.pop(span, None)
                for label in labels[span]:
                    yield pixels.copy(), list(label.emojis)
    for key, *_ in missing:
        tell(f"{folder}/{entry.name}: {key} is damaged. It is left out.")
    return sum(len(label.emojis) for each in missing.values() for label in each)


def _decoded(image: bytes, manifest: Manifest) -> np.ndarray | None:
    """The pixels of an image, uint8 [size, size, 3]; None where it cannot be decoded."""
    pixels = np.empty((manifest.image_size, manifest.image_size, 3), np.uint8)
    try:
        decode(np.frombuffer(image, np.uint8), manifest.encoding, pixels)
    except ValueError:
        return None
    return pixels
