"""The order is a pure function: every tuple once an epoch, from any position, the same for ever."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojigan.datasets.stream.order import Order

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=12).map(tuple)
SEEDS, EPOCHS = st.integers(0, 2**63), st.integers(0, 1000)


@st.composite
def orders(draw) -> Order:
    sizes = draw(SIZES)
    return Order(draw(SEEDS), sizes, draw(st.integers(1, len(sizes) + 1)))


def epoch_of(order: Order, epoch: int = 0) -> list[tuple[int, int]]:
    shard, row = order.locate(epoch, 0, sum(order.sizes))
    return list(zip(shard.tolist(), row.tolist(), strict=True))


@given(orders(), EPOCHS)
@settings(deadline=None)
def test_every_tuple_comes_once_an_epoch(order, epoch):
    expected = [(shard, row) for shard, size in enumerate(order.sizes) for row in range(size)]
    assert sorted(epoch_of(order, epoch)) == expected


@given(orders(), EPOCHS, st.data())
@settings(deadline=None)
def test_any_slice_is_the_slice_of_the_whole(order, epoch, data):
    total = sum(order.sizes)
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))
    for part, whole in zip(order.locate(epoch, start, stop), order.locate(epoch, 0, total), strict=True):
        np.testing.assert_array_equal(part, whole[start:stop])


@given(orders())
@settings(deadline=None)
def test_positions_are_int64_even_of_an_empty_slice(order):
    assert [part.dtype for part in order.locate(0, 0, 0)] == [np.int64, np.int64]
    assert [part.dtype for part in order.locate(0, 0, sum(order.sizes))] == [np.int64, np.int64]


@given(orders(), EPOCHS)
@settings(deadline=None)
def test_a_window_is_finished_before_the_next_begins(order, epoch):
    shards = [shard for shard, _ in epoch_of(order, epoch)]
    last_seen = {shard: position for position, shard in enumerate(shards)}
    first_seen = {shard: position for position, shard in reversed(list(enumerate(shards)))}
    for position in range(len(shards)):
        opened = sum(first_seen[shard] <= position <= last_seen[shard] for shard in first_seen)
        assert opened <= order.window


def test_a_window_of_all_shards_mixes_them_all():
    shards = [shard for shard, _ in epoch_of(Order(0, (1000,) * 4, 4))]
    for quarter in range(4):
        counts = np.bincount(shards[1000 * quarter : 1000 * (quarter + 1)])
        assert (np.abs(counts - 250) < 80).all()  # 5.8 standard deviations


def test_every_position_of_a_tuple_is_equally_likely():
    positions = [epoch_of(Order(0, (5,), 1), epoch).index((0, 0)) for epoch in range(5000)]
    assert (np.abs(np.bincount(positions, minlength=5) - 1000) < 160).all()  # 5.7 standard deviations


def test_epochs_differ():
    order = Order(3, (30, 20, 10), 2)
    assert len({tuple(epoch_of(order, epoch)) for epoch in range(50)}) == 50


def test_seeds_differ():
    assert len({tuple(epoch_of(Order(seed, (30, 20, 10), 2))) for seed in range(50)}) == 50


def test_windows_of_an_epoch_are_permuted_independently():
    shards, rows = np.array(epoch_of(Order(0, (30, 30), 1))).T
    assert rows[shards == 0].tolist() != rows[shards == 1].tolist()


def test_equal_orders_agree():
    assert epoch_of(Order(5, (30, 20, 10), 2), 4) == epoch_of(Order(5, (30, 20, 10), 2), 4)


@pytest.mark.parametrize("start, stop", [(-1, 3), (4, 3), (0, 61)])
def test_positions_outside_the_epoch_are_refused(start, stop):
    with pytest.raises(AssertionError):
        Order(0, (30, 20, 10), 2).locate(0, start, stop)


# A run resumed under another version of NumPy or of this package must find these.
@pytest.mark.parametrize(
    "window, epoch, first",
    [
        (2, 0, [(4, 5), (4, 0), (0, 4), (4, 1), (4, 2), (4, 6), (4, 4), (0, 0)]),
        (2, 1, [(0, 2), (3, 0), (3, 2), (0, 3), (0, 0), (0, 1), (0, 4), (3, 1)]),
        (5, 0, [(2, 3), (4, 5), (2, 2), (2, 8), (4, 0), (0, 4), (3, 1), (2, 0)]),
    ],
)
def test_the_order_is_the_one_that_it_has_always_been(window, epoch, first):
    assert epoch_of(Order(seed=7, sizes=(5, 0, 9, 3, 8), window=window), epoch)[:8] == first
