"""The images of the train split in the memory of the device, where they fit: batches are gathered there.

--device-cache, split, device, what is left to train ─► room for all pixels, or none, and a line that tells it
"""

import os

import torch

from ...datasets.errors import InputError
from ...datasets.stream.resident import pixels_shape
from ...datasets.stream.split import Split
from ..config import Config

RESERVE = 1 / 8  # of the free memory, for the updates
SHARE = 1 / 4  # of the free memory that the images may take where nobody asks for it


def units_left(config: Config, *, step: int, ranks: int) -> int:
    """Tuples or reactions that a rank is still to train on, from a step on."""
    settings = config.optimizer
    updates = settings.num_critic_steps + settings.num_generator_steps
    return (settings.steps - step) * updates * config.data.batch_size // ranks


def device_cache(
    config: Config, split: Split, device: torch.device, *, units: int
) -> tuple[torch.Tensor | None, str]:
    """Room for all pixels of a split, uint8 [images, size, size, 3], not filled yet; and what is to be told.

    Args:
        units: tuples or reactions that this rank is still to train on. Where the split has more of them,
            reading all of its images would take longer than streaming those that come.

    Raises:
        InputError: it is asked for, and there is too little memory.
    """
    on_gpu, wanted = device.type == "cuda", config.run.device_cache
    gains = on_gpu and config.data.lanes == 1 and units >= split.num_units
    if wanted == "off" or (wanted == "auto" and not gains):
        return None, ""
    shape = pixels_shape(split)
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else _memory()
    there = "on the GPU" if on_gpu else "in memory"
    fits, told = choose(torch.Size(shape).numel(), free, there, asked=wanted == "on")
    return torch.empty(shape, dtype=torch.uint8, device=device) if fits else None, told


def choose(size: int, free: int, there: str, *, asked: bool) -> tuple[bool, str]:
    """Whether so many bytes are kept where so many are free, and what is to be told. Raises as above."""
    if asked and size > (1 - RESERVE) * free:
        raise InputError(
            f"--device-cache on: the images take {_said(size)}, and {there} are only {_said(free)}. "
            "Leave it out, and they are streamed."
        )
    if asked or size <= SHARE * free:
        return True, f"images kept {there}: {_said(size)}"
    return False, f"images streamed: {_said(size)}, more than a quarter of the {_said(free)} free {there}"


def _memory() -> int:
    """Bytes of memory that this machine has for each of its ranks."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // ranks


def _said(size: int) -> str:
    """Bytes as people say them."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"
