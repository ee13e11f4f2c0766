"""The training: one function that reads from top to bottom, and a function for each kind of update.

    batches ─► critic_update × num_critic_steps ─► generator_update × num_generator_steps ─► one step done
            ─► average, metrics, now and then a snapshot and a checkpoint

Accelerate gives the device, DistributedDataParallel, autocast and the collectives. It neither loads the data
(it would give ranks the wrong share) nor saves the state (not whole when killed).
"""

import copy
import json
import warnings
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from ..datasets.errors import InputError
from ..datasets.files import write_atomic
from ..datasets.progress import progress
from ..datasets.stream import Batch, HeldOut, stream
from .augment import augment, normalise
from .checkpoint import Identity, TrainState, load_checkpoint, save_checkpoint
from .config import Config
from .inputs import Inputs, read_inputs
from .networks import Critic, Generator, make_critic
from .noise import Noise
from .objective import CriticLoss, GeneratorLoss, draw_fakes, frozen
from .snapshot import Facts, Snapshot, save_snapshot
from .tracking import Tracker, tracking

VAL_SAMPLES = 16  # latents for each image that scores a snapshot


@dataclass(frozen=True)
class Training:
    """What the updates work with."""

    config: Config
    inputs: Inputs
    accelerator: Accelerator
    noise: Noise
    generator: Generator
    critic: Critic
    average: Generator  # of the generator's weights; never trained itself
    generator_loss: torch.nn.Module  # wrapped
    critic_loss: torch.nn.Module  # wrapped
    generator_optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer

    @property
    def tied(self) -> bool:
        """Whether the generator's output is a distribution over the vocabulary."""
        return self.config.model.output == "tied"


def train(config: Config, shards: Path, vectors: Path, run: Path) -> None:
    """Train, from the newest checkpoint of the run folder or from the start, to the last step.

    Raises:
        InputError: something given cannot work; nothing was trained.
    """
    accelerator = start(config)
    main = accelerator.is_main_process
    inputs = read_inputs(config, shards, vectors)
    training = build(config, inputs, accelerator)
    identity = Identity.of(config, inputs.dataset, inputs.vectors_hash)
    state = TrainState(
        {"generator": training.generator, "critic": training.critic, "average": training.average},
        {"generator_optimizer": training.generator_optimizer, "critic_optimizer": training.critic_optimizer},
    )
    step = load_checkpoint(run / "checkpoints", state, identity)
    accelerator.wait_for_everyone()
    if main:
        write_atomic(run / "config.yaml", yaml.safe_dump(config.model_dump(), sort_keys=False))
        places = {"shards": str(shards.resolve()), "vectors": str(vectors.resolve())}
        write_atomic(run / "inputs.json", json.dumps(places, indent=1) + "\n")
        _tell(training, step)
    if step == config.optimizer.steps:
        return

    updates = config.optimizer.num_critic_steps + config.optimizer.num_generator_steps
    reading = stream(
        inputs.train,
        seed=config.optimizer.seed,
        window=config.data.window,
        batch_size=config.data.batch_size,
        start=step * updates,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    held_out = inputs.read_val()
    recent: list[torch.Tensor] = []
    params = {key: str(value) for part in config.model_dump().values() for key, value in part.items()}
    tags = {"dataset": inputs.dataset, "vectors": inputs.vectors_hash}
    with (
        closing(reading) as batches,
        tracking(run, resumed_at=step, params=params, tags=tags) if main else nullcontext() as tracker,
        progress(config.optimizer.steps, "train", "steps", initial=step, shown=main) as bar,
    ):
        while step < config.optimizer.steps:
            set_learning_rate(training, step)
            recent.append(train_step(training, batches, step * updates))
            update_average(training, step)
            step += 1
            last = step == config.optimizer.steps

            # Once in a while: metrics, averaged over the ranks and the steps since the last time.
            if step % config.run.log_steps == 0 or last:
                means = average_over_ranks(training, torch.stack(recent).mean(dim=0))
                recent.clear()
                metrics: dict[str, float] = dict(zip(METRICS, means, strict=True))
                if not np.isfinite(means).all():
                    raise InputError(
                        f"The losses are no longer finite at step {step}. Lower --learning-rate."
                    )
                if tracker:
                    tracker.log(step, metrics)
                shown = {name.split("/")[1]: f"{value:.3f}" for name, value in metrics.items()}
                bar.set_postfix(shown, refresh=False)

            # Once in a while: a snapshot, scored on held-out tuples by rank 0 while the others wait.
            if (step % config.run.snapshot_steps == 0 or last) and tracker:
                take_snapshot(training, step, held_out, run, tracker)

            # Once in a while: a checkpoint.
            if step % config.run.checkpoint_steps == 0 or last:
                if main:
                    save_checkpoint(run / "checkpoints", step, state, identity)
                accelerator.wait_for_everyone()
            bar.update()
    accelerator.end_training()


def start(config: Config) -> Accelerator:
    """Join the other ranks, and refuse to train on another number of them than was promised."""
    # Accelerate knows this setting only under the name that newer versions of torch warn of.
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision=precision(config),
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    ranks, promised = accelerator.num_processes, config.run.world_size
    if promised is not None and promised != ranks:
        raise InputError(
            f"{promised} ranks were promised and {ranks} started. On CPUs `accelerate launch` always starts "
            "one; use `torchrun --nproc_per_node N --no-python -- emojigan train …`."
        )
    if config.data.batch_size % ranks:
        raise InputError(f"--batch-size {config.data.batch_size} cannot be shared by {ranks} ranks.")
    return accelerator


def precision(config: Config) -> str:
    """What Accelerate calls the precision: bf16 where the device has it, unless told otherwise."""
    if config.run.precision == "auto":
        return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
    return {"float32": "no", "bf16": "bf16"}[config.run.precision]


def build(config: Config, inputs: Inputs, accelerator: Accelerator) -> Training:
    """Networks with the same weights on every rank, their losses wrapped, and their optimizers."""
    size = inputs.train.manifest.image_size
    with torch.random.fork_rng():
        torch.manual_seed(config.optimizer.seed)
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


METRICS = (
    "train/critic_loss",
    "train/wasserstein",
    "train/penalty",
    "train/generator_loss",
    "train/score",
    "train/nll",
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
    """Images as the networks see them, emojis as places in the vocabulary, and the tuples' weights."""
    device, inputs = training.accelerator.device, training.inputs
    images = batch.images.to(device, non_blocking=True)
    if training.config.data.augment:
        images = augment(images, training.noise.uniform("augment", number, 5))
    else:
        images = normalise(images)
    return images, inputs.ids[batch.emoji].to(device), inputs.tuple_weights[batch.emoji].to(device)


def average_over_ranks(training: Training, values: torch.Tensor) -> list[float]:
    """The mean of a vector over all ranks."""
    mean = training.accelerator.reduce(values, "mean")
    assert isinstance(mean, torch.Tensor)
    return mean.tolist()


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


def take_snapshot(training: Training, step: int, held_out: HeldOut, run: Path, tracker: Tracker) -> None:
    """Score the averaged generator on the val split and write its snapshot."""
    inputs = training.inputs
    facts = Facts(
        step=step,
        image_size=inputs.train.manifest.image_size,
        model=training.config.model.model_dump(),
        vocabulary=inputs.vocabulary,
        dataset=inputs.dataset,
        vectors=inputs.vectors_hash,
        scores={},
    )
    snapshot = Snapshot(facts, training.average, inputs.weights)
    distribution = snapshot.distribution(held_out.images, num_samples=VAL_SAMPLES, seed=0, raw=True)
    nll = inputs.negative_log_likelihood(distribution, held_out)
    tracker.log(step, {"val/nll": nll})
    facts.scores["nll"] = nll
    save_snapshot(run / "snapshots", facts, training.average, inputs.weights)


def _tell(training: Training, step: int) -> None:
    """Say what is about to happen, in a few lines."""
    inputs, accelerator = training.inputs, training.accelerator
    print(
        f"{inputs.train.num_tuples:,} tuples, {len(inputs.vocabulary)} emojis; "
        f"{accelerator.num_processes} rank(s) on {accelerator.device}, "
        f"{'bf16' if accelerator.mixed_precision == 'bf16' else 'float32'}"
    )
    if inputs.num_without_vector:
        print(
            f"{inputs.num_without_vector:,} tuples have an emoji without a vector; they count with weight 0."
        )
    if training.config.objective.penalty_weight == 0:
        print("penalty_weight is 0: without clipping nothing keeps the critic Lipschitz.")
    if step:
        print(f"resumed at step {step}")
