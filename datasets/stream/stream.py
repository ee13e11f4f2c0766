"""Batches, made ahead.

    batch numbers ─► Reader, in threads ─► Batch, or Rows of pixels that lie in memory, in order

A batch is addressed by its number since the start of training, so that resuming is asking for the next one.
Normalising, augmentation and the look-up of vectors happen on the device.
"""

import itertools
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from ..errors import InputError
from ..shards.index import ShardError
from ..work.threads import ahead
from .order import Order
from .quarantine import Quarantine, Quarantined
from .reader import Batch, Reader, Reading, Rows
from .resident import fill
from .split import Split
from .unchanged import Unchanged

AHEAD = 3  # batches that are ready before they are asked for, besides one for each helper


def batches_per_epoch(split: Split, batch_size: int) -> int:
    """Global batches in one pass over the split; the remainder, less than one batch, is left out."""
    number = split.num_units // batch_size
    if number == 0:
        raise InputError(
            f"The {split.name} split has {split.num_units} {split.unit}s, fewer than --batch-size "
            f"{batch_size}. Give a smaller one, or build from more posts."
        )
    return number


def stream(
    split: Split,
    *,
    seed: int,
    window: int,
    batch_size: int,
    start: int,
    lanes: int = 1,
    rank: int = 0,
    world_size: int = 1,
    helpers: int = 1,
    max_quarantined: float = 0.001,
    tell_quarantined: Callable[[Quarantined], None] = lambda quarantined: None,
    resident: torch.Tensor | None = None,
) -> Generator[Batch | Rows]:
    """Yield this rank's part of global batch `start`, `start` + 1, …, without end.

    Args:
        seed: of the order.
        window: shards whose tuples are mixed.
        batch_size: of all ranks together.
        start: number of the first batch, counted from the beginning of training.
        lanes: parts of the data, from each of which a batch takes the same share.
        helpers: threads that make batches ahead; with 0 they are made when they are asked for.
        max_quarantined: the share of the tuples that may be damaged.
        tell_quarantined: is called for each damaged image or shard, once.
        resident: uint8, as `pixels_shape` says, on any device. It is filled with all pixels of the split
            before this returns, and the batches are Rows of it.

    Raises:
        InputError: shards are missing, or more than `max_quarantined` of the tuples are damaged.

    Close it when done: threads read ahead.
    """
    if batch_size % lanes or batch_size % world_size:
        raise InputError(
            f"--batch-size {batch_size} cannot be shared by {lanes} lanes and {world_size} ranks."
        )
    batches_per_epoch(split, batch_size)
    split.check()
    quarantine = Quarantine(split, max_quarantined, tell_quarantined)
    if resident is not None:
        fill(resident, split, quarantine, helpers=helpers, shown=rank == 0)
    reading = Reading(Order(seed, split.sizes, window, lanes), batch_size, rank, world_size)
    return _batches(split, reading, quarantine, start, helpers, named=resident is not None)


def names(split: Split, order: Order, batch_size: int, number: int, rows: Sequence[int]) -> list[str]:
    """What some rows of global batch `number` are: "000003.tar 000017", a shard and the sample's name in it.

    That is the one whose turn it is: a quarantined image is replaced by another.
    """
    epoch, batch = divmod(number, batches_per_epoch(split, batch_size))
    per_lane = batch_size // order.lanes
    found = []
    for row in rows:
        lane, place = divmod(row, per_lane)
        position = batch * per_lane + place
        (shard,), (unit,) = order.locate(epoch, position, position + 1, lane)
        try:
            image = split.open_shard(shard).image[unit]
            found.append(f"{split.shards[shard].name} {split.read_index(shard).keys[image]}")
        except ShardError:
            found.append(f"{split.shards[shard].name}, {split.unit} {unit}")
    return found


def _batches(
    split: Split,
    reading: Reading,
    quarantine: Quarantine,
    start: int,
    helpers: int,
    named: bool,
) -> Generator[Batch | Rows]:
    opener = ThreadPoolExecutor(1, "stream")
    pool = ThreadPoolExecutor(helpers, "stream") if helpers else None
    reader = Reader(split, reading, quarantine, opener, None if named else Unchanged(split))
    make, numbers = reader.rows if named else reader.batch, itertools.count(start)
    try:
        yield from ahead(pool, make, numbers, helpers + AHEAD) if pool else map(make, numbers)
    finally:  # torch aborts a process that ends while a thread is inside it
        reader.close()
        for executor in (pool, opener):
            if executor:
                executor.shutdown(cancel_futures=True)
