"""Threads that share the work.

items ─► a bounded number of them in flight ─► results, in the order of the items
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], number: int
) -> Iterator[Result]:
    """What a function makes of each item; of so many of them before they are asked for."""
    left = iter(items)
    ready = deque(pool.submit(function, item) for item in islice(left, number))
    while ready:
        result = ready.popleft().result()
        ready.extend(pool.submit(function, item) for item in islice(left, 1))
        yield result
