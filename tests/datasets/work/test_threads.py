"""Threads work a few items ahead, and what they make comes in the order of the items."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from emojigan.datasets.work.threads import ahead


@pytest.mark.parametrize("number", [1, 3, 50])
def test_results_come_in_the_order_of_the_items(number: int):
    """Of the first three, each waits for the one behind it, where that is begun at all."""
    begun = [threading.Event() for _ in range(20)]

    def square(item: int) -> int:
        begun[item].set()
        if item < 3 <= number:
            begun[item + 1].wait(20)
        return item**2

    with ThreadPoolExecutor(4) as pool:
        assert list(ahead(pool, square, range(20), number)) == [item**2 for item in range(20)]


def test_no_more_items_are_taken_than_are_asked_for():
    taken: list[int] = []
    items = (taken.append(item) or item for item in range(100))
    with ThreadPoolExecutor(2) as pool:
        results = ahead(pool, str, items, 3)
        assert next(results) == "0" and len(taken) == 4
        assert next(results) == "1" and len(taken) == 5


def test_what_a_thread_raises_is_raised_in_its_turn():
    with ThreadPoolExecutor(2) as pool:
        results = ahead(pool, [0, 1].__getitem__, range(5), 4)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(IndexError):
            next(results)
