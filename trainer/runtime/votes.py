"""What one rank says in a step, all know in the next: one small collective a step.

step k: cast k ─► all ranks: the largest of each flag ─► pinned memory
step k+1: cast k+1, then read k: the device had a whole step of time for it, and the training waits for none
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from accelerate import Accelerator


class Votes:
    """Flags that every rank casts once a step, and that all read alike. One rank needs no collective."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._device, self._several = accelerator.device, accelerator.num_processes > 1
        self._cast: tuple[torch.Tensor, Callable[[], object]] | None = None

    def __call__(self, *mine: bool | torch.Tensor) -> list[bool]:
        """Cast this rank's flags; return which of those of the call before were true on any rank.

        The first call returns its own.

        Args:
            mine: the same number in every call; a tensor is on the device and has one element.
        """
        cast = self._begin(mine)
        here, ready = self._cast or cast
        self._cast = cast
        ready()
        return [flag > 0 for flag in here.tolist()]

    def _begin(self, mine: tuple[bool | torch.Tensor, ...]) -> tuple[torch.Tensor, Callable[[], object]]:
        """Where the flags of all will be in this host's memory, and what waits for it."""
        flags = torch.zeros(len(mine), device=self._device)
        for position, flag in enumerate(mine):
            if isinstance(flag, torch.Tensor):
                flags[position].copy_(flag)
            else:
                flags[position].fill_(flag)  # there: a copy would be waited for
        work = dist.all_reduce(flags, dist.ReduceOp.MAX, async_op=True) if self._several else None
        if self._device.type != "cuda":
            return flags, work.wait if work else lambda: None
        if work:
            work.wait()  # the device does; the host goes on
        here = torch.empty(len(mine), pin_memory=True).copy_(flags, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return here, event.synchronize
