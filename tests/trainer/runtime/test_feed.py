"""What the training is fed: the batches of a stream, on its device, gathered there where they are rows."""

from itertools import islice

import pytest
import torch

from emojigan.datasets.stream.reader import Batch, Rows
from emojigan.trainer.runtime.feed import feed

IMAGES, SIZE, BATCH = 50, 8, 6
PIXELS = torch.randint(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=torch.uint8)
ROWS = [
    Rows(torch.randint(0, IMAGES, (BATCH,)), torch.randint(0, 9, (BATCH,)))
    for _ in range(12)  # more than are kept ready
]
STREAMED = [Batch(PIXELS[each.rows].permute(0, 3, 1, 2), each.emoji) for each in ROWS]
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


def fed(batches: list, device: str, resident: torch.Tensor | None) -> list[Batch]:
    """Copies of all that can be asked for: where it works ahead, the last stays behind."""
    number = len(batches) - (device != "cpu")
    found = islice(feed(iter(batches), torch.device(device), resident), number)
    return [
        Batch(batch.images.clone(memory_format=torch.preserve_format), batch.emoji.clone()) for batch in found
    ]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_batches_are_those_of_the_stream_on_the_device(device: str, named: bool):
    found = fed(ROWS if named else STREAMED, device, PIXELS.to(device) if named else None)
    assert len(found) >= len(ROWS) - 1
    for batch, expected in zip(found, STREAMED, strict=False):
        assert batch.images.device.type == batch.emoji.device.type == device
        assert torch.equal(batch.images.cpu(), expected.images)
        assert torch.equal(batch.emoji.cpu(), expected.emoji)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
