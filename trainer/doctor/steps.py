"""Some true steps of the training, which are forgotten; and whether the data keep up with them.

one batch, again and again ─► seconds of a step, without waiting for data ─┐
shards that are not in the cache yet ─► units that are read in a second ───┴► which is slower

Where images are kept on the device, shards are read once, before the first step: how long that takes is told.
"""

import resource
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from importlib import import_module
from itertools import repeat

import numpy as np
import torch
from accelerate import Accelerator

from ...datasets.errors import InputError
from ...datasets.stream.order import Order
from ...datasets.stream.reader import FETCHERS, Batch, Rows
from ...datasets.stream.stream import batches_per_epoch
from ...datasets.work.progress import duration
from ..config import Config, RunConfig
from ..inputs import Inputs
from ..run import CHECKPOINTS, step_of, steps_in
from ..runtime.device_cache import device_cache, units_left
from ..runtime.ranks import start
from ..training.dry_run import try_steps
from .examined import Examined
from .finding import State, Told, ranks
from .meeting import HEAR_WITHIN

READ_FOR = 1.0  # seconds
WARM_WITHIN = 30.0  # seconds
GIB = 2**30


def warm_up(settings: RunConfig) -> Callable[[], object]:
    """Import what compiles, for seconds, while others are waited for; what is returned waits for that."""
    if settings.compile == "off" or not (settings.compile == "on" or torch.cuda.is_available()):
        return lambda: None

    def work() -> None:
        with suppress(Exception):  # it comes again when something is compiled
            import_module("torch._inductor.compile_fx")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return partial(thread.join, WARM_WITHIN)


def look_at_steps(examined: Examined) -> dict:
    config, inputs = examined.known()
    examined.warmed()  # before another thread imports the same
    accelerator = start(config)
    on_gpu = accelerator.device.type == "cuda"
    free = torch.cuda.mem_get_info()[0] if on_gpu else None
    step = max(map(step_of, steps_in(examined.run / CHECKPOINTS)), default=0)
    units = units_left(config, step=step, ranks=accelerator.num_processes)
    resident, told = device_cache(config, inputs.train, accelerator.device, units=units)
    examined.kept = told if resident is not None else ""
    try:
        batch = repeat(_one_batch(config, inputs, accelerator))
        seconds, left_out = try_steps(config, inputs, accelerator, batch)  # with room for the images, too
    except torch.OutOfMemoryError as error:
        streamed = ", and --device-cache off leaves out the images" if examined.kept else ""
        raise InputError(
            f"--batch-size {config.data.batch_size} needs more memory than the {(free or 0) / GIB:.1f} GiB "
            f"that are free. --accumulate {2 * config.run.accumulate} takes it in parts{streamed}."
        ) from error
    del resident
    examined.step_seconds = seconds
    peak = (
        torch.cuda.max_memory_reserved()
        if on_gpu
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return {"seconds": seconds, "left_out": left_out, "peak": peak, "free": free}


def _one_batch(config: Config, inputs: Inputs, accelerator: Accelerator) -> Batch | Rows:
    """One of this rank, for which no more than a shard or two are fetched."""
    rank, ranks = accelerator.process_index, accelerator.num_processes
    near = _with(_with(config, "data", window=1), "run", helpers=0)
    with closing(inputs.stream(near, start=0, rank=rank, world_size=ranks)) as reading:
        return next(reading)


def _with(config: Config, section: str, **keys: int) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=keys)})


def judge_steps(told: Sequence[Told]) -> tuple[State, str]:
    if bad := [each.rank for each in told if each.facts["left_out"]]:
        return "failure", (
            f"losses or gradients are not finite on {ranks(bad)}: a lower --learning-rate, or --precision "
            "float32."
        )
    seconds = max(each.facts["seconds"] for each in told)
    peak = max(each.facts["peak"] for each in told) / GIB
    free = [each.facts["free"] / GIB for each in told if each.facts["free"] is not None]
    of = f" of {min(free):.1f} free" if free else ""
    return "fine", f"a step takes {1000 * seconds:,.0f} ms, and {peak:.1f} GiB{of}"


def look_at_stream(examined: Examined) -> dict:
    """Open a window that is not here yet, and read from it as fast as it goes; beside what the steps take."""
    config, inputs = examined.known()
    meeting, settings = examined.meeting, config.optimizer
    rows = config.data.batch_size // meeting.size
    near = _with(config, "data", window=min(config.data.window, FETCHERS))
    if meeting.main:
        meeting.tell("stream/window", _unread(near, inputs))
    start, of_window = meeting.hear("stream/window", HEAR_WITHIN)
    began, elapsed, number = time.perf_counter(), 0.0, 0
    with closing(inputs.stream(near, start=start, rank=meeting.rank, world_size=meeting.size)) as reading:
        next(reading)
        opened = time.perf_counter()
        while elapsed < READ_FOR:
            next(reading)
            number, elapsed = number + 1, time.perf_counter() - opened
    window = max(opened - began, of_window * elapsed / number)  # the next one is opened while one is read
    once = max(opened - began, of_window * elapsed / number * meeting.size)  # where each reads all of it
    batches = settings.num_critic_steps + settings.num_generator_steps
    return {
        "unit": config.data.unit,
        "reads": of_window * rows / window,
        "takes": batches * rows / examined.step_seconds,
        "kept": examined.kept,
        "once": once * inputs.train.num_units / (of_window * config.data.batch_size),  # seconds
        "patience": 60 * config.run.timeout,
    }


def _unread(config: Config, inputs: Inputs) -> tuple[int, int]:
    """The first batch of the window of which least is in the cache of this machine, and how many it has."""
    train, data = inputs.train, config.data
    lane = Order(config.optimizer.seed, train.sizes, data.window, data.lanes).lane(0, 0)
    here = {path.name for path in train.cache.path.glob("*")} if train.cache else set()
    absent = [train.shards[shard].sha256 not in here for shard in lane.pieces[:, 0]]
    window = int(np.add.reduceat(absent, range(0, len(absent), data.window), dtype=int).argmax())
    begins, ends = (-(-place * data.lanes // data.batch_size) for place in lane.first[window : window + 2])
    last = batches_per_epoch(train, data.batch_size) - 1
    return min(begins, last), max(ends - begins, 1)


def judge_stream(told: Sequence[Told]) -> tuple[State, str]:
    slowest = min(told, key=lambda each: each.facts["reads"])  # all wait for it
    if all(each.facts["kept"] for each in told):
        return _judge_reading_once(told)
    reads, takes = len(told) * slowest.facts["reads"], sum(each.facts["takes"] for each in told)
    unit = told[0].facts["unit"]
    if reads < takes:
        return "warning", (
            f"{reads:,.0f} {unit}s/s are read, and the steps would take {takes:,.0f}; rank {slowest.rank} on "
            f"{slowest.host} is the slowest. More --helpers or a nearer disk; images that fit on a GPU "
            "(--device-cache) are read once."
        )
    return "fine", f"{reads:,.0f} {unit}s/s are read, and the steps take {takes:,.0f}"


def _judge_reading_once(told: Sequence[Told]) -> tuple[State, str]:
    slowest = max(told, key=lambda each: each.facts["once"])
    once, patience = slowest.facts["once"], slowest.facts["patience"]
    sentence = f"{slowest.facts['kept']}, and read once, in about {duration(once)}"
    if once > patience:
        return "warning", (
            f"{sentence} on rank {slowest.rank} on {slowest.host}: longer than the others wait for it, "
            f"{duration(patience)}. Raise --timeout, or stream them (--device-cache off)."
        )
    return "fine", sentence
