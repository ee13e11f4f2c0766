"""Batches on the device, one ahead of the training.

    batch ─► pinned memory ─► the device, by a stream of its own ─► the training, when it is there
    rows  ─────────── so, too ──────────► gathered from the images that lie there ──────┘

A few of each are kept: while one is trained on, the next is copied, and the host may be some batches ahead of
the device, which so has work while the host looks at metrics or begins a checkpoint.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ...datasets.stream.reader import Batch, Rows

SLOTS = 4


def feed(
    batches: Iterator[Batch | Rows], device: torch.device, resident: torch.Tensor | None = None
) -> Iterator[Batch]:
    """Yield the batches on the device; each is good until the next but one is asked for.

    Args:
        resident: uint8 [images, size, size, 3] on the device, if the batches are Rows of it.
    """
    if device.type != "cuda":
        yield from (_gather(batch, resident) for batch in batches)
        return
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())  # which filled the resident images
    first = next(batches)
    slots = [_Slot.like(first, resident) for _ in range(SLOTS)]
    slots[0].fill(first, stream)
    for number, batch in enumerate(batches, 1):
        slots[number % SLOTS].fill(batch, stream)
        now = slots[(number - 1) % SLOTS]
        yield now.take()
        now.used.record()


def _gather(batch: Batch | Rows, resident: torch.Tensor | None) -> Batch:
    if isinstance(batch, Batch):
        return batch
    assert resident is not None
    return Batch(resident.index_select(0, batch.rows).permute(0, 3, 1, 2), batch.emoji)


@dataclass(frozen=True)
class _Slot:
    """Room for a batch here and there."""

    pinned: tuple[torch.Tensor, ...]
    there: tuple[torch.Tensor, ...]
    batch: Batch  # of what is there, or gathered with it
    resident: torch.Tensor | None
    ready: torch.cuda.Event  # on the device
    used: torch.cuda.Event  # by the training

    @classmethod
    def like(cls, batch: Batch | Rows, resident: torch.Tensor | None) -> "_Slot":
        tensors = _tensors(batch)
        pinned = tuple(torch.empty_like(each, pin_memory=True) for each in tensors)
        there = tuple(torch.empty_like(each, device="cuda") for each in tensors)
        images, emoji = there
        if resident is not None:
            images = resident.new_empty(len(emoji), *resident.shape[1:]).permute(0, 3, 1, 2)
        return cls(pinned, there, Batch(images, emoji), resident, torch.cuda.Event(), torch.cuda.Event())

    def fill(self, batch: Batch | Rows, stream: torch.cuda.Stream) -> None:
        """Begin to copy a batch, or to gather it, once the training is done with the last one."""
        self.ready.synchronize()  # the pinned memory is free again
        stream.wait_event(self.used)
        with torch.cuda.stream(stream):
            for here, pinned, there in zip(_tensors(batch), self.pinned, self.there, strict=True):
                pinned.copy_(here)
                there.copy_(pinned, non_blocking=True)
            if self.resident is not None:
                rows, gathered = self.there[0], self.batch.images.permute(0, 2, 3, 1)
                torch.index_select(self.resident, 0, rows, out=gathered)
            self.ready.record()

    def take(self) -> Batch:
        """The batch, for what comes next on the device."""
        torch.cuda.current_stream().wait_event(self.ready)
        return self.batch


def _tensors(batch: Batch | Rows) -> tuple[torch.Tensor, torch.Tensor]:
    return (batch.images if isinstance(batch, Batch) else batch.rows), batch.emoji
