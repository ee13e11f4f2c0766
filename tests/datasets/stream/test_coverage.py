"""Every tuple comes once an epoch, in one order, whatever the ranks, helpers, lanes and interruptions."""

from collections import Counter
from contextlib import closing
from itertools import chain, islice, pairwise

import numpy as np
import pytest

from emojigan.datasets.store.cache import ShardCache
from emojigan.datasets.store.folder import open_folder
from emojigan.datasets.stream.order import Order
from emojigan.datasets.stream.split import Split
from emojigan.datasets.stream.stream import batches_per_epoch, stream

from ...tiny_dataset import number_of, tuples_of, write_dataset

Tuple = tuple[int, int]


def sizes(shards: int) -> list[int]:
    """Images of each shard, very uneven; all tuples of an odd number of shards give a remainder."""
    return [1 + (7 * shard) % 11 for shard in range(shards)]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Split]:
    folder = tmp_path_factory.mktemp("splits")
    return {shards: write_dataset(folder / str(shards), sizes(shards)) for shards in range(1, 34)}


def read(split: Split, batches: int, *, start: int = 0, batch_size: int, **options: int) -> list[list[Tuple]]:
    """The tuples of consecutive batches of one rank, by their numbers."""
    reading = stream(split, seed=3, window=4, batch_size=batch_size, start=start, **options)
    with closing(reading):
        return [
            [
                (number_of(image.permute(1, 2, 0).numpy()), emoji)
                for image, emoji in zip(batch.images, batch.emoji.tolist(), strict=True)
            ]
            for batch in islice(reading, batches)
        ]


def all_ranks(split: Split, batches: int, world_size: int, **options: int) -> list[list[Tuple]]:
    """The global batches, joined from the slices of all ranks."""
    slices = [read(split, batches, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
    assert len({tuple(len(batch) for batch in each) for each in slices}) == 1
    return [[*chain(*parts)] for parts in zip(*slices, strict=True)]


def assert_covers(split: Split, shards: int, world_size: int, helpers: int) -> None:
    """Two epochs: every tuple at most once, only the remainder left out, and not in the same order."""
    expected = tuples_of(sum(sizes(shards)))
    batch_size = world_size * max(1, expected.total() // (3 * world_size))
    if batch_size > expected.total():
        return
    number = batches_per_epoch(split, batch_size)
    batches = all_ranks(split, 2 * number, world_size, batch_size=batch_size, helpers=helpers)
    epochs = [[*chain(*batches[:number])], [*chain(*batches[number:])]]
    for epoch in epochs:
        seen = Counter(epoch)
        assert seen <= expected and (expected - seen).total() == expected.total() % batch_size
    assert epochs[0] != epochs[1] or expected.total() < 4


FEW = (1, 2, 3, 5, 8, 13, 21, 33)


@pytest.mark.parametrize(
    "shards", [each if each in FEW else pytest.param(each, marks=pytest.mark.soak) for each in range(1, 34)]
)
def test_every_tuple_comes_once(splits, shards):
    for world_size in range(1, 9):
        assert_covers(splits[shards], shards, world_size, helpers=(shards + world_size) % 5)


@pytest.mark.soak
@pytest.mark.parametrize("shards", range(1, 34))
def test_every_tuple_comes_once_for_all_helpers(splits, shards):
    for world_size in range(1, 9):
        for helpers in range(5):
            assert_covers(splits[shards], shards, world_size, helpers)


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_order_is_the_same_for_any_ranks(splits, lanes):
    expected = all_ranks(splits[9], 20, 1, batch_size=16, helpers=0, lanes=lanes)
    for world_size in (2, 4, 8):
        assert all_ranks(splits[9], 20, world_size, batch_size=16, helpers=2, lanes=lanes) == expected


@pytest.mark.parametrize("lanes", [1, 4])
def test_order_goes_on_where_it_was_on_other_ranks(splits, lanes):
    whole = all_ranks(splits[33], 13, 1, batch_size=16, helpers=1, lanes=lanes)
    resumed, start = [], 0
    for world_size, batches in ((4, 2), (1, 3), (8, 1), (2, 4), (4, 3)):  # all within the first epoch
        options = {"batch_size": 16, "helpers": 2, "lanes": lanes, "start": start}
        resumed += all_ranks(splits[33], batches, world_size, **options)
        start += batches
    assert start < batches_per_epoch(splits[33], 16)
    assert resumed == whole


@pytest.mark.parametrize("lanes", [2, 3, 4])
def test_every_tuple_comes_once_in_lanes(splits, lanes):
    expected, batch_size = tuples_of(sum(sizes(17))), 12
    batches = read(splits[17], batches_per_epoch(splits[17], batch_size), batch_size=batch_size, lanes=lanes)
    seen = Counter(chain(*batches))
    assert seen <= expected and (expected - seen).total() < batch_size


def test_a_rank_meets_only_the_shards_of_its_lane(splits, monkeypatch):
    opened: list[set[int]] = []
    original = Split.open_shard
    monkeypatch.setattr(Split, "open_shard", lambda self, n: (opened[-1].add(n), original(self, n))[1])
    number = batches_per_epoch(splits[33], 16)
    for rank in range(4):
        opened.append(set())
        # One batch short, or the first window of the next epoch is opened ahead.
        read(splits[33], number // 2, batch_size=16, lanes=4, rank=rank, world_size=4, helpers=0)
    for one, other in pairwise(opened):
        assert len(one & other) <= 1  # the shard on the border
    assert max(map(len, opened)) < 33 / 2


def test_with_as_many_lanes_a_node_fetches_its_own_shards_of_a_store(splits, tmp_path):
    """Two nodes of two ranks, each node with a cache of its own."""
    local, store = splits[33], open_folder(f"memory://{tmp_path.name}")
    for name in local.folder.names():
        store.write(name, local.folder.read(name))
    fetched = []
    for node in (0, 1):
        cache = ShardCache(tmp_path / str(node), 2**30)
        split = Split(store, local.manifest, "train", cache)
        for rank in (2 * node, 2 * node + 1):
            number = batches_per_epoch(split, 16) - 8  # short of the next epoch, which is opened ahead
            read(split, number, batch_size=16, lanes=2, rank=rank, world_size=4, helpers=0)
        fetched.append({shard.name for shard in split.shards if (cache.path / shard.sha256).exists()})
    assert len(fetched[0] & fetched[1]) <= 1  # the shard on the border
    assert max(map(len, fetched)) < 33 * 2 / 3


def test_two_runs_agree(splits):
    one, other = (read(splits[21], 40, batch_size=8, helpers=helpers) for helpers in (4, 0))
    assert one == other


def test_order_over_a_billion_tuples_costs_one_window():
    order = Order(seed=0, sizes=(10_000,) * 100_000, window=8, lanes=8)
    lane = order.lane(epoch=5, number=3)
    positions = lane.windows(100_000_000, 100_000_004)
    window = lane.open(positions[0])
    assert len(window.permutation) == 80_000
    np.testing.assert_array_equal(np.sort(window.permutation), np.arange(80_000))
