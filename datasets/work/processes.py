"""Processes that share the work: on this machine, or on a cluster.

    items ─► an engine, a bounded number of them in flight ─► results, in the order of the items

Processes on this machine end when the one that started them does, however that ends.
"""

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any, Protocol, TypeVar

from ..errors import InputError

ENGINES = ("local", "ray")
IN_FLIGHT = 4  # items for each worker: a slow one does not make the others wait
RETRIES = 3  # of a task whose machine went away

Item = TypeVar("Item")
Result = TypeVar("Result")


class Mapper(Protocol):
    """Like `map`, but other processes do the work, and items are only taken a few ahead of it."""

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item], /) -> Iterator[Result]: ...


@contextmanager
def mapper(engine: str, workers: int) -> Iterator[Mapper]:
    """Start an engine.

    Args:
        engine: "local": spawned processes, or this one when `workers` is 1. "ray": tasks on the cluster at
            RAY_ADDRESS; without one, on this machine.
        workers: processes on this machine; a cluster uses all that it has.
    """
    assert engine in ENGINES
    if engine == "ray":
        with _ray(workers) as run:
            yield run
    elif workers == 1:
        yield map
    else:
        with _local(workers) as run:
            yield run


@contextmanager
def _local(workers: int) -> Iterator[Mapper]:
    pool = worker_pool(workers)

    def run(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        futures: Iterator[Future] = (pool.submit(function, item) for item in items)
        try:
            for future in _ahead(futures, IN_FLIGHT * workers):
                yield future.result()
        except BrokenProcessPool as error:
            raise InputError(
                "A worker process was killed, for want of memory perhaps. Run the same command again, with "
                "fewer --workers: it goes on."
            ) from error

    try:
        yield run
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _ray(workers: int) -> Iterator[Mapper]:
    try:
        import ray
        from ray.exceptions import RayTaskError
    except ImportError as error:
        raise InputError("--engine ray needs Ray. In the checkout: pip install -e '.[ray]'.") from error
    ours: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False}
    options = {} if os.environ.get("RAY_ADDRESS") else ours
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    call = ray.remote(max_retries=RETRIES)(_call)

    def run(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        processors = int(ray.cluster_resources().get("CPU", 1))
        for reference in _ahead((call.remote(function, item) for item in items), IN_FLIGHT * processors):
            try:
                yield ray.get(reference)
            except RayTaskError as error:
                raise error.cause from None

    try:
        yield run
    finally:
        ray.shutdown()


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


def _ahead(started: Iterable[Item], most: int) -> Iterator[Item]:
    """Yield what `started` yields, but take up to `most` ahead: taking one starts its work."""
    waiting: deque[Item] = deque()
    for each in started:
        waiting.append(each)
        if len(waiting) == most:
            yield waiting.popleft()
    yield from waiting


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of that many spawned processes: forking would copy the locks of this process's threads."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_follow_parent)


def _follow_parent() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # one thread each: there are processes enough
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent stops, and then its pool
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """End when the parent does: if it is killed, its workers would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
