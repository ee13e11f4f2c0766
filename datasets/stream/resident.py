"""All pixels of a split in memory, of a device too: a batch then only names its images.

    shards, in threads ─► checked, decoded once ─► uint8 [images, size, size, 3], in the order of `Rows`

What is damaged is quarantined here as a stream would do it, and the stream of rows passes over it. The tars
are memory maps: however many ranks of a node read them, they are in its memory once.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ..shards.encoding import decode, has_plain_pixels, num_pixel_bytes
from ..shards.index import ShardError
from ..work.progress import progress
from ..work.threads import ahead
from .gather import overlapping
from .quarantine import Quarantine
from .reader import FETCHERS, first_rows
from .split import Split

PATIENCE = 3  # seconds, after which the progress is shown


def pixels_shape(split: Split) -> tuple[int, int, int, int]:
    """Of all pixels of a split: [images, size, size, 3]."""
    size = split.manifest.image_size
    return int(first_rows(split)[-1]), size, size, 3


def fill(
    pixels: torch.Tensor,
    split: Split,
    quarantine: Quarantine,
    *,
    helpers: int,
    shown: bool,
) -> None:
    """Read all images of a split that have a tuple; the rows of damaged ones hold anything.

    Args:
        pixels: uint8, as `pixels_shape` says; on any device.
        helpers: threads that read the shards of a local folder.
        shown: whether to show the progress, should it take long.

    Raises:
        InputError: too much is damaged, or as `Split.open_shard` raises it.
    """
    first = first_rows(split)

    def read(number: int) -> tuple[np.ndarray, np.ndarray]:
        return _read_shard(split, number, quarantine)

    threads = max(helpers, 1) if split.folder.path is not None else FETCHERS
    bar = progress(len(pixels), "reading all images", "images", shown=shown, patience=PATIENCE)
    with ThreadPoolExecutor(threads, "stream") as pool, bar:
        for number, (rows, found) in enumerate(ahead(pool, read, range(len(split.shards)), threads)):
            quarantine.check_limit()
            there = (torch.from_numpy(each).to(pixels.device) for each in (first[number] + rows, found))
            pixels.index_copy_(0, *there)
            bar.update(split.shards[number].images)


def _read_shard(split: Split, number: int, quarantine: Quarantine) -> tuple[np.ndarray, np.ndarray]:
    """The good images of a shard that have a tuple: int64 [images] rows, and uint8 [images, size, size, 3].

    Of a row that is found to be no picture, the pixels are any.
    """
    size, encoding = split.manifest.image_size, split.manifest.encoding
    try:
        shard = split.open_shard(number)
    except ShardError as error:
        quarantine.add_shard(number, error)
        return np.empty(0, np.int64), np.empty((0, size, size, 3), np.uint8)
    rows = np.setdiff1d(shard.image, quarantine.rows(number, shard)).astype(np.int64)
    if has_plain_pixels(encoding):
        _, memory = overlapping([shard.content], num_pixel_bytes(size))
        ends = shard.offset[rows] + shard.length[rows]  # a npy ends with its pixels
        return rows, memory[ends - num_pixel_bytes(size)].reshape(-1, size, size, 3)
    pixels = np.empty((len(rows), size, size, 3), np.uint8)
    for row, out in zip(rows.tolist(), pixels, strict=True):
        try:
            decode(shard.member(row), encoding, out)
        except ValueError as error:
            quarantine.add_image(number, shard, row, str(error))
    return rows, pixels
