"""What a model says of very many images, in a folder of Parquet files: one for each part of the source.

    source ─► parts that are not there yet, of this share ─► read ─► answer ─► table ─► 000000.parquet
                                                               in workers, or around a GPU

scores/
  _asked.json            of which model, source and options: what the command that began noted
  000000.parquet         of a part; of shards train/000000.parquet

A file appears under its name only when it is whole, so a killed command goes on when it is run again, and any
number of them share the work. The bytes are the same for any number of workers, ranks and tasks on the same
kind of device: each part is computed by itself, on a CPU by one thread.
"""

import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial

import torch
from threadpoolctl import threadpool_limits

from ....datasets.errors import InputError
from ....datasets.shards.layout import MANIFEST, is_hidden
from ....datasets.store.folder import Folder
from ....datasets.work.processes import mapper
from ....datasets.work.progress import progress
from ....datasets.work.threads import ahead
from ...model.snapshot import Snapshot, load_snapshot
from ..load import Found, finding
from ..model import Model
from .answers import Answers, answer, table
from .sources import Images, Part, Source, UnreadablePart

ASKED = "_asked.json"  # what reads a folder of Parquet passes over files whose names begin so
WRITING = 2  # tables that are written while a GPU goes on
SHOWN = 3  # bad images of a part that are named


@dataclass(frozen=True)
class Asked:
    """All that decides what is written: two folders with the same have the same files."""

    snapshot: str  # digest
    source: str  # identity
    samples: int
    seed: int
    top_k: int
    readings: bool
    deny: tuple[str, ...]
    precision: str  # float32 or bf16


@dataclass(frozen=True)
class Share:
    """Which parts a process scores: every `count`-th, from `index` on."""

    index: int = 0
    count: int = 1


WHOLE = Share()


@dataclass(frozen=True)
class Job:
    """What a worker must know."""

    asked: Asked
    model: str  # an address that it opens
    name: str  # of the model
    most_readings: int | None
    device: str
    out: Folder

    def open(self) -> Model:
        """The model, in this process."""
        return _open(self.model, self.asked.snapshot, self.most_readings, self.device)


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
    asked: Asked,
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
    job = Job(asked, model, found.name, found.readings, device, out.absolute())
    _refuse(job, source)
    _begin(job)
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
    asked, model = job.asked, job.open()
    snapshot = model.snapshot
    assert isinstance(snapshot, Snapshot)
    pixels = images.pixels.permute(0, 3, 1, 2)
    with torch.autocast(torch.device(job.device).type, torch.bfloat16, enabled=asked.precision == "bf16"):
        return answer(
            snapshot,
            pixels,
            samples=asked.samples,
            seed=asked.seed,
            top_k=asked.top_k,
            denied=model.denied(asked.deny),
        )


def _write(job: Job, part: Part, images: Images | UnreadablePart, answers: Answers | None) -> Scored:
    if isinstance(images, UnreadablePart) or answers is None:
        return Scored(0, 0, (f"{images}",), False)
    import pyarrow.parquet as pq

    asked, model = job.asked, job.open()
    readings = None
    if asked.readings:
        pixels = [*images.pixels.numpy()]
        readings = (
            model.readings(pixels, top_k=asked.top_k, seed=asked.seed, deny=asked.deny) if pixels else []
        )
    told = table(images, answers, readings, model.vocabulary, _about(job))
    with job.out.creating(_file(part)) as path:
        pq.write_table(told, path, compression="zstd")
    errors = [
        f"{key}: {error}" for key, error in zip(images.keys, told["error"].to_pylist(), strict=True) if error
    ]
    return Scored(len(images.keys), len(errors), tuple(errors[:SHOWN]), True)


def _about(job: Job) -> dict[str, str]:
    """The metadata of each file: emojigan.model, emojigan.snapshot, emojigan.seed, …"""
    content = {"model": job.name, **asdict(job.asked)}
    return {
        f"emojigan.{name}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in content.items()
    }


def _file(part: Part) -> str:
    return f"{part.name}.parquet"


@lru_cache(maxsize=1)
def _open(address: str, digest: str, most_readings: int | None, device: str) -> Model:
    """A model, opened once in each process that works."""
    with finding(address) as found:
        if found.digest != digest:
            raise InputError(f"{address} was changed since it was opened. Run the same command again.")
        return Model(load_snapshot(found.snapshot, device), most_readings)


def _refuse(job: Job, source: Source) -> None:
    """Refuse before the work what would fail in it."""
    model, asked = job.open(), job.asked
    if source.image_size not in (None, model.image_size):
        raise InputError(
            f"The shards have images of {source.image_size} pixels, and the model sees {model.image_size}. "
            f"Build them with --image-size {model.image_size}, or score the photos themselves."
        )
    model.denied(asked.deny)
    if asked.readings:  # of any picture, which tells whether there are some
        black = torch.zeros(model.image_size, model.image_size, 3, dtype=torch.uint8).numpy()
        model.readings([black], top_k=1, deny=asked.deny)


def _begin(job: Job) -> None:
    """Note what is asked, or refuse a folder of which something else was asked."""
    text = json.dumps(asdict(job.asked), ensure_ascii=False, indent=1) + "\n"
    if job.out.size(MANIFEST) is not None:
        raise InputError(f"{job.out} holds a dataset. Choose another --out.")
    if job.out.swap(ASKED, None, text):
        return
    try:
        noted = json.loads(job.out.read(ASKED))
    except ValueError as error:
        raise InputError(f"{job.out}/{ASKED} is damaged. Choose another --out.") from error
    wanted = json.loads(text)
    others = [name for name in wanted if noted.get(name) != wanted[name]]
    if others:
        raise InputError(
            f"{job.out} holds scores of another {' and '.join(others)}. Choose another --out, or remove it "
            "first."
        )
