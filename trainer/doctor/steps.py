"""Some true steps of the training, which are forgotten; and whether the data keep up with them."""

import resource
import time
from collections.abc import Sequence
from contextlib import closing

import torch

from ...datasets.errors import InputError
from ..runtime.ranks import start
from ..training.dry_run import try_steps
from .examined import Examined
from .finding import State, Told, ranks

READ_FOR = 2.0  # seconds
GIB = 2**30


def look_at_steps(examined: Examined) -> dict:
    config, inputs = examined.known()
    accelerator = start(config)
    on_gpu = accelerator.device.type == "cuda"
    free = torch.cuda.mem_get_info()[0] if on_gpu else None
    try:
        seconds, left_out = try_steps(config, inputs, accelerator)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"--batch-size {config.data.batch_size} needs more memory than the {(free or 0) / GIB:.1f} GiB "
            f"that are free. --accumulate {2 * config.run.accumulate} takes it in parts."
        ) from error
    examined.step_seconds = seconds
    peak = (
        torch.cuda.max_memory_reserved()
        if on_gpu
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return {"seconds": seconds, "left_out": left_out, "peak": peak, "free": free}


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
    """Read as fast as it goes, beside what the steps take."""
    config, inputs = examined.known()
    meeting, settings = examined.meeting, config.optimizer
    rows = config.data.batch_size // meeting.size
    with closing(inputs.stream(config, start=0, rank=meeting.rank, world_size=meeting.size)) as reading:
        next(reading)  # opens the first window
        began, elapsed, number = time.perf_counter(), 0.0, 0
        while elapsed < READ_FOR:
            next(reading)
            number, elapsed = number + 1, time.perf_counter() - began
    batches = settings.num_critic_steps + settings.num_generator_steps
    return {
        "unit": config.data.unit,
        "reads": number * rows / elapsed,
        "takes": batches * rows / examined.step_seconds,
    }


def judge_stream(told: Sequence[Told]) -> tuple[State, str]:
    reads, takes = (sum(each.facts[key] for each in told) for key in ("reads", "takes"))
    unit = told[0].facts["unit"]
    if reads < takes:
        slowest = min(told, key=lambda each: each.facts["reads"])
        return "warning", (
            f"{reads:,.0f} {unit}s/s are read, and the steps would take {takes:,.0f}; rank {slowest.rank} on "
            f"{slowest.host} is the slowest. More --helpers or a nearer disk; images that fit on a GPU "
            "(--device-cache) are read once."
        )
    return "fine", f"{reads:,.0f} {unit}s/s are read, and the steps take {takes:,.0f}"
