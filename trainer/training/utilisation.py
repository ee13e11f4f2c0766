"""How much of what the devices can do a training does: model FLOP utilisation.

    networks ─► operations_per_tuple ─┐
    devices  ─► ceiling ──────────────┴─► fastest, in tuples a second

Operations are the multiplications and additions of products and convolutions, as torch counts them: all that
the objective needs, whatever a device makes of it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..runtime.ranks import precision
from .objective import CriticLoss, GeneratorLoss, draw_fakes, frozen
from .step import Training

ON_GPU, ON_CPU = 8192, 1024  # rows of the square matrices whose product shows what a device can do
ROUNDS = 5


def fastest(training: Training) -> float:
    """Tuples that the critic would be trained on in a second if all ranks did nothing but products.

    All ranks must call it: each measures its device while the others do, as they share a machine in training.
    """
    of_all = training.accelerator.reduce(
        torch.tensor(ceiling(training), device=training.accelerator.device), "sum"
    )
    assert isinstance(of_all, torch.Tensor)
    return of_all.item() / operations_per_tuple(training)


def operations_per_tuple(training: Training) -> float:
    """Operations of a step, forward and backward, by tuples that its critic updates see."""
    settings = training.config.optimizer
    rows = training.config.data.batch_size / training.accelerator.num_processes
    one, two = _operations(training, rows=1), _operations(training, rows=2)
    # What is done once for the whole vocabulary is the same for any number of rows.
    critic, generator = ((b - a) + (2 * a - b) / rows for a, b in zip(one, two, strict=True))
    return critic + generator * settings.num_generator_steps / settings.num_critic_steps


def _operations(training: Training, rows: int) -> tuple[int, int]:
    """Of a critic update and of a generator update on a few rows: they are done, and leave no gradients."""
    config, device = training.config, training.accelerator.device
    generator, critic = training.generator, training.critic
    tied, size = config.model.output == "tied", training.inputs.train.manifest.image_size
    images = torch.zeros(rows, 3, size, size, device=device)
    emoji, ones = torch.zeros(rows, dtype=torch.int64, device=device), torch.ones(rows, device=device)
    latent = torch.zeros(rows, config.model.latent_dim, device=device)
    with FlopCounterMode(display=False) as of_critic, frozen(generator):
        fake = draw_fakes(generator, tied, images, latent, ones)
        loss, _ = CriticLoss(critic, config.objective.penalty_weight)(
            images, generator.vectors[emoji], fake, ones[:, None], ones
        )
        _backward(loss, critic)
    with FlopCounterMode(display=False) as of_generator, frozen(critic):
        objective = GeneratorLoss(generator, tied, config.objective.nll_weight)
        loss, _ = objective(critic, images, emoji, latent, ones)
        _backward(loss, generator)
    return of_critic.get_total_flops(), of_generator.get_total_flops()


def _backward(loss: torch.Tensor, module: nn.Module) -> None:
    torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)


def ceiling(training: Training) -> float:
    """Operations a second of this rank's device, by a product of matrices in the precision of the trunks."""
    device = training.accelerator.device
    rows = ON_GPU if device.type == "cuda" else ON_CPU
    matrix = torch.randn(rows, rows, device=device, dtype=precision(training.config))
    with _tf32_where_convolutions_have_it():
        times = [_seconds(matrix) for _ in range(1 + ROUNDS)]
    del matrix
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()  # the peak is to be that of the training
    return 2 * rows**3 / min(times[1:])


def _seconds(matrix: torch.Tensor) -> float:
    """Of its product with itself."""
    _wait(matrix)
    begun = time.perf_counter()
    torch.mm(matrix, matrix)
    _wait(matrix)
    return time.perf_counter() - begun


def _wait(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


@contextmanager
def _tf32_where_convolutions_have_it() -> Iterator[None]:
    """The trunks are convolutions, which a GPU does in TF32 where products of matrices are float32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
