"""A running mean of a network's weights, which is judged and asked in its place."""

import torch
from torch import nn


@torch.no_grad()
def move_average(average: nn.Module, trained: nn.Module, decay: float, step: int) -> None:
    """Move the mean towards the weights after a step, faster in the beginning."""
    decay = min(decay, (1 + step) / (10 + step))
    mean: list[torch.Tensor] = list(average.parameters())
    weights: list[torch.Tensor] = list(trained.parameters())
    torch._foreach_lerp_(mean, weights, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
