"""One step of Algorithm 1: `num_critic_steps` critic updates, each on a fresh batch, then the generator's.

config + inputs ─► build ─► Training
Training + batches ─► train_step (critic updates, generator updates) ─► metrics

What an update computes is one module from the batch as it is streamed to the loss, so that it can be compiled
as a whole.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch
from accelerate import Accelerator
from torch import nn

from ...datasets.stream.reader import Batch
from ..config import Config
from ..inputs import Inputs
from ..model.augment import augment, normalise
from ..model.networks import Critic, Generator, make_critic
from ..model.noise import initial_weights, normal, uniform
from ..runtime.captured import Captured
from ..runtime.ranks import precision
from .guard import Guard
from .objective import CriticLoss, GeneratorLoss, draw_fakes
from .update import Update, compiles, make_update

UPDATE_METRICS = (
    "train/critic_loss",
    "train/wasserstein",
    "train/penalty",
    "train/generator_loss",
    "train/score",
    "train/nll",
    "train/emojis_said",
)


@dataclass(frozen=True)
class Training:
    """What the updates work with."""

    config: Config
    inputs: Inputs
    accelerator: Accelerator
    generator: Generator
    critic: Critic
    average: Generator  # its weights are a running mean of the generator's; no gradient reaches them
    critic_update: Update
    generator_update: Update
    critic_optimizer: torch.optim.Optimizer
    generator_optimizer: torch.optim.Optimizer
    critic_guard: Guard
    generator_guard: Guard

    def close(self) -> None:
        """Let go of what the device holds for the updates."""
        for update in (self.critic_update, self.generator_update):
            if isinstance(update, Captured):
                update.release()


@dataclass(frozen=True)
class Seen:
    """A batch as the networks see it."""

    images: torch.Tensor  # float32 [batch, 3, size, size], changed a little
    latent: torch.Tensor  # z, float32 [batch, latent_dim]
    pick: torch.Tensor  # float32 [batch] in [0, 1), which emoji is drawn
    mix: torch.Tensor  # ε, float32 [batch, 1] in [0, 1)
    emoji: torch.Tensor  # int64 [batch], position in the vocabulary
    weight: torch.Tensor  # float32 [batch]


@dataclass(frozen=True)
class Sight:
    """How the networks are shown a batch."""

    seed: int  # of the noise
    augments: bool
    precision: torch.dtype
    ids: torch.Tensor  # int64 [M], position of each of the manifest's emojis in the vocabulary
    tuple_weights: torch.Tensor  # float32 [M]
    latent_dim: int

    def see(self, images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor) -> Seen:
        """The batch, and all noise of the update."""
        even = self.latent_dim + self.latent_dim % 2
        drawn = uniform(self.seed, place, len(emoji), 7 + even)  # columns: 5 for the images, pick, mix, z
        seen = augment(images, drawn[:, :5]) if self.augments else normalise(images)
        return Seen(
            images=seen,
            latent=normal(drawn[:, 7:])[:, : self.latent_dim],
            pick=drawn[:, 5],
            mix=drawn[:, 6:7],
            emoji=self.ids[emoji],
            weight=self.tuple_weights[emoji],
        )

    def autocast(self) -> AbstractContextManager:
        """The precision of the trunks."""
        enabled = self.precision != torch.float32
        return torch.autocast(self.ids.device.type, self.precision, enabled=enabled)


class _CriticForward(nn.Module):
    """A batch to L_D of each sample."""

    def __init__(self, critic: Critic, penalty_weight: float, generator: Generator, tied: bool, sight: Sight):
        super().__init__()
        self.loss = CriticLoss(critic, penalty_weight)
        self._others = generator, tied, sight  # in a tuple: the generator's parameters are not this module's

    def forward(
        self, images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor
    ) -> tuple[tuple[torch.Tensor], torch.Tensor]:
        generator, tied, sight = self._others
        seen = sight.see(images, emoji, place)
        with sight.autocast():
            fake = draw_fakes(generator, tied, seen.images, seen.latent, seen.pick)
            real = generator.vectors[seen.emoji]
            losses, metrics = self.loss.of_each(seen.images, real, fake, seen.mix, seen.weight)
        return (losses,), metrics


class _GeneratorForward(nn.Module):
    """A batch to L_G of each sample."""

    def __init__(self, generator: Generator, tied: bool, nll_weight: float, critic: Critic, sight: Sight):
        super().__init__()
        self.loss = GeneratorLoss(generator, tied, nll_weight)
        self._others = critic, sight

    def forward(
        self, images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor
    ) -> tuple[tuple[torch.Tensor], torch.Tensor]:
        critic, sight = self._others
        seen = sight.see(images, emoji, place)
        with sight.autocast():
            losses, metrics = self.loss.of_each(critic, seen.images, seen.emoji, seen.latent, seen.weight)
        return (losses,), metrics


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
    sight = Sight(
        seed=config.optimizer.seed,
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
    # One for each: what overflows in the one network's gradients says nothing of the other's.
    batch = config.data.batch_size // accelerator.num_processes
    critic_guard, generator_guard = (
        Guard(
            optimizer,
            device,
            batch=batch,
            scaled=precision(config) == torch.float16,
            compiled=compiles(config, device),
        )
        for optimizer in (critic_optimizer, generator_optimizer)
    )
    update_by = partial(make_update, config=config, accelerator=accelerator)

    return Training(
        config=config,
        inputs=inputs,
        accelerator=accelerator,
        generator=generator,
        critic=critic,
        average=average,
        critic_update=update_by(of_critic, [critic_guard], still=[generator]),
        generator_update=update_by(of_generator, [generator_guard], still=[critic]),
        critic_optimizer=critic_optimizer,
        generator_optimizer=generator_optimizer,
        critic_guard=critic_guard,
        generator_guard=generator_guard,
    )


def _adam(module: nn.Module, config: Config, device: torch.device) -> torch.optim.Optimizer:
    """One launch for all parameters; its rate is a tensor, so that a captured update sees it change."""
    settings, on_gpu = config.optimizer, device.type == "cuda"
    rate = torch.tensor(settings.learning_rate, device=device)
    betas = (settings.beta1, settings.beta2)
    return torch.optim.Adam(module.parameters(), rate, betas, fused=True, capturable=on_gpu)


def train_step(training: Training, batches: Iterator[Batch], number: int) -> torch.Tensor:
    """One step of Algorithm 1, from batch `number` on; the metrics of its last updates, float32 [7]."""
    settings, accelerator = training.config.optimizer, training.accelerator
    first = accelerator.process_index * training.config.data.batch_size // accelerator.num_processes
    metrics = {}
    updates = [training.critic_update] * settings.num_critic_steps
    updates += [training.generator_update] * settings.num_generator_steps
    for position, update in enumerate(updates, number):
        batch = next(batches)
        place = torch.full((2,), first, device=accelerator.device)  # filled there: a copy would be waited for
        place[0] = position
        metrics[update] = update(batch.images, batch.emoji, place)
    return torch.cat(list(metrics.values()))


@torch.no_grad()
def set_learning_rate(training: Training, step: int) -> float:
    """Linear decay from learning_rate to its share final_learning_rate; that of this step."""
    settings = training.config.optimizer
    rate = settings.learning_rate * (1 - (1 - settings.final_learning_rate) * step / settings.steps)
    for optimizer in (training.generator_optimizer, training.critic_optimizer):
        for group in optimizer.param_groups:
            group["lr"].fill_(rate)
    return rate


@torch.no_grad()
def update_average(training: Training, step: int) -> None:
    """Move the averaged generator towards the trained one, faster in the beginning."""
    decay = min(training.config.optimizer.ema_decay, (1 + step) / (10 + step))
    mean: list[torch.Tensor] = list(training.average.parameters())
    trained: list[torch.Tensor] = list(training.generator.parameters())
    torch._foreach_lerp_(mean, trained, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
