"""One step of Algorithm 1: `num_critic_steps` critic updates, each on a fresh batch, then the generator's.

config + inputs ─► build ─► Training
Training + batches ─► train_step (critic updates, generator updates) ─► metrics

An update is one module from the batch as it is streamed to the loss, so that it can be compiled as a whole,
and one function with the backward pass and Adam, so that it can be captured as a CUDA graph.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from ...datasets.stream.reader import Batch
from ..config import Config
from ..inputs import Inputs
from ..model.augment import augment, normalise
from ..model.networks import Critic, Generator, make_critic
from ..runtime.captured import Captured
from ..runtime.compiled import Compiled
from ..runtime.ranks import precision
from .noise import Noise, initial_weights
from .objective import CriticLoss, GeneratorLoss, draw_fakes, frozen

UPDATE_METRICS = (
    "train/critic_loss",
    "train/wasserstein",
    "train/penalty",
    "train/generator_loss",
    "train/score",
    "train/nll",
)

Update = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Images as streamed, emojis as positions in the manifest, number of the update: its metrics, float32 [3]."""


@dataclass(frozen=True)
class Training:
    """What the updates work with."""

    config: Config
    inputs: Inputs
    accelerator: Accelerator
    noise: Noise
    generator: Generator
    critic: Critic
    average: Generator  # its weights are a running mean of the generator's; no gradient reaches them
    critic_update: Update
    generator_update: Update
    critic_optimizer: torch.optim.Optimizer
    generator_optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Sight:
    """How the networks are shown a batch."""

    noise: Noise
    augments: bool
    precision: torch.dtype
    ids: torch.Tensor  # int64 [M], position of each of the manifest's emojis in the vocabulary
    tuple_weights: torch.Tensor  # float32 [M]
    latent_dim: int

    def images(self, images: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        """uint8 to float32, changed a little; [batch, 3, size, size]."""
        if self.augments:
            return augment(images, self.noise.uniform("augment", number, len(images), 5))
        return normalise(images)

    def latent(self, number: torch.Tensor, rows: int) -> torch.Tensor:
        """z, [batch, latent_dim]."""
        return self.noise.normal("latent", number, rows, self.latent_dim)

    def autocast(self) -> AbstractContextManager:
        """The precision of the trunks."""
        enabled = self.precision != torch.float32
        return torch.autocast(self.ids.device.type, self.precision, enabled=enabled)


class _CriticForward(nn.Module):
    """A batch to L_D."""

    def __init__(self, critic: Critic, penalty_weight: float, generator: Generator, tied: bool, sight: Sight):
        super().__init__()
        self.loss = CriticLoss(critic, penalty_weight)
        self._others = generator, tied, sight  # in a tuple: the generator's parameters are not this module's

    def forward(
        self, images: torch.Tensor, emoji: torch.Tensor, number: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        generator, tied, sight = self._others
        seen, rows = sight.images(images, number), len(emoji)
        uniform = sight.noise.uniform("critic", number, rows, 2)
        with sight.autocast():
            fake = draw_fakes(generator, tied, seen, sight.latent(number, rows), uniform[:, 0])
            real = generator.vectors[sight.ids[emoji]]
            return self.loss(seen, real, fake, uniform[:, 1:], sight.tuple_weights[emoji])


class _GeneratorForward(nn.Module):
    """A batch to L_G."""

    def __init__(self, generator: Generator, tied: bool, nll_weight: float, critic: Critic, sight: Sight):
        super().__init__()
        self.loss = GeneratorLoss(generator, tied, nll_weight)
        self._others = critic, sight

    def forward(
        self, images: torch.Tensor, emoji: torch.Tensor, number: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        critic, sight = self._others
        seen = sight.images(images, number)
        latent = sight.latent(number, len(emoji))
        with sight.autocast():
            return self.loss(critic, seen, sight.ids[emoji], latent, sight.tuple_weights[emoji])


def build(config: Config, inputs: Inputs, accelerator: Accelerator) -> Training:
    """Networks with the same weights on every rank, and their updates."""
    size, device = inputs.train.manifest.image_size, accelerator.device
    with initial_weights(config.optimizer.seed):
        generator = Generator(config.model, inputs.vectors, size)
        critic = make_critic(config.model, inputs.vectors.shape[1], size)
    average = copy.deepcopy(generator).requires_grad_(False)
    for module in (generator, critic, average):
        module.to(device)
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    noise = Noise(config.optimizer.seed, accelerator.process_index, device)
    sight = Sight(
        noise=noise,
        augments=config.data.augment,
        precision=precision(config),
        ids=inputs.ids.to(device),
        tuple_weights=inputs.tuple_weights.to(device),
        latent_dim=config.model.latent_dim,
    )
    tied = config.model.output == "tied"
    of_critic = _CriticForward(critic, config.objective.penalty_weight, generator, tied, sight)
    of_generator = _GeneratorForward(generator, tied, config.objective.nll_weight, critic, sight)
    critic_optimizer, generator_optimizer = _adam(critic, config, device), _adam(generator, config, device)

    return Training(
        config=config,
        inputs=inputs,
        accelerator=accelerator,
        noise=noise,
        generator=generator,
        critic=critic,
        average=average,
        critic_update=_update_by(of_critic, critic_optimizer, generator, config, accelerator),
        generator_update=_update_by(of_generator, generator_optimizer, critic, config, accelerator),
        critic_optimizer=critic_optimizer,
        generator_optimizer=generator_optimizer,
    )


def _update_by(
    forward: nn.Module,
    optimizer: torch.optim.Optimizer,
    still: nn.Module,
    config: Config,
    accelerator: Accelerator,
) -> Update:
    """One Adam step on a batch, compiled and captured where that gains; `still` gets no gradients."""
    on_gpu, alone = accelerator.device.type == "cuda", accelerator.num_processes == 1
    if config.run.compile == "on" or (config.run.compile == "auto" and on_gpu):
        forward = Compiled(forward)
    wrapped = forward if alone else accelerator.prepare_model(forward)

    def update(images: torch.Tensor, emoji: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        with frozen(still):
            optimizer.zero_grad()
            loss, metrics = wrapped(images, emoji, number)
            loss.backward()
        optimizer.step()
        return torch.cat([loss.detach()[None], metrics])

    return Captured(update) if config.run.graphs == "auto" and on_gpu and alone else update


def _adam(module: nn.Module, config: Config, device: torch.device) -> torch.optim.Optimizer:
    """One launch for all parameters; its rate is a tensor, so that a captured update sees it change."""
    settings, on_gpu = config.optimizer, device.type == "cuda"
    rate = torch.tensor(settings.learning_rate, device=device)
    betas = (settings.beta1, settings.beta2)
    return torch.optim.Adam(module.parameters(), rate, betas, fused=True, capturable=on_gpu)


def train_step(training: Training, batches: Iterator[Batch], number: int) -> torch.Tensor:
    """One step of Algorithm 1, from batch `number` on; the metrics of its last updates, float32 [6]."""
    settings = training.config.optimizer
    critic_metrics = generator_metrics = torch.empty(0)
    at = torch.tensor(number)
    for _ in range(settings.num_critic_steps):
        critic_metrics = _update(training, training.critic_update, next(batches), at)
        at += 1
    for _ in range(settings.num_generator_steps):
        generator_metrics = _update(training, training.generator_update, next(batches), at)
        at += 1
    return torch.cat([critic_metrics, generator_metrics])


def _update(training: Training, update: Update, batch: Batch, number: torch.Tensor) -> torch.Tensor:
    device = training.accelerator.device
    if isinstance(update, Captured):
        return update(batch.images, batch.emoji, number)
    return update(batch.images.to(device), batch.emoji.to(device), number.to(device))


@torch.no_grad()
def set_learning_rate(training: Training, step: int) -> None:
    """Linear decay from learning_rate to its share final_learning_rate."""
    settings = training.config.optimizer
    scale = 1 - (1 - settings.final_learning_rate) * step / settings.steps
    for optimizer in (training.generator_optimizer, training.critic_optimizer):
        for group in optimizer.param_groups:
            group["lr"].fill_(settings.learning_rate * scale)


@torch.no_grad()
def update_average(training: Training, step: int) -> None:
    """Move the averaged generator towards the trained one, faster in the beginning."""
    decay = min(training.config.optimizer.ema_decay, (1 + step) / (10 + step))
    mean: list[torch.Tensor] = list(training.average.parameters())
    trained: list[torch.Tensor] = list(training.generator.parameters())
    torch._foreach_lerp_(mean, trained, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
