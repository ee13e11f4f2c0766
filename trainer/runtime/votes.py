"""What one rank says in a step, all know in the next: one small collective a step.

step k: cast k ─► all ranks: the largest of all
step k+1: cast k+1, then read k: the device had a whole step of time for it, and the training waits for none
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from accelerate import Accelerator

from .background import later


class Votes:
    """A flag that every rank casts once a step, and that all read alike. One rank needs no collective."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._device, self._several = accelerator.device, accelerator.num_processes > 1
        self._cast: Callable[[], bool] | None = None

    def __call__(self, mine: bool) -> bool:
        """Cast this rank's flag; return whether that of the call before was true on any rank.

        The first call returns its own.
        """
        cast = self._begin(mine)
        before, self._cast = self._cast or cast, cast
        return before()

    def _begin(self, mine: bool) -> Callable[[], bool]:
        """What waits for the flags of all, and gives the largest."""
        if not self._several:
            return lambda: mine
        flag = torch.full((1,), float(mine), device=self._device)
        work = dist.all_reduce(flag, dist.ReduceOp.MAX, async_op=True)
        assert work is not None
        if self._device.type != "cuda":
            return lambda: bool(work.wait()) and bool(flag)
        work.wait()  # the device does; the host goes on
        read = later(flag)
        return lambda: bool(read())
