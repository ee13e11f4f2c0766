"""Who is there, and whether all have the same: ranks, devices, software, code, dataset, time."""

import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch
from torch.cuda import nccl

from ..runtime.ranks import code_digest, shared_words
from .examined import Examined
from .finding import State, Told, differences, ranks
from .meeting import HEAR_WITHIN, MEET_WITHIN, local_rank

LIBRARIES = ("torch", "accelerate", "numpy")
DRIVER = Path("/sys/module/nvidia/version")
MAY_DIFFER = ("python", "driver")  # what ranks compute does not depend on them
DIGITS = 12  # of a digest, in a message
APART = 2.0  # seconds between clocks


def look_at_ranks(examined: Examined) -> dict:
    meeting = examined.meeting
    if not meeting.main:
        return {}
    came = meeting.came(MEET_WITHIN)
    return {
        "promised": examined.settings.world_size,
        "size": meeting.size,
        "came": {str(rank): hosts for rank, hosts in came.items()},
    }


def judge_ranks(told: Sequence[Told]) -> tuple[State, str]:
    facts = told[0].facts
    size, promised, came = facts["size"], facts["promised"], facts["came"]
    if twice := {rank: hosts for rank, hosts in came.items() if len(hosts) > 1}:
        where = "; ".join(f"rank {rank} on {' and on '.join(hosts)}" for rank, hosts in twice.items())
        return "failure", f"ranks are there twice: {where}. Give each node its own --node-rank."
    if missing := {*range(size)} - {*map(int, came)}:
        return "failure", (
            f"of {size} ranks {len(came)} came: {ranks(missing)} did not, for {MEET_WITHIN:.0f} s. See what "
            "the log of that node says, and whether it reaches this one."
        )
    if promised not in (None, size):
        return "failure", f"{promised} ranks were promised (--world-size) and {size} started."
    by_host: dict[str, list[int]] = {}
    for rank, (host,) in came.items():
        by_host.setdefault(host, []).append(int(rank))
    where = "; ".join(f"{ranks(numbers)} on {host}" for host, numbers in by_host.items())
    return "fine", where if size > 1 else f"one process on {told[0].host}"


def look_at_device(examined: Examined) -> dict:
    """That of this rank, as accelerate chooses it: a scheduler may show each rank one GPU alone."""
    count = torch.cuda.device_count()
    if not count:
        return {"gpu": None}
    properties = torch.cuda.get_device_properties(local_rank() % count)
    return {"gpu": f"GPU-{properties.uuid}", "name": properties.name}


def judge_devices(told: Sequence[Told]) -> tuple[State, str]:
    without = [each for each in told if each.facts["gpu"] is None]
    if len(without) == len(told):
        return "fine", f"CPUs; torch {torch.__version__} finds no GPU"
    if without:
        found = ranks(each.rank for each in without)
        return "failure", f"no GPU is there for {found}, but for the others: see the driver of that node."
    sharing: dict[str, list[int]] = {}
    for each in told:
        sharing.setdefault(each.facts["gpu"], []).append(each.rank)
    if shared := {gpu: numbers for gpu, numbers in sharing.items() if len(numbers) > 1}:
        what = "; ".join(f"{ranks(numbers)} share {gpu}" for gpu, numbers in shared.items())
        return "failure", f"{what}. Start one rank for each GPU that CUDA_VISIBLE_DEVICES lets them see."
    if names := differences(told, "name"):
        return "warning", f"the GPUs differ, and the slowest sets the pace: {names}."
    return "fine", f"{len(told)} × {told[0].facts['name']}"


def look_at_software(examined: Examined) -> dict:
    found = {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    if torch.cuda.is_available():
        found |= {"cuda": str(torch.version.cuda), "nccl": ".".join(map(str, nccl.version()))}
        with suppress(OSError):
            found["driver"] = DRIVER.read_text().strip()
    return found


def judge_software(told: Sequence[Told]) -> tuple[State, str]:
    names = dict.fromkeys(name for each in told for name in each.facts)
    differing = {name: found for name in names if (found := differences(told, name))}
    if not differing:
        return "fine", ", ".join(f"{name} {value}" for name, value in told[0].facts.items())
    state: State = "failure" if differing.keys() - {*MAY_DIFFER} else "warning"
    return state, "; ".join(f"{name} {found}" for name, found in differing.items()) + ". Install the same."


def look_at_code(examined: Examined) -> dict:
    return {"code": code_digest()[:DIGITS]}


def judge_code(told: Sequence[Told]) -> tuple[State, str]:
    if found := differences(told, "code"):
        return "failure", f"ranks run other code of EmojiGAN: {found}. Install the same."
    return "fine", f"the same code ({told[0].facts['code']})"


def look_at_dataset(examined: Examined) -> dict:
    inputs = examined.read()
    config, _ = examined.known()
    return {
        "words": shared_words(config),
        "dataset": inputs.dataset[:DIGITS],
        "vectors": inputs.vectors_hash[:DIGITS],
        "units": inputs.train.num_units,
        "emojis": len(inputs.vocabulary),
    }


def judge_dataset(told: Sequence[Told]) -> tuple[State, str]:
    for key, what in (("dataset", "another manifest"), ("vectors", "other vectors")):
        if found := differences(told, key):
            return "failure", f"some ranks see {what}: {found}. Make the copies equal."
    words = [Told(each.rank, each.host, each.facts["words"]) for each in told]
    for option in sorted({option for each in words for option in each.facts}):
        if found := differences(words, option):
            return (
                "failure",
                f"ranks are not started alike: {option} {found}. Start all with the same.",
            )
    facts = told[0].facts
    return "fine", f"{facts['units']:,} to train on, {facts['emojis']:,} emojis (manifest {facts['dataset']})"


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
