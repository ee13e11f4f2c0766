"""How long a training is, in epochs before its first step and in hours after some; and how fast it is.

plan   ─► "2,600 steps of 6 batches of 256: 49 epochs of 81,000 tuples"
Pace   ─► "about 3 h 20 min on this GPU"
Meter  ─► the metrics of speed:
    train/tuples_per_second   that the critics of all ranks were trained on
    train/utilisation         their operations, as a share of what the devices can do
    train/data_wait           share of the time in which the rank that waited most waited for batches
    train/device_memory_gib   most that was taken of a GPU since the start, of the rank that took most

Operations are the multiplications and additions of products and convolutions, as torch counts them: all that
the objective needs, whatever a device makes of it. What a device can do is measured at the start.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from ...datasets.stream.reader import Batch, Rows
from ...datasets.stream.stream import batches_per_epoch
from ...datasets.work.progress import duration
from ..config import Config
from ..inputs import Inputs
from ..runtime.background import later
from ..runtime.captured import WARM_UP
from ..runtime.ranks import precision
from .objective import frozen
from .step import Training

TIMED = 3  # steps
GIB = 2**30
ON_GPU, ON_CPU = 8192, 1024  # rows of the square matrices whose product shows what a device can do
ROUNDS = 5


def plan(config: Config, inputs: Inputs) -> str:
    """What the steps come to: "2,600 steps of 6 batches of 256: 49 epochs of 81,000 tuples"."""
    settings, batch_size = config.optimizer, config.data.batch_size
    batches = settings.num_critic_steps + settings.num_generator_steps
    epochs = settings.steps * batches / batches_per_epoch(inputs.train, batch_size)
    return (
        f"{settings.steps:,} steps of {batches} batches of {batch_size}: "
        f"{epochs:,.{0 if epochs >= 10 else 1}f} epochs of {inputs.train.num_units:,} {config.data.unit}s"
    )


class Pace:
    """Times some of the first steps.

    Those before wait for the first shard, and on a GPU for being compiled and captured: they are not timed.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.monotonic) -> None:
        self._device, self._clock = device, clock
        self._first = WARM_UP + 1 if device.type == "cuda" else 1
        self._done = 0
        self._began = 0.0

    def step(self) -> float | None:
        """Note that a step is done; return how many seconds one takes, when that is known, once."""
        self._done += 1
        if self._done not in (self._first, self._first + TIMED):
            return None
        if self._device.type == "cuda":
            torch.cuda.synchronize()  # it is handed its work long before it does it
        if self._done == self._first:
            self._began = self._clock()
            return None
        return (self._clock() - self._began) / TIMED


def about(seconds: float, accelerator: Accelerator) -> str:
    """How long something takes here: "about 3 h 20 min on this GPU"."""
    ranks, on_gpu = accelerator.num_processes, accelerator.device.type == "cuda"
    here = "this machine" if not on_gpu else "this GPU" if ranks == 1 else f"these {ranks} GPUs"
    return f"about {duration(seconds)} on {here}"


class Waited(Iterator[Batch | Rows]):
    """Batches, and how long they were waited for."""

    def __init__(
        self, batches: Iterator[Batch | Rows], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._batches, self._clock = batches, clock
        self.seconds = 0.0  # since they were last taken

    def __next__(self) -> Batch | Rows:
        begun = self._clock()
        try:
            return next(self._batches)
        finally:
            self.seconds += self._clock() - begun


class Meter:
    """How fast a training is, by the time since it was last asked.

    All of that time counts: snapshots that were scored in it, checkpoints that were copied, and in the
    beginning compiling make it slower. What a rank waits for others is not waiting for batches.
    """

    def __init__(
        self,
        training: Training,
        batches: Waited,
        step: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        settings = training.config.optimizer
        split = training.inputs.train
        each = split.num_tuples / split.num_units  # of a reaction, or 1
        self._tuples = settings.num_critic_steps * training.config.data.batch_size * each  # of a step
        self._fastest = fastest(training)
        self._accelerator, self._batches, self._clock = training.accelerator, batches, clock
        self._step, self._began = step, clock()

    def read(self, step: int) -> Callable[[], dict[str, float]]:
        """Begin to read the metrics of speed, of the steps since the last reading; all ranks must.

        What is returned waits until the device came to where this was called.
        """
        now = self._clock()
        elapsed, self._began = now - self._began, now
        speed = (step - self._step) * self._tuples / elapsed
        self._step = step
        read = later(self._of_all_ranks())

        def metrics() -> dict[str, float]:
            waited, memory = read().tolist()
            told = {
                "train/tuples_per_second": speed,
                "train/utilisation": speed / self._fastest,
                "train/data_wait": waited / elapsed,
            }
            return told | ({"train/device_memory_gib": memory / GIB} if memory else {})

        return metrics

    def _of_all_ranks(self) -> torch.Tensor:
        """Seconds that batches were waited for, and bytes of the device, most of all ranks, float32 [2]."""
        device = self._accelerator.device
        mine = torch.zeros(1, 2, device=device)
        mine[0, 0].fill_(self._batches.seconds)  # there: a copy would be waited for
        mine[0, 1].fill_(torch.cuda.max_memory_allocated() if device.type == "cuda" else 0)
        self._batches.seconds = 0.0
        of_ranks = self._accelerator.gather(mine)
        assert isinstance(of_ranks, torch.Tensor)
        return of_ranks.amax(dim=0)


def bar_text(metrics: dict[str, float], val: float | None, signs: Sequence[str] = (), *, tied: bool) -> str:
    """What a progress bar says behind its bar, the most important first.

    "130k/s nll 2.22 val 2.30 mfu 33% wait 0% 12G": tuples a second, the loss worth watching (−log q where
    q is explicit, else the Wasserstein estimate), the last score on the val split, and the other metrics.
    Before all of them, in capitals, what the watch saw.
    """
    parts = [sign.upper() for sign in signs]
    parts.append(f"{tqdm.format_sizeof(metrics['train/tuples_per_second'])}/s")
    parts.append(f"nll {metrics['train/nll']:.2f}" if tied else f"W1 {metrics['train/wasserstein']:.2f}")
    if val is not None:
        parts.append(f"val {val:.2f}")
    parts.append(f"mfu {metrics['train/utilisation']:.0%} wait {metrics['train/data_wait']:.0%}")
    if (memory := metrics.get("train/device_memory_gib")) is not None:
        parts.append(f"{memory:.1f}G" if memory < 10 else f"{memory:.0f}G")
    return " ".join(parts)


def fastest(training: Training) -> float:
    """Tuples that the critic would be trained on in a second if all ranks did nothing but products.

    All ranks must call it: each measures its device while the others do, as they share a machine in training.
    """
    of_all = training.accelerator.reduce(
        torch.tensor(ceiling(training), device=training.accelerator.device), "sum"
    )
    assert isinstance(of_all, torch.Tensor)
    split = training.inputs.train
    return of_all.item() / operations_per_unit(training) * split.num_tuples / split.num_units


def operations_per_unit(training: Training) -> float:
    """Operations of a step, forward and backward, by tuples or reactions that its critic updates see."""
    settings = training.config.optimizer
    rows = training.config.data.batch_size / training.accelerator.num_processes
    one, two = _operations(training, rows=1), _operations(training, rows=2)
    # What is done once for the whole vocabulary is the same for any number of rows.
    critic, generator = ((b - a) + (2 * a - b) / rows for a, b in zip(one, two, strict=True))
    return critic + generator * settings.num_generator_steps / settings.num_critic_steps


def _operations(training: Training, rows: int) -> tuple[int, int]:
    """Of a critic update and of a generator update on a few rows: they are done, and leave no gradients."""
    device, size = training.accelerator.device, training.inputs.train.manifest.image_size
    slots = () if training.config.data.unit == "tuple" else (training.inputs.train.slots,)
    images = torch.zeros(rows, 3, size, size, dtype=torch.uint8, device=device)
    emoji = torch.zeros(rows, *slots, dtype=torch.int64, device=device)
    place = torch.zeros(2, dtype=torch.int64, device=device)
    counted = []
    for forward, still in (
        (training.critic_forward, nullcontext()),
        (training.generator_forward, frozen(training.critic)),
    ):
        with FlopCounterMode(display=False) as counter, still:
            losses, _ = forward(images, emoji, place)
            parameters = [each for each in forward.parameters() if each.requires_grad]
            torch.autograd.grad([each.sum() for each in losses], parameters, allow_unused=True)
        counted.append(counter.get_total_flops())
    return counted[0], counted[1]


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
