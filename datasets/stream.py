"""Shards to batches.

    manifest + indexes + memory-mapped tars ─► Split ─► stream (order, this rank's slice, prefetch) ─► Batch

A batch is addressed by its number since the start of training, so that resuming is asking for the next one.
Normalising, augmentation and the look-up of vectors happen on the device.
"""

import io
import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256

import numpy as np
import torch
from PIL import Image

from .errors import InputError
from .index import Index
from .manifest import Manifest
from .order import Order
from .storage import Folder

OPEN_SHARDS = 256  # memory maps and indexes kept at a time
PREFETCH = 4  # batches


@dataclass(frozen=True)
class Batch:
    """What one rank trains on at once."""

    images: torch.Tensor  # uint8 [batch, 3, size, size], channels-last in memory
    emoji: torch.Tensor  # int64 [batch], position in the manifest's vocabulary


@dataclass(frozen=True)
class Shard:
    """An opened shard: its bytes by memory map, and its tuples with an emoji of the vocabulary."""

    index: Index
    content: np.ndarray  # uint8 [bytes of the tar]
    size: int  # side of an image, in pixels
    image: np.ndarray  # int64 [tuples], row of the image
    emoji: np.ndarray  # int64 [tuples], position in the vocabulary

    def pixels(self, row: int) -> np.ndarray:
        """The image of one row, uint8 [size, size, 3]."""
        start, length = self.index.offset[row], self.index.length[row]
        content = self.content[start : start + length]
        if self.index.extensions[row] == "npy":  # the pixels are the end of the file, behind a header
            return content[-3 * self.size**2 :].reshape(self.size, self.size, 3)
        return np.asarray(Image.open(io.BytesIO(content.tobytes()), formats=["JPEG"]))


@dataclass(frozen=True)
class Split:
    """One split of a dataset."""

    folder: Folder
    manifest: Manifest
    name: str

    def __post_init__(self) -> None:
        if not self.manifest.of_split(self.name):
            raise InputError(
                f"{self.folder}: the {self.name} split is empty. Build from more posts or accounts."
            )

    @cached_property
    def tuples(self) -> tuple[int, ...]:
        """Tuples in each shard."""
        return tuple(shard.tuples for shard in self.manifest.of_split(self.name))

    @property
    def num_tuples(self) -> int:
        """Tuples with an emoji of the vocabulary."""
        return sum(self.tuples)

    @cached_property
    def _open(self):
        return lru_cache(OPEN_SHARDS)(self._open_shard)

    def shard(self, number: int) -> Shard:
        """Open a shard, or find it open."""
        return self._open(number)

    def _open_shard(self, number: int) -> Shard:
        entry = self.manifest.of_split(self.name)[number]
        assert self.folder.path is not None
        path = self.folder.path / entry.name
        if not self.folder.size(entry.index) or self.folder.size(entry.name) != entry.bytes:
            raise InputError(
                f"{path} or its index is missing or cut short. Copy the whole folder, or build it again."
            )
        content = self.folder.read(entry.index)
        if sha256(content).hexdigest() != entry.index_sha256:
            raise InputError(f"{self.folder}/{entry.index} is damaged. Copy it again.")
        index = Index.from_bytes(content)
        position = {emoji: place for place, emoji in enumerate(self.manifest.vocabulary)}
        places = np.array([position.get(emoji, -1) for emoji in index.emojis], np.int64)
        emoji = places[index.emoji]
        known = emoji >= 0
        assert known.sum() == entry.tuples, f"{path}: its index is not the one that the manifest counted"
        content = np.memmap(path, np.uint8, mode="r")
        return Shard(index, content, self.manifest.image_size, index.image[known], emoji[known])


def batches_per_epoch(split: Split, batch_size: int) -> int:
    """Global batches in one pass over the split; the remainder, less than one batch, is left out."""
    number = split.num_tuples // batch_size
    if number == 0:
        raise InputError(
            f"The {split.name} split has {split.num_tuples} tuples, fewer than --batch-size {batch_size}."
        )
    return number


def stream(
    split: Split, *, seed: int, window: int, batch_size: int, start: int, rank: int = 0, world_size: int = 1
) -> Generator[Batch]:
    """Yield this rank's part of global batch `start`, `start` + 1, …, without end.

    Args:
        seed: of the order.
        window: shards whose tuples are mixed.
        batch_size: of all ranks together.
        start: number of the first batch, counted from the beginning of training.

    Close it when done: a thread reads ahead.
    """
    order = Order(seed, split.tuples, window)
    per_epoch = batches_per_epoch(split, batch_size)
    per_rank = batch_size // world_size

    def batches() -> Iterator[Batch]:
        number = start
        while True:
            epoch, place = divmod(number, per_epoch)
            first = place * batch_size + rank * per_rank
            yield _gather(split, *order.locate(epoch, first, first + per_rank))
            number += 1

    return _prefetch(batches())


def _gather(split: Split, shards: np.ndarray, rows: np.ndarray) -> Batch:
    size = split.manifest.image_size
    images = np.empty((len(rows), size, size, 3), np.uint8)
    emoji = np.empty(len(rows), np.int64)
    for place, (number, row) in enumerate(zip(shards.tolist(), rows.tolist(), strict=True)):
        shard = split.shard(number)
        images[place] = shard.pixels(int(shard.image[row]))
        emoji[place] = shard.emoji[row]
    return Batch(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(emoji))


def _prefetch(batches: Iterator[Batch]) -> Generator[Batch]:
    """Make batches in a thread, a few ahead; its error is raised where the batch was wanted."""
    ready: queue.Queue[Batch | BaseException] = queue.Queue(PREFETCH)
    stopped = threading.Event()

    def put(item: Batch | BaseException) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if stopped.is_set():
                    return
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="stream", daemon=True)
    thread.start()
    try:
        while True:
            batch = ready.get()
            if isinstance(batch, BaseException):
                raise batch
            yield batch
    finally:
        stopped.set()
        thread.join()  # torch aborts a process that ends while a thread is inside it


@dataclass(frozen=True)
class HeldOut:
    """Images of a split in memory, with all of their tuples, rare emojis too: what evaluation looks at."""

    images: torch.Tensor  # uint8 [images, 3, size, size]
    posts: tuple[str, ...]  # [images]
    image: np.ndarray  # int64 [tuples], row of the image
    emojis: tuple[str, ...]  # [tuples], canonical


def read_split(split: Split, max_images: int) -> HeldOut:
    """Read the first `max_images` images of a split."""
    pixels: list[np.ndarray] = []
    posts: list[str] = []
    image: list[int] = []
    emojis: list[str] = []
    for number in range(len(split.tuples)):
        shard = split.shard(number)
        first, index = len(posts), shard.index
        keep = min(len(index.keys), max_images - first)
        pixels += [shard.pixels(row) for row in range(keep)]
        posts += index.post_of_image()[:keep]
        rows = np.flatnonzero(index.image < keep)
        image += (index.image[rows] + first).tolist()
        emojis += [index.emojis[emoji] for emoji in index.emoji[rows]]
        if len(posts) == max_images:
            break
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    return HeldOut(images, tuple(posts), np.array(image, np.int64), tuple(emojis))
