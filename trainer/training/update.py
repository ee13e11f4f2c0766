"""An update: one Adam step on a batch, of one network or of both, compiled and captured where that gains.

batch ─► parts, one after the other ─► losses, gradients ─► added up over parts and ranks ─► guards ─► Adam

How gradients are added up:
    in one reduction              fast; by how many ranks there are, sums are rounded otherwise
    --deterministic-ranks V       each of V parts of the batch for itself, then neighbours in pairs: the same
                                  sums, bit for bit, whichever ranks the parts are on

It is not DistributedDataParallel that reduces them: a compiled backward pass hands over all gradients at its
end, so that none could be reduced before, and its buckets and hooks only cost time (benchmarks/README.md).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import torch
import torch.distributed
from accelerate import Accelerator
from torch import nn

from ..config import Config
from ..runtime.captured import Captured
from ..runtime.compiled import Compiled
from .guard import Guard, backward
from .objective import frozen

Update = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Images as streamed, emojis as positions in the manifest, place as `uniform` has it: its metrics, float32
[metrics]."""
Gradients = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[list[torch.Tensor], torch.Tensor]]
"""Of the same: those of all ranks, in the guards; the losses of the rows here, [batch] for each network, and
the metrics."""


def make_update(
    forward: nn.Module,
    guards: Sequence[Guard],
    *,
    still: Sequence[nn.Module],
    config: Config,
    accelerator: Accelerator,
) -> Update:
    """The update of the networks that the optimizers of `guards` have.

    Args:
        forward: from a batch to the losses of its rows, float32 [batch] for each network, and the metrics.
        still: networks that get no gradients.
    """
    if compiles(config, accelerator.device):
        forward = Compiled(forward)
    if logical := config.run.deterministic_ranks:
        gradients = _in_order(forward, guards, accelerator, logical)
    else:
        gradients = _in_one(forward, guards, accelerator, config.run.accumulate)

    def update(images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        with ExitStack() as stack:
            for network in still:
                stack.enter_context(frozen(network))
            losses, metrics = gradients(images, emoji, place)
        for guard, each in zip(guards, losses, strict=True):
            guard.step(place[0], each)
        return metrics

    captured = accelerator.device.type == "cuda" and config.run.graphs == "auto"
    return Captured(update) if captured else update


def compiles(config: Config, device: torch.device) -> bool:
    """Whether what a device does often is compiled."""
    return config.run.compile == "on" or (config.run.compile == "auto" and device.type == "cuda")


def _in_one(forward: nn.Module, guards: Sequence[Guard], accelerator: Accelerator, number: int) -> Gradients:
    """Of `number` parts of a rank's batch, which are added up where they lie."""
    share = 1 / (number * accelerator.num_processes)

    def gradients(
        images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        of_parts, told = [], []
        for part in _parts(images, emoji, place, number):
            losses, metrics = forward(*part)
            backward(guards, losses, share, more=bool(of_parts))
            of_parts.append([each.detach() for each in losses])
            told.append(metrics)
        if accelerator.num_processes > 1:
            for guard in guards:
                torch.distributed.all_reduce(guard.gradients)
        return _joined(of_parts), torch.stack(told).mean(dim=0)

    return gradients


def _in_order(
    forward: nn.Module, guards: Sequence[Guard], accelerator: Accelerator, logical: int
) -> Gradients:
    number = logical // accelerator.num_processes
    sizes = [len(guard.gradients) for guard in guards]

    def gradients(
        images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        of_parts, sums = [], []  # each sum: of the gradients, and the metrics behind them
        for part in _parts(images, emoji, place, number):
            losses, metrics = forward(*part)
            backward(guards, losses, 1 / logical)
            of_parts.append([each.detach() for each in losses])
            sums.append(torch.cat([*(guard.gradients for guard in guards), metrics / logical]))
        of_ranks = accelerator.gather(in_pairs(torch.stack(sums))[None])
        assert isinstance(of_ranks, torch.Tensor)
        total = in_pairs(of_ranks)
        *means, told = total.split([*sizes, len(total) - sum(sizes)])
        for guard, mean in zip(guards, means, strict=True):
            guard.gradients.copy_(mean)
        return _joined(of_parts), told

    return gradients


def in_pairs(terms: torch.Tensor) -> torch.Tensor:
    """The sum of a power of two of rows, neighbours first, [2ⁿ, k] → [k].

    So the sums of two halves, and of their halves, are what is added up in the end, wherever they were made.
    """
    while len(terms) > 1:
        terms = terms[::2] + terms[1::2]
    return terms[0]


def _joined(of_parts: list[list[torch.Tensor]]) -> list[torch.Tensor]:
    """The losses of all rows of each network, from those of the parts."""
    return [torch.cat(of_network) for of_network in zip(*of_parts, strict=True)]


def _parts(
    images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor, number: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """A batch in parts, each with its place."""
    update, row = place.unbind()
    for part, taken in enumerate(zip(images.chunk(number), emoji.chunk(number), strict=True)):
        yield *taken, torch.stack([update, row + part * len(taken[1])])
