"""How long a training is: in epochs before its first step, in hours after its third."""

import sys
import time
from collections.abc import Callable

import torch
from tqdm import tqdm

from ...datasets.stream.stream import batches_per_epoch
from ...datasets.work.progress import duration
from ..config import Config
from ..inputs import Inputs

TIMED = 3  # steps; the first is not counted, for it waits for the first shard and for the device to warm up


def plan(config: Config, inputs: Inputs) -> str:
    """What the steps come to: "2,600 steps of 6 batches of 256: 49 epochs of 81,000 tuples"."""
    settings, batch_size = config.optimizer, config.data.batch_size
    batches = settings.num_critic_steps + settings.num_generator_steps
    epochs = settings.steps * batches / batches_per_epoch(inputs.train, batch_size)
    return (
        f"{settings.steps:,} steps of {batches} batches of {batch_size}: "
        f"{epochs:,.{0 if epochs >= 10 else 1}f} epochs of {inputs.train.num_tuples:,} tuples"
    )


class Pace:
    """Times the first steps and tells once, in a line that stays in a log, how long the rest will take."""

    def __init__(self, steps: int, *, shown: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._left, self._shown, self._clock = steps, shown, clock
        self._done = 0
        self._began = 0.0

    def step(self) -> None:
        """Note that a step is done."""
        self._done += 1
        if not self._shown or self._done not in (1, TIMED) or self._done == self._left:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # a GPU is handed its work long before it does it
        if self._done == 1:
            self._began = self._clock()
        else:
            each, left = (self._clock() - self._began) / (TIMED - 1), self._left - self._done
            tqdm.write(f"{left:,} steps left: about {duration(each * left)} on this machine")
            sys.stdout.flush()  # into a log, now
