"""What a training would do, before it does it: for `train --dry-run`."""

import os
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator

from ...datasets.store.folder import Folder
from ...datasets.stream.reader import Batch, Rows
from ..config import Config
from ..helpers import num_helpers
from ..inputs import Inputs, read_inputs
from ..model.networks import Generator, make_critic
from ..runtime.feed import feed
from ..runtime.ranks import check_fit, start
from ..validation import read_val
from .speed import Pace, about, plan
from .step import build, set_learning_rate, train_step, update_average


def describe(config: Config, shards: Folder, vectors: Path) -> str:
    """The resolved config, then tuples, steps, ranks and memory; the time, too, of one rank on a GPU."""
    inputs = read_inputs(config, shards, vectors)
    read_val(inputs)  # refuses what could choose no snapshot
    settings, batch_size = config.optimizer, config.data.batch_size
    ranks = config.run.world_size or int(os.environ.get("WORLD_SIZE", "1"))
    check_fit(config, ranks)
    rows = batch_size // ranks // config.run.accumulate  # that go through the networks at once
    size = inputs.train.manifest.image_size
    with torch.device("meta"):
        generator = Generator(config.model, torch.empty(inputs.vectors.shape), size)
        critic = make_critic(config.model, inputs.vectors.shape[1], size)
    of_generator, of_critic = (sum(p.numel() for p in module.parameters()) for module in (generator, critic))
    # Weight, gradient and Adam's two moments for each; the average once more.
    state = 4 * (4 * (of_generator + of_critic) + of_generator)
    maps = config.model.trunk_width * (size // 2) ** 2 * (1 + 1 / 2 + 1 / 4 + 1 / 8) + 3 * size**2
    answers = config.objective.latents * (6 * config.model.hidden_dim + 3 * len(inputs.vocabulary))
    activations = 4 * 2 * rows * (maps + 6 * config.model.hidden_dim * inputs.train.slots + answers)
    of_step = (
        0 if config.objective.critic_sees == "nothing" else settings.num_critic_steps,
        config.generator_updates,
    )
    return (
        yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
        + f"\ntuples   {inputs.train.num_tuples:,} to train on, {inputs.num_without_vector:,} without vector"
        + (f", {inputs.num_denied:,} denied" if config.data.deny else "")
        + f"\nemojis   {len(inputs.vocabulary)}"
        + f"\nsteps    {plan(config, inputs)}"
        + f"\nupdates  {of_step[0]} of the critic and {of_step[1]} of the generator in a step, on "
        f"{settings.num_critic_steps + settings.num_generator_steps} batches"
        + f"\nweights  largest over smallest {inputs.weights.max() / inputs.weights.min():.3g}, worth "
        f"{inputs.effective_share:.0%} of the tuples"
        + f"\nranks    {ranks}, {batch_size // ranks} {config.data.unit}s each"
        + f"\nhelpers  {num_helpers(config)} a rank: threads that make batches ahead"
        + f"\nnetworks {of_generator:,} in the generator, {of_critic:,} in the critic"
        + f"\nmemory   about {(state + activations) / 2**20:,.0f} MiB a rank: "
        f"{state / 2**20:,.0f} of weights and optimizers, {activations / 2**20:,.0f} of activations"
        + (f"\ntime     {estimate(config, inputs)}" if torch.cuda.is_available() and ranks == 1 else "")
    )


def estimate(config: Config, inputs: Inputs) -> str:
    """How long all steps would take, with their data. Compiling, and scoring, come on top."""
    accelerator = start(config)
    rank, ranks = accelerator.process_index, accelerator.num_processes
    with closing(inputs.stream(config, start=0, rank=rank, world_size=ranks)) as reading:
        seconds, _ = try_steps(config, inputs, accelerator, reading)
    return about(seconds * config.optimizer.steps, accelerator)


def try_steps(
    config: Config, inputs: Inputs, accelerator: Accelerator, reading: Iterator[Batch | Rows]
) -> tuple[float, int]:
    """Do some steps on all ranks, which are forgotten: seconds of one, and how many updates were left out.

    Args:
        reading: batches of this rank, without end; they are waited for within these seconds.
    """
    settings = config.optimizer
    training, pace = build(config, inputs, accelerator), Pace(accelerator.device)
    updates = settings.num_critic_steps + settings.num_generator_steps
    with closing(training):
        batches = feed(reading, accelerator.device)
        for step in count():
            set_learning_rate(training, step % settings.steps)  # of few steps it may do some again
            train_step(training, batches, step * updates)
            update_average(training, step)
            if seconds := pace.step():
                guards = training.critic_guard, training.generator_guard
                return seconds, sum(int(guard.counts[0]) for guard in guards)
    raise AssertionError("a stream of batches has no end")
