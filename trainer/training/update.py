"""An update: one Adam step of one network on a batch, compiled and captured where that gains.

batch ─► parts, one after the other ─► losses, gradients ─► added up over parts and ranks ─► guard ─► Adam

How gradients are added up:
    by DistributedDataParallel    fast; by how many ranks there are, sums are rounded otherwise
    --deterministic-ranks V       each of V parts of the batch for itself, then neighbours in pairs: the same
                                  sums, bit for bit, whichever ranks the parts are on
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import nn

from ..config import Config
from ..runtime.captured import Captured
from ..runtime.compiled import Compiled
from .guard import Guard
from .objective import frozen

Update = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Images as streamed, emojis as positions in the manifest, place as `uniform` has it: its metrics,
float32 [3] of a critic's, [4] of a generator's."""
Backward = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Of the same, which leaves the mean gradients of all ranks: the loss of each row here [batch], metrics."""


def make_update(
    forward: nn.Module,
    guard: Guard,
    *,
    still: nn.Module,
    config: Config,
    accelerator: Accelerator,
) -> Update:
    """The update of the network that the optimizer of `guard` has.

    Args:
        forward: from a batch to the losses of its rows and the metrics, float32 [batch] and [metrics].
        still: the other network, which gets no gradients.
    """
    if compiles(config, accelerator.device):
        forward = Compiled(forward)
    captured = accelerator.device.type == "cuda" and config.run.graphs == "auto"
    stream = torch.cuda.Stream() if captured else None
    if logical := config.run.deterministic_ranks:
        backward = _in_order(forward, guard, accelerator, logical)
    else:
        with torch.cuda.stream(stream):
            wrapped = accelerator.prepare_model(forward) if accelerator.num_processes > 1 else forward
        backward = _by_ddp(wrapped, guard, accelerator, config.run.accumulate)

    def update(images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        with frozen(still):
            losses, metrics = backward(images, emoji, place)
        guard.step(place[0], losses)
        return metrics

    return Captured(update, stream) if stream else update


def compiles(config: Config, device: torch.device) -> bool:
    """Whether what a device does often is compiled."""
    return config.run.compile == "on" or (config.run.compile == "auto" and device.type == "cuda")


def _by_ddp(wrapped: nn.Module, guard: Guard, accelerator: Accelerator, number: int) -> Backward:
    def backward(
        images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        told, of_each = [], []
        guard.optimizer.zero_grad()
        for part, taken in enumerate(_parts(images, emoji, place, number), 1):
            # The ranks add up their gradients with those of the last part.
            with nullcontext() if part == number else accelerator.no_sync(wrapped):
                losses, metrics = wrapped(*taken)
                loss = guard.backward(losses, number)
            of_each.append(losses.detach())
            told.append(torch.cat([loss[None], metrics]))
        return torch.cat(of_each), torch.stack(told).mean(dim=0)

    return backward


def _in_order(forward: nn.Module, guard: Guard, accelerator: Accelerator, logical: int) -> Backward:
    parameters = [each for group in guard.optimizer.param_groups for each in group["params"]]
    number = logical // accelerator.num_processes

    def backward(
        images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        sums, of_each = [], []  # each sum: of the gradients, and the metrics behind them
        for taken in _parts(images, emoji, place, number):
            guard.optimizer.zero_grad()
            losses, metrics = forward(*taken)
            loss = guard.backward(losses, logical)
            of_each.append(losses.detach())
            gradients = [each.grad.flatten() for each in parameters if each.grad is not None]
            sums.append(torch.cat([*gradients, torch.cat([loss[None], metrics]) / logical]))
        of_ranks = accelerator.gather(in_pairs(torch.stack(sums))[None])
        assert isinstance(of_ranks, torch.Tensor)
        total = in_pairs(of_ranks)
        for each in parameters:
            if each.grad is not None:
                mean, total = total.split([each.numel(), len(total) - each.numel()])
                each.grad.copy_(mean.view(each.shape))
        return torch.cat(of_each), total

    return backward


def in_pairs(terms: torch.Tensor) -> torch.Tensor:
    """The sum of a power of two of rows, neighbours first, [2ⁿ, k] → [k].

    So the sums of two halves, and of their halves, are what is added up in the end, wherever they were made.
    """
    while len(terms) > 1:
        terms = terms[::2] + terms[1::2]
    return terms[0]


def _parts(
    images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor, number: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """A batch in parts, each with its place."""
    update, row = place.unbind()
    for part, taken in enumerate(zip(images.chunk(number), emoji.chunk(number), strict=True)):
        yield *taken, torch.stack([update, row + part * len(taken[1])])
