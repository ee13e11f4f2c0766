"""Where a run finds room: the folder --out, which all ranks share, its disk, and what each machine has."""

import fcntl
import resource
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from ...datasets.store.atomic import telling_where, write_atomic
from ...datasets.store.folder import LocalFolder
from ...datasets.store.lock import LOCK, WRITERS, writing
from ..run import TOKEN
from ..runtime.ranks import comes_to_hold
from .examined import Examined
from .finding import State, Told, ranks
from .meeting import HEAR_WITHIN

FILE, FILES = 8 * 2**20, 3  # bytes of a file that is tried, and how many: a checkpoint's are larger
SLOW = 1.0  # seconds for one
LEAST = 256 * 2**20  # bytes that are free
OURS = "doctor"  # who writes
SHM, SHM_FOLDER = 2**29, Path("/dev/shm")  # bytes: in it NCCL lets the ranks of a node hear each other
OPEN = 1024  # files: shards of some windows, and connections
GPU_SHARE = 0.9  # of a GPU's memory that should be free
GIB = 2**30


@contextmanager
def _probing(run: Path) -> Iterator[Path]:
    """A folder in the run's, which goes afterwards with all that had to be made for it."""
    made = [path for path in (run, *run.parents) if not path.exists()]
    probe = run / f".{OURS}-{secrets.token_hex(4)}"
    try:
        with telling_where(run):
            probe.mkdir(parents=True)
        yield probe
    finally:
        shutil.rmtree(probe, ignore_errors=True)
        for path in made:
            with suppress(OSError):  # a training came into it meanwhile
                path.rmdir()


def look_at_folder(examined: Examined) -> dict:
    """The first rank writes and locks something, and all see whether they find it so at the run's path."""
    meeting, run = examined.meeting, examined.run.absolute()

    def see(name: str, token: str) -> Told:
        seen = comes_to_hold(run / name / TOKEN, token)
        facts = {"seen": seen, "free": _is_free(run / name / LOCK), "place": f"{meeting.host}:{run}"}
        return Told(meeting.rank, meeting.host, facts)

    if not meeting.main:
        name, token = meeting.hear("folder/written", HEAR_WITHIN)
        if name:
            meeting.gather("folder/seen", see(name, token), HEAR_WITHIN)
        return {}
    token = secrets.token_hex()
    try:
        with _probing(run) as probe, writing(LocalFolder(probe), f"emojigan {OURS}"):
            write_atomic(probe / TOKEN, token)
            meeting.tell("folder/written", [probe.name, token])
            found = meeting.gather("folder/seen", see(probe.name, token), 2 * HEAR_WITHIN)
    except OSError:
        meeting.tell("folder/written", ["", ""])
        raise
    places = {str(each.rank): each.facts["place"] for each in found if each.facts}
    unseen = [each.rank for each in found if not each.facts.get("seen")]
    free = [each.rank for each in found if each.facts.get("seen") and each.facts["free"]]
    return {"run": str(examined.run), "places": places, "unseen": unseen, "free": free}


def _is_free(lock: Path) -> bool:
    """Whether this machine can have a lock that another one holds."""
    try:
        with open(lock, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # it is held; or the disk has no locks, and is not trusted with any
        return False
    return True


def judge_folder(told: Sequence[Told]) -> tuple[State, str]:
    facts = told[0].facts
    if unseen := facts["unseen"]:
        where = ", ".join(sorted({facts["places"].get(str(rank), "no answer") for rank in unseen}))
        return "failure", (
            f"{facts['run']} is not one folder for all: what rank 0 writes in {facts['places']['0']} is not "
            f"seen by {ranks(unseen)} in {where}. Put --out where all nodes see it."
        )
    if free := facts["free"]:
        where = ", ".join(sorted({facts["places"][str(rank)] for rank in free}))
        return "warning", (
            f"what rank 0 locks in {facts['run']} is free for {ranks(free)} in {where}: two trainings into "
            "one --out, or two workers at one trial, would not know of each other on different nodes. Mount "
            "the disk with locks for all (Lustre: flock; NFS: without nolock and local_lock)."
        )
    return "fine", f"{facts['run']} is one folder for all"


def look_at_disk(examined: Examined) -> dict:
    """The first rank writes as a checkpoint is written; it alone writes them."""
    if not examined.meeting.main:
        return {}
    content = secrets.token_bytes(FILE)
    with _probing(examined.run) as probe:
        free = shutil.disk_usage(probe).free
        times = []
        for number in range(FILES if free > FILES * FILE else 0):
            began = time.perf_counter()
            write_atomic(probe / str(number), content)
            times.append(time.perf_counter() - began)
        with writing(LocalFolder(probe / "locked"), f"emojigan {OURS}"):
            locks = not (probe / "locked" / WRITERS).exists()
    return {"run": str(examined.run), "seconds": max(times, default=0.0), "locks": locks, "free": free}


def judge_disk(told: Sequence[Told]) -> tuple[State, str]:
    facts = told[0].facts
    if facts["free"] < LEAST:
        return "failure", f"{facts['run']} has {facts['free'] / 2**20:,.0f} MiB free. Free space there."
    wrote = f"a file of {FILE // 2**20} MiB is on its disk in {facts['seconds']:.2g} s"
    if facts["seconds"] > SLOW:
        return "warning", f"{wrote}: checkpoints are waited for. Put --out elsewhere, or save less often."
    if not facts["locks"]:
        return "fine", f"{wrote}; it has no locks, and writers know of each other by signs of life"
    return "fine", f"{wrote}; locks hold"


def look_at_room(examined: Examined) -> dict:
    config, inputs = examined.known()
    cache = Path(config.run.cache).expanduser().absolute()
    place = next(path for path in (cache, *cache.parents) if path.exists())
    there = 0
    for path in cache.glob("*"):
        with suppress(FileNotFoundError):  # a training makes room meanwhile
            there += path.stat().st_size
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
        if facts["files"] < OPEN:
            failures.append(f"{host} allows {facts['files']} open files: ulimit -n {OPEN * 4}")
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
