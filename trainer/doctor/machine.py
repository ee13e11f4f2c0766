"""What the machines have: their clocks, and room."""

import resource
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from .examined import Examined
from .finding import State, Told, ranks
from .meeting import HEAR_WITHIN

APART = 2.0  # seconds
SHM, SHM_FOLDER = 2**29, Path("/dev/shm")  # bytes: in it NCCL lets the ranks of a node hear each other
FILES = 1024  # open ones: shards of some windows, and connections
GPU_SHARE = 0.9  # of a GPU's memory that should be free
GIB = 2**30


def look_at_clock(examined: Examined) -> dict:
    """All note the time when the first one says now."""
    meeting = examined.meeting
    if meeting.main:
        now = time.time()
        meeting.tell("clocks/now", now)
        return {"ahead": 0.0}
    told = meeting.hear("clocks/now", HEAR_WITHIN)
    return {"ahead": time.time() - told}


def judge_clocks(told: Sequence[Told]) -> tuple[State, str]:
    by_host = {each.host: each.facts["ahead"] for each in told}
    if apart := {host: ahead for host, ahead in by_host.items() if abs(ahead) > APART}:
        what = ", ".join(
            f"{host} is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}"
            for host, ahead in apart.items()
        )
        return "warning", f"{what}, beside {told[0].host}. Set the clocks (NTP); logs would mislead."
    return "fine", f"within {APART:.0f} s of each other"


def look_at_room(examined: Examined) -> dict:
    config, inputs = examined.known()
    cache = Path(config.run.cache).expanduser().absolute()
    place = next(path for path in (cache, *cache.parents) if path.exists())
    there = sum(path.stat().st_size for path in cache.glob("*")) if cache.exists() else 0
    remote = inputs.train.folder.path is None
    facts = {
        "shm": shutil.disk_usage(SHM_FOLDER).free if SHM_FOLDER.exists() else None,
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "cache": str(cache),
        "room": shutil.disk_usage(place).free + there,
        "wanted": int(config.run.cache_gib * GIB) if remote else 0,
        "shards": sum(shard.bytes for shard in inputs.train.shards),
    }
    if torch.cuda.is_available():
        facts["gpu_free"], facts["gpu"] = torch.cuda.mem_get_info()
    return facts


def judge_room(told: Sequence[Told]) -> tuple[State, str]:
    """What lacks, in the order of what stops a training first."""
    failures, warnings = [], []
    for host in dict.fromkeys(each.host for each in told):
        there = [each for each in told if each.host == host]
        facts = there[0].facts
        if facts["files"] < FILES:
            failures.append(f"{host} allows {facts['files']} open files: ulimit -n {FILES * 4}")
        needed = min(facts["wanted"], facts["shards"])
        if facts["room"] < needed:
            failures.append(
                f"{facts['cache']} on {host} has room for {facts['room'] / GIB:.1f} GiB of "
                f"{needed / GIB:.1f}: another --cache, or a smaller --cache-gib"
            )
        on_gpu = [each for each in there if "gpu" in each.facts]
        if len(on_gpu) > 1 and facts["shm"] is not None and facts["shm"] < SHM:
            warnings.append(
                f"{SHM_FOLDER} on {host} has {facts['shm'] / 2**20:.0f} MiB for {len(on_gpu)} ranks: "
                "--shm-size of the container, or an emptyDir of medium Memory"
            )
        used = [each for each in on_gpu if each.facts["gpu_free"] < GPU_SHARE * each.facts["gpu"]]
        warnings += [
            f"the GPU of {ranks([each.rank])} has {each.facts['gpu_free'] / GIB:.1f} of "
            f"{each.facts['gpu'] / GIB:.1f} GiB free: somebody else uses it (nvidia-smi)"
            for each in used
        ]
    if failures or warnings:
        return "failure" if failures else "warning", "; ".join([*failures, *warnings]) + "."
    least = min(told, key=lambda each: each.facts["files"]).facts
    memory = [each.facts["gpu_free"] / GIB for each in told if "gpu" in each.facts]
    on_gpus = f"; at least {min(memory):.1f} GiB free on each GPU" if memory else ""
    return "fine", f"{least['files']:,} files may be open{on_gpus}"
