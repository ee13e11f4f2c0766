"""A captured function does what it did, on what it is given, and leaves that alone."""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from emojigan.datasets.stream.reader import Batch
from emojigan.trainer.runtime import captured
from emojigan.trainer.runtime.captured import WARM_UP, Captured
from emojigan.trainer.runtime.feed import feed

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@NEEDS_GPU
def test_a_captured_function_goes_on_where_it_was():
    total = torch.zeros(3, device="cuda")
    add = Captured(lambda given: total.add_(given).clone())
    for number in range(1, WARM_UP + 4):
        assert add(torch.ones(3)).tolist() == [number] * 3


@NEEDS_GPU
def test_every_batch_that_is_fed_is_seen_once_in_order():
    numbered = [Batch(torch.full((4, 3, 8, 8), n, dtype=torch.uint8), torch.full((4,), n)) for n in range(60)]
    see = Captured(lambda images, emoji: images.double().mean() + emoji.sum())
    fed = feed(iter(numbered), torch.device("cuda"))
    seen = [see(batch.images, batch.emoji).item() for batch in islice(fed, 59)]
    assert seen == [5 * n for n in range(59)]


@pytest.fixture
def without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable], Captured]:
    """Captured as on a GPU: its graph does the function again on the memory that it was captured on."""

    def capture(function: Callable[..., torch.Tensor]) -> Captured:
        stream: Any = SimpleNamespace(wait_stream=lambda other: None)
        graph = SimpleNamespace(replay=lambda: made._output.copy_(function(*made._inputs)))
        for name, fake in {
            "Stream": lambda: stream,
            "CUDAGraph": lambda: graph,
            "graph": lambda *_, **__: nullcontext(),
            "stream": lambda _: nullcontext(),
            "current_stream": lambda: stream,
            "synchronize": lambda: None,
        }.items():
            monkeypatch.setattr(captured.torch.cuda, name, fake)
        monkeypatch.setattr(
            torch.Tensor, "cuda", lambda self, **_: self
        )  # as of a tensor that is there already
        made = Captured(function)
        return made

    return capture


def test_what_is_given_is_not_written_to(without_a_gpu: Callable[[Callable], Captured]):
    """Two slots are fed in turn, and the next batch is copied into the one while the other is used."""
    slots = [torch.zeros(2), torch.zeros(2)]
    see = without_a_gpu(lambda given: given.sum())
    for number in range(WARM_UP + 8):
        slots[number % 2].fill_(number)
        slots[(number + 1) % 2].fill_(number + 1)
        assert see(slots[number % 2]).item() == 2 * number
        assert slots[(number + 1) % 2].tolist() == [number + 1] * 2
