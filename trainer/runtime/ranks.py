"""The ranks of a training: how they meet, on what, and that they begin alike.

rank, address of the first one ─► meet ─► Accelerator ─► check_same_words, check_one_folder, check_same_start
"""

import hashlib
import os
import secrets
import socket
import sys
import time
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object

from ...datasets.errors import InputError
from ...datasets.store.atomic import write_atomic
from ..config import Config, RunConfig
from ..run import TOKEN
from .together import LONGER

TURN = 1e-4
"""Seconds after which a thread of Python's lets another one have the interpreter. A step hands it over at
each of its many calls, and where a thread delivers metrics or makes batches, gets it back after a turn: with
Python's own 5 ms, 60 small operations took 640 ms beside a busy thread, with this 11 ms, and alone 0.1."""
SEEN_WITHIN = 10.0  # seconds for a network disk to show on one machine what another wrote
NAMED = 3  # places, in a message
TOLD, SHOWN = 300, 40  # characters of what torch says, and of what an option was given
OWN = {"cache", "cache_gib", "helpers", "world_size", "timeout"}  # keys of which each rank may have its own
MEETING = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what a launcher tells a rank
COMPUTING = ("torch", "numpy")  # libraries by which all must compute alike
CODE = Path(__file__).parents[2]  # where the folders of our code lie
SHARED = "Put --out where all nodes see it."


def start(config: Config) -> Accelerator:
    """Join the other ranks, to train as the config says."""
    accelerator = meet(config.run)
    set_up(config, accelerator.num_processes)
    return accelerator


def meet(settings: RunConfig) -> Accelerator:
    """Join the other ranks.

    Raises:
        InputError: there are more or fewer than were promised, or one did not come within the time-out.
    """
    refuse_cpus_for_gpus()
    refuse_no_place_to_meet()
    sys.setswitchinterval(TURN)
    patience = timedelta(minutes=settings.timeout, seconds=LONGER)
    try:
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), kwargs_handlers=[InitProcessGroupKwargs(timeout=patience)]
        )
    except RuntimeError as error:
        if "WORLD_SIZE" not in os.environ:
            raise
        raise InputError(
            f"The {os.environ['WORLD_SIZE']} ranks did not meet: {said_by_torch(error)}. `emojigan doctor`, "
            "with the same words, finds out why."
        ) from error
    ranks, promised = accelerator.num_processes, settings.world_size
    if promised is not None and promised != ranks:
        raise InputError(
            f"{promised} ranks were promised and {ranks} started. Use `accelerate launch --multi_gpu "
            f"--num_processes {promised} --no_python emojigan train …`, or on CPUs `torchrun "
            "--nproc_per_node N --no-python emojigan train …`; with --cpu accelerate starts one."
        )
    return accelerator


def said_by_torch(error: BaseException) -> str:
    """The first line of what torch says when a collective fails, without the stack that it puts behind."""
    return str(error).strip().splitlines()[0].rstrip(".")[:TOLD]


def set_up(config: Config, ranks: int) -> None:
    """Let torch compute here as the config says; refuse what it cannot."""
    check_fit(config, ranks)
    torch.backends.cudnn.allow_tf32 = config.run.precision == "tf32"
    # As it is unless the environment says otherwise, but said: what was compiled is found again by those who
    # said the same alone, and a training says it when it measures its device, the doctor otherwise not.
    torch.backends.cuda.matmul.allow_tf32 = False
    if config.run.deterministic_ranks:
        torch.backends.cudnn.deterministic = True
        torch.set_num_threads(1)  # how many threads there are rounds the sums of a CPU otherwise, too


def check_fit(config: Config, ranks: int) -> None:
    """Refuse batches that so many ranks cannot share, and a precision that this device has not."""
    batch_size, parts, asked = config.data.batch_size, config.run.accumulate, config.run.precision
    logical = config.run.deterministic_ranks or ranks
    if config.run.deterministic_ranks and (
        logical & (logical - 1) or logical % ranks or batch_size % logical or parts > 1
    ):
        raise InputError(
            f"--deterministic-ranks {logical} must be a power of two that {ranks} rank(s) divide and that "
            f"divides --batch-size {batch_size}, without --accumulate."
        )
    if batch_size % (ranks * parts):
        taken = f", in {parts} parts each (--accumulate)" if parts > 1 else ""
        raise InputError(f"--batch-size {batch_size} cannot be shared by {ranks} ranks{taken}.")
    if asked in ("fp16", "tf32") and not torch.cuda.is_available():
        raise InputError(f"--precision {asked} is for GPUs. On a CPU use bf16 or float32.")


def refuse_cpus_for_gpus() -> None:
    """Refuse to train on CPUs where accelerate was told to start ranks on GPUs: it starts them there, too.

    Its launcher of several GPUs says how to compile, as all of its launchers do, but not whether to use CPUs.
    """
    for_gpus = "ACCELERATE_DYNAMO_MODE" in os.environ and "ACCELERATE_USE_CPU" not in os.environ
    if torch.cuda.is_available() or not for_gpus:
        return
    raise InputError(
        f"accelerate was told to start ranks on GPUs (MULTI_GPU), and torch {torch.__version__} finds none "
        "here. To train on CPUs use `torchrun --nproc_per_node N --no-python emojigan train …`, or "
        "`accelerate launch --cpu --num_processes 1 --no_python emojigan train …`."
    )


def refuse_no_place_to_meet() -> None:
    """Refuse one of several ranks that is not told all that it needs to find the others."""
    ranks = os.environ.get("WORLD_SIZE", "1")
    if ranks == "1" or not (missing := [name for name in MEETING if name not in os.environ]):
        return
    raise InputError(
        f"WORLD_SIZE says that there are {ranks} ranks, but not set is {', '.join(missing)}. Start them by "
        "`torchrun` or `accelerate launch`, which set all of it."
    )


def check_same_words(accelerator: Accelerator, config: Config) -> None:
    """Refuse to begin where ranks are to train in different ways: what they add up would mean nothing.

    Each has the words of its node's command line, the files that these name, what its device makes of it, and
    its node's libraries.
    """
    if accelerator.num_processes == 1:
        return
    first, *others = gather_object([{**shared_words(config), **{name: version(name) for name in COMPUTING}}])
    for rank, other in enumerate(others, start=1):
        for option in sorted(first.keys() | other.keys()):
            if first.get(option) != other.get(option):
                one, another = (each.get(option, "unknown")[:SHOWN] for each in (first, other))
                raise InputError(
                    f"The ranks are not started alike: {option} is {one} on rank 0 and {another} on "
                    f"rank {rank}. Start all with the same."
                )


def shared_words(config: Config) -> dict[str, str]:
    """What all ranks must have the same, by the names of options."""
    words = {**config.flat(), "precision": precision_name(config)}
    return {f"--{key.replace('_', '-')}": str(value) for key, value in words.items() if key not in OWN}


def check_one_folder(accelerator: Accelerator, run: Path) -> None:
    """Wait for the first rank, and refuse to begin where another has some other folder at the run's path.

    Each goes on from the checkpoints that it finds there, and the first one alone writes them.
    """
    if accelerator.num_processes == 1:
        return
    main, path, token = accelerator.is_main_process, run.absolute() / TOKEN, secrets.token_hex()
    if main:
        write_atomic(path, token)
    try:
        written, *_ = gather_object([token])
        place = f"{socket.gethostname()}:{path.parent}"
        (_, first), *others = gather_object([(comes_to_hold(path, written), place)])
    finally:
        if main:
            path.unlink(missing_ok=True)
    if unseen := sorted({other for seen, other in others if not seen}):
        places = ", ".join(unseen[:NAMED]) + (", …" if len(unseen) > NAMED else "")
        raise InputError(f"What rank 0 writes in {first} is not seen in {places}. {SHARED}")


def comes_to_hold(path: Path, content: str) -> bool:
    """Whether a file of another machine is there with this content, now or in a little while."""
    deadline = time.monotonic() + SEEN_WITHIN
    while True:
        # NFS looks anew at a folder that is opened; else it may remember that there was no such file in it,
        # or no such folder in the one above.
        for folder in reversed(path.parents):
            with suppress(OSError):
                os.close(os.open(folder, os.O_RDONLY))
        with suppress(OSError):
            if path.read_text(encoding="utf-8") == content:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def check_same_start(accelerator: Accelerator, step: int, dataset: str, vectors: str) -> None:
    """Refuse to begin where ranks found different checkpoints, data or code: they would part ways.

    Args:
        dataset: SHA-256 of the manifest.
        vectors: SHA-256 of the file of vectors.
    """
    if accelerator.num_processes == 1:
        return
    digests = (int(each[:15], 16) for each in (dataset, vectors, code_digest()))
    found = accelerator.gather(torch.tensor([[step, *digests]], device=accelerator.device))
    assert isinstance(found, torch.Tensor)
    steps, *others = (sorted(set(column.tolist())) for column in found.T)
    if len(steps) > 1:
        raise InputError(f"The ranks found checkpoints of steps {steps}. {SHARED}")
    for what, different in zip(("datasets", "vectors", "versions of our code"), others, strict=True):
        if len(different) > 1:
            raise InputError(
                f"The ranks found different {what}: one changed meanwhile, or nodes have copies that differ. "
                "Make the copies equal, and run the same command again."
            )


def code_digest() -> str:
    """The SHA-256 of the code that trains, and of its recipes."""
    digest = hashlib.sha256()
    files = (path for folder in ("datasets", "trainer") for path in (CODE / folder).rglob("*"))
    for path in sorted(path for path in files if path.suffix in (".py", ".yaml")):
        digest.update(f"{path.relative_to(CODE)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def precision(config: Config) -> torch.dtype:
    """That of the trunks: bf16 where the device computes with it, unless told otherwise."""
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return half.get(precision_name(config), torch.float32)  # tf32 is how float32 is multiplied, not a type


def precision_name(config: Config) -> str:
    """What --precision comes to here."""
    if config.run.precision == "auto":
        return "bf16" if _has_bf16() else "float32"
    return config.run.precision


def _has_bf16() -> bool:
    """Whether bf16 is faster here: on GPUs that have it, and on CPUs with AMX or AVX512-BF16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))
