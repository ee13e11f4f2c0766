"""Trains what a run is compared with, as well as the run: the same images, augmented alike, as many of them.

    batches ─► loss ─► Adam with linear decay ─► averaged weights ─► the look that val likes best

Of two rates, 1e-3 and the run's where that is larger, it has the one that val likes better. It is trained
once for a run and kept in the run's folder.
"""

import copy
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from torch import nn

from ....datasets.errors import InputError
from ....datasets.store.atomic import creating_folder, is_whole
from ....datasets.stream.held_out import HeldOut
from ....datasets.stream.reader import Batch
from ....datasets.work.progress import progress
from ...config import Config
from ...inputs import Inputs
from ...model.augment import augment, normalise
from ...model.networks import move_average
from ...model.noise import uniform
from ...model.tensors import read_tensors, write_tensors
from ...run import BASELINES
from ...validation import read_val

LEARNING_RATE = 1e-3  # or that of the training, where it is larger and val the better for it
LOOKS = 10  # times, at least, that a network is scored on the val split, to keep the best
WEIGHTS, RECIPE = "network.safetensors", "recipe.json"

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Task(Generic[Network]):
    """What a network is trained for.

    Attributes:
        name: of its folder, and of the bar that is shown.
        columns: numbers in [0, 1) that the loss is given for each row.
        loss: of images float32 [batch, 3, size, size], positions in the vocabulary int64 [batch, slots], −1
            where there is none, `columns` numbers, and the share of the training that is done: [].
        score: of averaged weights on val; the lower, the better.
    """

    name: str
    unit: Literal["tuple", "reaction"]
    columns: int
    loss: Callable[[Network, torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
    score: Callable[[Network, HeldOut], float]


@dataclass(frozen=True)
class MadeFrom:
    """What a kept network was made from: another one is trained when this differs."""

    config: dict
    dataset: str
    vectors: str
    steps: int
    rates: list[float]


def as_many(config: Config, inputs: Inputs, unit: str) -> int:
    """Batches in which as many tuples, or reactions, are seen as a training sees."""
    settings, train = config.optimizer, inputs.train
    batches = settings.steps * (settings.num_critic_steps + settings.num_generator_steps)
    return batches if unit == train.unit else round(batches * train.num_tuples / train.num_units)


def fit(
    task: Task[Network], network: Network, config: Config, inputs: Inputs, run: Path, steps: int
) -> Network:
    """The network with the weights that a run keeps, or trained for `steps` batches and kept there."""
    rates = sorted({LEARNING_RATE, max(LEARNING_RATE, config.optimizer.learning_rate)})
    settings = config.model_dump(mode="json", exclude={"run"})
    made_from = MadeFrom(settings, inputs.dataset, inputs.vectors_hash, steps, rates)
    folder = run / BASELINES / task.name
    if not (is_whole(folder) and json.loads((folder / RECIPE).read_text()) == asdict(made_from)):
        fits = [train(task, copy.deepcopy(network), config, inputs, steps, rate) for rate in rates]
        _, weights = min(fits, key=itemgetter(0))
        if not weights:  # at no rate a look with a score that is a number
            raise InputError(
                f"What {run} is compared with ({task.name}) came to nothing. Leave it out of --baselines."
            )
        with creating_folder(folder) as temporary:
            write_tensors(temporary / WEIGHTS, weights)
            (temporary / RECIPE).write_text(json.dumps(asdict(made_from), indent=1))
    network.load_state_dict(read_tensors(folder / WEIGHTS))
    return network.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def train(
    task: Task[Network], network: Network, config: Config, inputs: Inputs, steps: int, rate: float
) -> tuple[float, dict[str, torch.Tensor]]:
    """The best score on val, and the averaged weights of that look.

    Without a val split it is infinity, and those of the last look.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).train()
    settings = config.optimizer
    optimizer = torch.optim.Adam(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, settings.final_learning_rate, steps)
    of_unit = replace(inputs, train=replace(inputs.train, unit=task.unit))
    reading, held_out = of_unit.stream(config, start=0), read_val(inputs)
    average = copy.deepcopy(network).requires_grad_(False)
    looks = max(LOOKS, settings.steps // config.run.snapshot_steps)
    best, weights = np.inf, {}
    with closing(reading) as batches, progress(steps, f"{task.name}, rate {rate:g}", "steps") as bar:
        for step in range(1, steps + 1):
            batch = next(batches)
            assert isinstance(batch, Batch)
            place = torch.tensor([step, 0], device=device)
            drawn = uniform(settings.seed, place, len(batch.images), 5 + task.columns)
            of_images, of_loss = drawn.split([5, task.columns], dim=1)
            images = batch.images.to(device)
            images = augment(images, of_images) if config.data.augment else normalise(images)
            emoji = batch.emoji.view(len(batch.emoji), -1)
            emoji = torch.where(emoji >= 0, inputs.ids[emoji.clamp(min=0)], -1).to(device)
            loss = task.loss(network, images, emoji, of_loss, step / steps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            move_average(average, network, settings.ema_decay, step)
            if step % max(1, steps // looks) == 0 or step == steps:
                found = task.score(average.eval(), held_out) if held_out else np.inf
                if found < best or not held_out:
                    best = found
                    weights = {name: each.cpu().clone() for name, each in average.state_dict().items()}
                bar.set_postfix(val_nll=f"{found:.3f}")
            bar.update()
    return float(best), weights
