"""Batches on the device, one ahead of the training.

    batch ─► pinned memory ─► the device, by a stream of its own ─► the training, when it is there

Two of each are kept: while one is trained on, the next is copied.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ...datasets.stream.reader import Batch


def feed(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the batches on the device; each is good until the next but one is asked for."""
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream()
    first = next(batches)
    slots = [_Slot.like(first), _Slot.like(first)]
    slots[0].fill(first, stream)
    for number, batch in enumerate(batches, 1):
        slots[number % 2].fill(batch, stream)
        yield slots[(number - 1) % 2].take()
        slots[(number - 1) % 2].used.record()


@dataclass(frozen=True)
class _Slot:
    """Room for a batch here and there."""

    pinned: Batch
    there: Batch
    ready: torch.cuda.Event  # on the device
    used: torch.cuda.Event  # by the training

    @classmethod
    def like(cls, batch: Batch) -> "_Slot":
        tensors = (batch.images, batch.emoji)
        pinned = Batch(*(torch.empty_like(each, pin_memory=True) for each in tensors))
        there = Batch(*(torch.empty_like(each, device="cuda") for each in tensors))
        return cls(pinned, there, torch.cuda.Event(), torch.cuda.Event())

    def fill(self, batch: Batch, stream: torch.cuda.Stream) -> None:
        """Begin to copy a batch, once the training is done with the last one."""
        self.ready.synchronize()  # the pinned memory is free again
        stream.wait_event(self.used)
        with torch.cuda.stream(stream):
            for here, pinned, there in (
                (batch.images, self.pinned.images, self.there.images),
                (batch.emoji, self.pinned.emoji, self.there.emoji),
            ):
                pinned.copy_(here)
                there.copy_(pinned, non_blocking=True)
            self.ready.record()

    def take(self) -> Batch:
        """The batch, for what comes next on the device."""
        torch.cuda.current_stream().wait_event(self.ready)
        return self.there
