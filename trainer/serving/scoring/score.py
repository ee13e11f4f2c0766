"""What a model says of very many images, in a folder of Parquet files: one for each part of the source.

    source ─► parts that are not there yet, of this share ─► read ─► answer ─► table ─► 000000.parquet
                                                               in workers, or around a GPU

A file appears under its name only when it is whole, so a killed command goes on when it is run again, and any
number of them share the work. The bytes are the same for any number of workers, ranks and tasks on the same
kind of device: each part is computed by itself, on a CPU by one thread.
"""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from threadpoolctl import threadpool_limits

from ....datasets.shards.layout import is_hidden
from ....datasets.store.folder import Folder
from ....datasets.work.processes import mapper
from ....datasets.work.progress import progress
from ....datasets.work.threads import ahead
from ..load import Found
from .answers import Answers, answer, table
from .job import Job, Request
from .sources import Images, Part, Source, UnreadablePart

WRITING = 2  # tables that are written while a GPU goes on
SHOWN = 3  # bad images of a part that are named


@dataclass(frozen=True)
class Share:
    """Which parts a process scores: every `count`-th, from `index` on."""

    index: int = 0
    count: int = 1


WHOLE = Share()


@dataclass(frozen=True)
class Scored:
    """What became of a part."""

    images: int
    bad: int  # images of which the table says only why
    told: tuple[str, ...]  # the first of these, for people; or why the part is not there
    is_there: bool


@dataclass(frozen=True)
class Done:
    """What became of all parts of a share."""

    parts: int  # that were scored now
    images: int
    bad: int
    unreadable: int  # parts of which nothing could be read: they have no file
    skipped: int  # parts that were there already
    to_come: int  # parts of the whole source that are not there yet
    seconds: float


def score(
    source: Source,
    found: Found,
    request: Request,
    out: Folder,
    *,
    workers: int,
    engine: str = "local",
    share: Share = WHOLE,
    device: str = "cpu",
    shown: bool = True,
) -> Iterator[Scored | Done]:
    """Score a share of the parts of a source that are not there yet; yield what became of each, and of all.

    Args:
        found: the model; with Ray every machine opens it by its name.
        workers, engine: who does the work, see `mapper`; on a GPU so many threads read, and the engine is
            local.
        shown: whether to show the progress.

    Raises:
        InputError: the model cannot be asked this, or sees images of another size, or the folder has other
            scores.
    """
    model = found.name if engine == "ray" else str(found.snapshot)
    device = "cpu" if found.is_exported else device
    job = Job(request, model, found.name, found.readings, device, out.absolute())
    job.begin(source)
    begun, names = time.monotonic(), {*out.names()}
    own = source.parts[share.index :: share.count]
    left = [part for part in own if _file(part) not in names]
    images = bad = unreadable = 0
    with progress(sum(part.images for part in left), "scoring", "images", shown=shown and bool(left)) as bar:
        for part, scored in zip(left, _run(job, left, workers, engine), strict=True):
            bar.update(part.images)
            images += scored.images
            bad += scored.bad
            unreadable += not scored.is_there
            yield scored
    names = {*out.names()}
    to_come = sum(_file(part) not in names for part in source.parts)
    if not to_come:
        for name in filter(is_hidden, names):  # what killed ones left
            out.remove(name)
    yield Done(
        parts=len(left),
        images=images,
        bad=bad,
        unreadable=unreadable,
        skipped=len(own) - len(left),
        to_come=to_come,
        seconds=time.monotonic() - begun,
    )


def _run(job: Job, parts: list[Part], workers: int, engine: str) -> Iterator[Scored]:
    if job.device != "cpu":
        yield from _beside_gpu(job, parts, workers)
        return
    with mapper(engine, min(workers, max(len(parts), 1))) as run:
        yield from run(partial(_score_part, job), parts)


def _score_part(job: Job, part: Part) -> Scored:
    """One part, on one thread of a CPU: sums of more are rounded otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            images = _read(job, part)
            return _write(job, part, images, _answer(job, images))
    finally:
        torch.set_num_threads(threads)


def _beside_gpu(job: Job, parts: Iterable[Part], threads: int) -> Iterator[Scored]:
    """Some parts are read ahead, and tables written, while the device computes."""

    def read(part: Part) -> tuple[Part, Images | UnreadablePart]:
        return part, _read(job, part)

    def write(answered: tuple[Part, Images | UnreadablePart, Answers | None]) -> Scored:
        return _write(job, *answered)

    with ThreadPoolExecutor(threads, "read") as readers, ThreadPoolExecutor(WRITING, "write") as writers:
        answered = (
            (part, images, _answer(job, images)) for part, images in ahead(readers, read, parts, threads + 1)
        )
        yield from ahead(writers, write, answered, WRITING + 1)


def _read(job: Job, part: Part) -> Images | UnreadablePart:
    size = job.open().image_size
    try:
        images = part.read(size)
    except UnreadablePart as error:
        return error
    if job.device == "cpu":
        return images
    return Images(images.keys, images.posts, images.pixels.pin_memory(), images.bad)


def _answer(job: Job, images: Images | UnreadablePart) -> Answers | None:
    """Of a GPU, its work is begun."""
    if isinstance(images, UnreadablePart):
        return None
    request, model = job.request, job.open()
    pixels = images.pixels.permute(0, 3, 1, 2)
    with torch.autocast(torch.device(job.device).type, torch.bfloat16, enabled=request.precision == "bf16"):
        return answer(
            model.snapshot,
            pixels,
            samples=request.samples,
            seed=request.seed,
            top_k=request.top_k,
            denied=model.denied(request.deny),
        )


def _write(job: Job, part: Part, images: Images | UnreadablePart, answers: Answers | None) -> Scored:
    if isinstance(images, UnreadablePart) or answers is None:
        return Scored(0, 0, (f"{images}",), False)
    import pyarrow.parquet as pq

    request, model = job.request, job.open()
    readings = None
    if request.readings:
        pixels = [*images.pixels.numpy()]
        alike = {"top_k": request.top_k, "seed": request.seed, "deny": request.deny}
        readings = model.readings(pixels, **alike) if pixels else []
    told = table(images, answers, readings, model.vocabulary, job.about)
    with job.out.creating(_file(part)) as path:
        pq.write_table(told, path, compression="zstd")
    errors = [
        f"{key}: {error}" for key, error in zip(images.keys, told["error"].to_pylist(), strict=True) if error
    ]
    return Scored(len(images.keys), len(errors), tuple(errors[:SHOWN]), True)


def _file(part: Part) -> str:
    return f"{part.name}.parquet"
