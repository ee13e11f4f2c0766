"""The stream beside its peers, over the same images: python benchmarks/stream.py [--data FOLDER].

Prints a JSON line for each contestant: median microseconds of CPU time an image, over rounds in which all
take their turn, and the ratio of each goal. One thread each, from the page cache; a round is one epoch.
`pip install -e ".[bench]"` brings the peers; one that is not installed is said to be missing.
"""

import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import click
import numpy as np
import simplejpeg
import torch
import webdataset
from data import SIZE, make_datasets

from emojigan.datasets.shards.manifest import read_manifest
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.stream.split import Split
from emojigan.datasets.stream.stream import batches_per_epoch, stream

BATCH = 256
SLOW = 8  # batches of a slow peer's round
FAST = 10  # epochs of a fast one's: one of them takes milliseconds
Round = Callable[[], Iterable]  # the batches of images of one round


def ours(folder: Path) -> Round:
    split = Split(LocalFolder(folder), read_manifest(LocalFolder(folder)), "train")
    batches = stream(split, seed=0, window=64, batch_size=BATCH, start=0, helpers=0, max_quarantined=0.2)
    number = batches_per_epoch(split, BATCH)
    return lambda: (batch.images for batch in islice(batches, number))


def often(read: Round) -> Round:
    """A round of many epochs."""
    return lambda: (batch for _ in range(FAST) for batch in read())


def stock(shards: list[str], image: str, decode: str | None = "rgb8") -> Round:
    """Stock WebDataset: pixels and emojis in batches of tensors."""

    def collate(samples: list) -> tuple[torch.Tensor, list]:
        images, labels = zip(*samples, strict=True)
        return torch.from_numpy(np.stack(images)), [label["emojis"] for label in labels]

    dataset = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False)
    if decode:
        dataset = dataset.decode(decode).to_tuple(image, "json")
    else:
        dataset = dataset.map(
            lambda s: (simplejpeg.decode_jpeg(s["jpg"]), json.loads(s["json"]))  # the fastest decoder of all
        )
    batches = dataset.batched(BATCH, collation_fn=collate)
    return lambda: (images for images, _ in islice(batches, SLOW))


def memory_map(path: Path) -> Round:
    """The pixels alone, from first to last: as fast as memory is."""
    pixels = np.memmap(path, np.uint8, mode="r").reshape(-1, SIZE, SIZE, 3)

    def read() -> Iterable[torch.Tensor]:
        for start in range(0, len(pixels), BATCH):
            yield torch.from_numpy(np.array(pixels[start : start + BATCH])).permute(0, 3, 1, 2)

    return read


def spdl(shards: list[str]) -> Round:
    """SPDL's tar reader in C++, and simplejpeg; pixels alone."""
    from spdl.io import iter_tarfile

    def images() -> Iterable[bytes]:
        for shard in shards:
            for name, content in iter_tarfile(Path(shard).read_bytes()):
                if name.endswith(".jpg"):
                    yield content

    def read() -> Iterable[torch.Tensor]:
        members = iter(images())
        while chosen := list(islice(members, BATCH)):
            pixels = np.empty((len(chosen), SIZE, SIZE, 3), np.uint8)
            for content, out in zip(chosen, pixels, strict=True):
                simplejpeg.decode_jpeg(content, buffer=out)
            yield torch.from_numpy(pixels).permute(0, 3, 1, 2)

    return read


def dali(shards: list[str]) -> Round:
    """NVIDIA's DALI on the CPU: its tar reader and its decoder; pixels alone."""
    from nvidia.dali import fn, pipeline_def, types  # pyright: ignore[reportMissingImports]

    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None)  # pyright: ignore[reportCallIssue]
    def pipeline():
        content = fn.readers.webdataset(paths=shards, ext=["jpg"], name="reader")
        return fn.decoders.image(content, device="cpu", output_type=types.RGB)

    built = pipeline()
    built.build()
    total = built.reader_meta("reader")["epoch_size"]

    def read() -> Iterable[torch.Tensor]:
        for _ in range(total // BATCH):
            yield torch.from_numpy(built.run()[0].as_array()).permute(0, 3, 1, 2)

    return read


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("bench_data"), show_default=True)
@click.option("--images", type=click.IntRange(min=2048), default=10_240, show_default=True)
@click.option("--rounds", type=click.IntRange(min=3), default=7, show_default=True)
def main(data: Path, images: int, rounds: int) -> None:
    """Measure the stream and its peers."""
    torch.set_num_threads(1)
    make_datasets(data, images)
    raw, jpg = (
        [str(path) for path in sorted((data / kind / "train").glob("*.tar"))] for kind in ("npy", "jpg")
    )
    default = [str(path) for path in sorted((data / "jpg-default").glob("*.tar"))]
    contestants: dict[str, Round] = {
        "raw": often(ours(data / "npy")),
        "raw, 10 % bad": often(ours(data / "npy-bad")),
        "raw, memory map": often(memory_map(data / "pixels.bin")),
        "raw, webdataset": stock(raw, "npy"),
        "jpg": ours(data / "jpg"),
        "jpg, 10 % bad": ours(data / "jpg-bad"),
        "jpg, webdataset": stock(default, "jpg"),
        "jpg, webdataset + simplejpeg": stock(jpg, "jpg", None),
    }
    for name, module, make in (("jpg, SPDL", "spdl", spdl), ("jpg, DALI", "nvidia.dali", dali)):
        if importlib.util.find_spec(module.split(".")[0]) and importlib.util.find_spec(module):
            contestants[name] = make(jpg)
        else:
            click.echo(json.dumps({"name": name, "missing": f"{module} is not installed"}))
    first = {name: cost(read) for name, read in contestants.items()}  # ours checks every image then, once
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, read in contestants.items():
            times[name].append(cost(read))
    median = {name: float(np.median(each)) for name, each in times.items()}
    for name, each in times.items():
        row = {"name": name, "us_per_image": round(median[name], 3), "best": round(min(each), 3)}
        click.echo(json.dumps(row | {"first_round": round(first[name], 3)}))
    for goal, ours_, peer, at_least in GOALS:
        if peer in median:
            ratio = round(median[peer] / median[ours_], 3)
            click.echo(
                json.dumps({"goal": goal, "ratio": ratio, "at_least": at_least, "met": ratio >= at_least})
            )


GOALS = (
    ("raw against stock webdataset", "raw", "raw, webdataset", 20),
    ("raw against a sequential memory map", "raw", "raw, memory map", 0.6),
    ("raw with 10 % bad samples against none", "raw, 10 % bad", "raw", 0.85),
    ("JPEG against stock webdataset", "jpg", "jpg, webdataset", 6),
    ("JPEG against webdataset + simplejpeg", "jpg", "jpg, webdataset + simplejpeg", 2),
    ("JPEG against SPDL + simplejpeg", "jpg", "jpg, SPDL", 1),
    ("JPEG against DALI", "jpg", "jpg, DALI", 1),
    ("JPEG with 10 % bad samples against none", "jpg, 10 % bad", "jpg", 0.85),
)


def cost(read: Round) -> float:
    """Microseconds of CPU time, of all threads of this process, that an image takes."""
    time.sleep(0.3)  # until the threads of the contestant before, DALI's for example, have come to rest
    start, images, held = time.process_time(), 0, None
    for batch in read():
        images += len(batch)
        held = (
            batch  # as a training does, so that a loader cannot write all batches into one place in the cache
        )
    del held
    return (time.process_time() - start) / images * 1e6


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
