"""One step of Algorithm 1: `num_critic_steps` critic updates, each on a fresh batch, then the generator's.

config + inputs ─► build ─► Training
Training + batches ─► train_step (critic updates, generator updates) ─► metrics

What an update computes is one module from the batch as it is streamed to the loss, so that it can be compiled
as a whole.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import one_hot

from ...datasets.stream.reader import Batch
from ..config import Config
from ..inputs import Inputs
from ..model.networks import Critic, Generator, make_critic, move_average
from ..model.noise import initial_weights
from ..model.sight import Seen, Sight
from ..runtime.captured import Captured
from ..runtime.ranks import precision
from .guard import Guard
from .objective import (
    critic_losses,
    draw,
    emojis_said,
    expected_scores,
    free_scores,
    latent_use,
    mean,
    negative_log_likelihood,
)
from .update import Update, compiles, make_update

UPDATE_METRICS = (
    "train/critic_loss",
    "train/wasserstein",
    "train/penalty",
    "train/generator_loss",
    "train/score",
    "train/nll",
    "train/emojis_said",
    "train/latent_use",
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
    critic_forward: nn.Module
    generator_forward: nn.Module
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


class _Forward(nn.Module):
    """A batch to the losses of its rows, for each network that learns, and the metrics."""

    def __init__(self, config: Config, generator: Generator, critic: Critic, sight: Sight) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic
        self._sight, self._objective = sight, config.objective
        self._tied = config.model.output == "tied"

    def _answers(self, seen: Seen) -> tuple[torch.Tensor, torch.Tensor]:
        """What the generator says with each latent, [batch, latents, vector_dim]; log q of it, or nothing."""
        features = self.generator.trunk(seen.images)
        if seen.kept is not None:
            features = features * seen.kept
        features = features[:, None].expand(-1, seen.latents.shape[1], -1)
        output = self.generator.head(features, seen.latents).float()
        with torch.autocast(output.device.type, enabled=False):
            return output, self.generator.log_probabilities(output) if self._tied else output[..., :0]

    def _scored(self, seen: Seen) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the critic sees: emojis, `present` and picks of a batch, of all slots or of one of each."""
        if self._objective.critic_sees == "reaction" or seen.emoji.shape[1] == 1:
            return seen.emoji, seen.present, seen.pick
        before = seen.present.cumsum(dim=1)  # how many emojis there are up to a slot
        slot = (before > seen.choice * before[:, -1:]).float().argmax(dim=1, keepdim=True)
        return seen.emoji.gather(1, slot), seen.present.gather(1, slot), seen.pick.gather(1, slot)


class _CriticForward(_Forward):
    """To L_D, and where the likelihood is of all batches, to the generator's of this one."""

    def forward(
        self, images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        settings, learns = self._objective, self._objective.nll_batches == "all"
        seen = self._sight.see(images, emoji, place, settings.latents if learns else 1)
        with self._sight.autocast():
            with torch.set_grad_enabled(learns):
                output, log_q = self._answers(seen)
            losses, metrics = [], seen.mix.new_full((3,), math.nan)
            if settings.critic_sees != "nothing":
                real, present, pick = self._scored(seen)
                fake = (
                    self.generator.vectors[draw(log_q[:, 0], pick)] if self._tied else output[:, :1].detach()
                )
                of_critic, told = critic_losses(
                    *(self.critic, seen.images, self.generator.vectors[real], fake, present, seen.mix),
                    penalty_weight=settings.penalty_weight,
                )
                losses.append(seen.weight * of_critic)
                metrics = torch.cat([losses[0].detach().mean()[None], told])
        if learns:
            nll = negative_log_likelihood(log_q, seen.emoji, seen.present)
            losses.append(settings.nll_weight * seen.weight * nll)
        return tuple(losses), metrics


class _GeneratorForward(_Forward):
    """To L_G."""

    def forward(
        self, images: torch.Tensor, emoji: torch.Tensor, place: torch.Tensor
    ) -> tuple[tuple[torch.Tensor], torch.Tensor]:
        seen = self._sight.see(images, emoji, place, self._objective.latents)
        with self._sight.autocast():
            output, log_q = self._answers(seen)
            losses, told = self._tied_losses(seen, log_q) if self._tied else self._free_losses(seen, output)
        losses = seen.weight * losses
        return (losses,), torch.stack([losses.mean(), *told]).detach()

    def _tied_losses(self, seen: Seen, log_q: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Of each sample; the critic's score, −log q, how many emojis are said, what the latent decides."""
        nll = negative_log_likelihood(log_q, seen.emoji, seen.present)
        losses, score = self._objective.nll_weight * nll, torch.full_like(nll, math.nan)
        if self._objective.critic_sees != "nothing":
            _, present, pick = self._scored(seen)
            one, vectors = log_q[:, 0], self.generator.vectors
            score = expected_scores(self.critic, seen.images, one, vectors, draw(one, pick), present)
            losses = losses - present.sum(dim=1) * score
        said = emojis_said(log_q.exp().mean(dim=(0, 1)))
        here = seen.present
        return losses, [mean(score, here), mean(nll, here), said, latent_use(log_q)]

    def _free_losses(self, seen: Seen, output: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The same, of nearest emojis; without an explicit q the others are 0."""
        score = free_scores(self.critic, seen.images, output[:, :1], seen.present)
        nearest = self.generator.nearest(output[:, 0].detach())
        said = emojis_said(one_hot(nearest, len(self.generator.vectors)).float().mean(dim=0))
        none = torch.zeros_like(said)
        return -score, [mean(score, seen.present), none, said, none]


def build(config: Config, inputs: Inputs, accelerator: Accelerator) -> Training:
    """Networks with the same weights on every rank, and their updates."""
    size, device = inputs.train.manifest.image_size, accelerator.device
    with initial_weights(config.optimizer.seed):
        generator = Generator(config.model, inputs.vectors, size)
        critic = make_critic(config.model, inputs.vectors.shape[1], size)
    if generator.bias is not None:
        generator.bias.data.copy_(torch.from_numpy(np.log(inputs.shares)))
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
        feature_dim=config.model.feature_dim,
        dropout=config.optimizer.dropout,
    )
    parts = config, generator, critic, sight
    of_critic, of_generator = _CriticForward(*parts), _GeneratorForward(*parts)
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
    with_critic = [critic_guard] if config.objective.critic_sees != "nothing" else []
    with_generator = [generator_guard] if config.objective.nll_batches == "all" else []

    return Training(
        config=config,
        inputs=inputs,
        accelerator=accelerator,
        generator=generator,
        critic=critic,
        average=average,
        critic_forward=of_critic,
        generator_forward=of_generator,
        critic_update=update_by(
            of_critic,
            [*with_critic, *with_generator],
            still=[*([] if with_critic else [critic]), *([] if with_generator else [generator])],
        ),
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
    """One step of Algorithm 1, from batch `number` on; the metrics of its last updates, float32 [8]."""
    settings, accelerator = training.config.optimizer, training.accelerator
    first = accelerator.process_index * training.config.data.batch_size // accelerator.num_processes
    metrics = {}
    updates = [training.critic_update] * settings.num_critic_steps
    updates += [training.generator_update] * settings.num_generator_steps
    for position, update in enumerate(updates, number):
        batch = next(batches)
        place = torch.full((2,), first, device=accelerator.device)  # filled there: a copy would be waited for
        place[0].fill_(position)
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


def update_average(training: Training, step: int) -> None:
    """Move the averaged generator towards the trained one."""
    move_average(training.average, training.generator, training.config.optimizer.ema_decay, step)
