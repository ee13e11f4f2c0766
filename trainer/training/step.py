"""One step of Algorithm 1: `num_critic_steps` critic updates, each on a fresh batch, then the generator's.

config + inputs ─► build ─► Training
Training + batches ─► train_step (critic_update, generator_update) ─► metrics
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from ...datasets.stream.reader import Batch
from ..config import Config
from ..inputs import Inputs
from ..model.augment import augment, normalise
from ..model.networks import Critic, Generator, make_critic
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
    generator_loss: torch.nn.Module  # GeneratorLoss, in DistributedDataParallel where there are more ranks
    critic_loss: torch.nn.Module  # CriticLoss, likewise
    generator_optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer

    @property
    def tied(self) -> bool:
        """Whether the generator's output is a distribution over the vocabulary."""
        return self.config.model.output == "tied"


def build(config: Config, inputs: Inputs, accelerator: Accelerator) -> Training:
    """Networks with the same weights on every rank, their losses wrapped, and their optimizers."""
    size = inputs.train.manifest.image_size
    with initial_weights(config.optimizer.seed):
        generator = Generator(config.model, inputs.vectors, size)
        critic = make_critic(config.model, inputs.vectors.shape[1], size)
    average = copy.deepcopy(generator).requires_grad_(False)
    for module in (generator, critic, average):
        module.to(accelerator.device)
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def adam(module: torch.nn.Module) -> torch.optim.Optimizer:
        settings = config.optimizer
        return torch.optim.Adam(module.parameters(), settings.learning_rate, (settings.beta1, settings.beta2))

    return Training(
        config=config,
        inputs=inputs,
        accelerator=accelerator,
        noise=Noise(
            config.optimizer.seed,
            config.data.batch_size,
            accelerator.process_index,
            accelerator.num_processes,
            accelerator.device,
        ),
        generator=generator,
        critic=critic,
        average=average,
        generator_loss=accelerator.prepare(
            GeneratorLoss(generator, config.model.output == "tied", config.objective.nll_weight)
        ),
        critic_loss=accelerator.prepare(CriticLoss(critic, config.objective.penalty_weight)),
        generator_optimizer=adam(generator),
        critic_optimizer=adam(critic),
    )


def train_step(training: Training, batches: Iterator[Batch], number: int) -> torch.Tensor:
    """One step of Algorithm 1, from batch `number` on; the metrics of its last updates, float32 [6]."""
    settings = training.config.optimizer
    critic_metrics = generator_metrics = torch.empty(0)
    for _ in range(settings.num_critic_steps):
        critic_metrics = critic_update(training, next(batches), number)
        number += 1
    for _ in range(settings.num_generator_steps):
        generator_metrics = generator_update(training, next(batches), number)
        number += 1
    return torch.cat([critic_metrics, generator_metrics])


def critic_update(training: Training, batch: Batch, number: int) -> torch.Tensor:
    """One Adam step of the critic; its loss, Wasserstein estimate and penalty, float32 [3]."""
    images, emoji, weight = _to_device(training, batch, number)
    latent = training.noise.normal("latent", number, training.config.model.latent_dim)
    uniform = training.noise.uniform("critic", number, 2)
    with training.accelerator.autocast():
        fake = draw_fakes(training.generator, training.tied, images, latent, uniform[:, 0])
    real = training.generator.vectors[emoji]
    loss, metrics = training.critic_loss(images, real, fake, uniform[:, 1:], weight)
    training.critic_optimizer.zero_grad()
    training.accelerator.backward(loss)
    training.critic_optimizer.step()
    return torch.cat([loss.detach()[None], metrics])


def generator_update(training: Training, batch: Batch, number: int) -> torch.Tensor:
    """One Adam step of the generator; its loss, score and −log q, float32 [3]."""
    images, emoji, weight = _to_device(training, batch, number)
    latent = training.noise.normal("latent", number, training.config.model.latent_dim)
    with frozen(training.critic):
        loss, metrics = training.generator_loss(training.critic, images, emoji, latent, weight)
        training.generator_optimizer.zero_grad()
        training.accelerator.backward(loss)
    training.generator_optimizer.step()
    return torch.cat([loss.detach()[None], metrics])


def _to_device(
    training: Training, batch: Batch, number: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images as the networks see them, emojis as positions in the vocabulary, and the tuples' weights."""
    device, inputs = training.accelerator.device, training.inputs
    images = batch.images.to(device, non_blocking=True)
    if training.config.data.augment:
        images = augment(images, training.noise.uniform("augment", number, 5))
    else:
        images = normalise(images)
    return images, inputs.ids[batch.emoji].to(device), inputs.tuple_weights[batch.emoji].to(device)


def set_learning_rate(training: Training, step: int) -> None:
    """Linear decay from learning_rate to its share final_learning_rate."""
    settings = training.config.optimizer
    scale = 1 - (1 - settings.final_learning_rate) * step / settings.steps
    for optimizer in (training.generator_optimizer, training.critic_optimizer):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * scale


@torch.no_grad()
def update_average(training: Training, step: int) -> None:
    """Move the averaged generator towards the trained one, faster in the beginning."""
    decay = min(training.config.optimizer.ema_decay, (1 + step) / (10 + step))
    for mean, parameter in zip(training.average.parameters(), training.generator.parameters(), strict=True):
        mean.lerp_(parameter, 1 - decay)
