"""Work that does not hold up the training: a thread does it, or the device, while the training goes on.

start(this, then that) ─► done in turn ─► the next start, or the end, waits for it and raises what it raised
later(tensor) ─► copied to the host behind what the device has to do already ─► read when it is there
"""

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from tqdm import tqdm

from ...datasets.printable import printable
from ...datasets.store.trouble import explained


class Background:
    """Does one piece of work at a time, and finishes what was begun however its block ends."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "background")
        self._begun: Future[None] | None = None

    def start(self, *work: Callable[[], None]) -> None:
        """Begin work that is done in this order; what comes after an error is left out.

        What was begun before is waited for, and what it raised is raised here.
        """
        self.wait()
        self._begun = self._thread.submit(_in_turn, work)

    def look(self) -> None:
        """Raise what was raised, if what was begun has ended; it is not waited for."""
        if self._begun and self._begun.done():
            self._begun.result()

    def wait(self) -> None:
        """Wait for what was begun, and raise what it raised."""
        if self._begun:
            self._begun.result()

    def __enter__(self) -> "Background":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the work and raise what it raised; beside another error that is only told."""
        try:
            self.wait()
        except Exception as ours:
            if error is None:
                raise
            if ours is not error:
                of_disk = isinstance(ours, OSError)
                told = explained(ours, "writing") if of_disk else f"{type(ours).__name__}: {ours}"
                tqdm.write(printable(told), file=sys.stderr)
        finally:
            self._thread.shutdown()


def _in_turn(work: tuple[Callable[[], None], ...]) -> None:
    for each in work:
        each()


def later(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Begin to copy a tensor, which nobody changes, to the host; what is returned waits for it alone."""
    if not tensor.is_cuda:
        return lambda: tensor
    read = all_later({"": tensor})
    return lambda: read()[""]


def all_later(tensors: Mapping[str, torch.Tensor]) -> Callable[[], dict[str, torch.Tensor]]:
    """Begin to copy tensors, as they are now, to the host; what is returned waits for these alone."""
    # Pinned memory takes what a GPU has at the speed of the bus, and torch keeps it for the next copy.
    here = {
        name: torch.empty(each.shape, dtype=each.dtype, pin_memory=each.is_cuda).copy_(
            each.detach(), non_blocking=True
        )
        for name, each in tensors.items()
    }
    if not any(each.is_cuda for each in tensors.values()):
        return lambda: here
    there = torch.cuda.Event()
    there.record()

    def read() -> dict[str, torch.Tensor]:
        there.synchronize()
        return here

    return read
