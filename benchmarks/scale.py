"""What very many ranks would need for very many tuples: python benchmarks/scale.py.

The order, the manifest and the start of a training are our own code, on manifests of datasets that are not
there; no image is read. Prints a JSON line for each size of shards: seconds and MiB of one rank before its
first batch, what its windows take, and what a node opens and fetches in an epoch, with one lane and with a
lane for each node. Where there are more shards than --most-shards, so many are made, and what grows with them
is multiplied.
"""

import hashlib
import json
import multiprocessing
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import click
import numpy as np

from emojigan.datasets.shards.layout import index_name, tar_name
from emojigan.datasets.shards.manifest import MOST, Manifest, ShardEntry, read_manifest, write_manifest
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.stream.order import Order
from emojigan.datasets.stream.split import Split
from emojigan.trainer.run import Origin

TUPLES_PER_IMAGE = 2
BYTES = {"npy": 64 * 64 * 3 + 1024 + 512, "jpg": 4096 + 512 + 512}  # of an image in a tar, with its label
VOCABULARY = 1500
OPEN = 2  # windows that a rank has open at a time, besides the next one


def manifest_of(shards: int, images: int, encoding: str) -> Manifest:
    """A dataset that is not there: shards of so many images, give or take a few tuples."""
    tuples = (
        np.random.default_rng(0).normal(TUPLES_PER_IMAGE * images, images**0.5, shards).astype(int).tolist()
    )
    digest = hashlib.sha256(b"").hexdigest()
    entries = tuple(
        ShardEntry(
            name=tar_name("train", number),
            index=index_name(tar_name("train", number)),
            split="train",
            images=images,
            tuples=each,
            bytes=images * BYTES[encoding],
            sha256=digest,
            index_sha256=digest,
            outside=0,
            reactions=(images, *[0] * (MOST - 1)),
        )
        for number, each in enumerate(tuples)
    )
    vocabulary = {chr(0x1F300 + number): 10**6 for number in range(VOCABULARY)}
    return Manifest(64, encoding, "scale", {}, vocabulary, {}, {}, entries)


@contextmanager
def timed(found: dict[str, float], name: str) -> Iterator[None]:
    """Note seconds of CPU time, and by how much the most memory of this process has grown, in MiB."""
    before, start = peak(), time.process_time()
    yield
    found[f"{name}_s"] = time.process_time() - start
    found[f"{name}_mib"] = peak() - before


def peak() -> float:
    """The most memory that this process ever had, in MiB."""
    (kib,) = re.findall(r"^VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kib) / 1024


def of_shards(folder: Path, window: int) -> dict[str, float]:
    """What grows with the number of shards, of one rank: to be called in a process of its own."""
    found: dict[str, float] = {}
    with timed(found, "read_manifest"):
        manifest = read_manifest(LocalFolder(folder))
    with timed(found, "identity"):
        Origin.of(manifest)
    split = Split(LocalFolder(folder), manifest, "train")
    with timed(found, "order"):
        order = Order(0, split.sizes, window)
        order.lane(0, 0)
    with timed(found, "check"):  # of a disk: a look at each file
        for shard in split.shards:
            for name in (shard.name, shard.index):
                split.folder.size(name)
    return found


def of_window(shards: int, images: int, window: int) -> dict[str, float]:
    """What a window takes."""
    found: dict[str, float] = {}
    lane = Order(0, (TUPLES_PER_IMAGE * images,) * min(shards, window), window).lane(0, 0)
    with timed(found, "window"):
        lane.open(0)
    return found


def of_node(order: Order, nodes: int, batch_size: int) -> float:
    """Of the shards of an epoch, the share that one node opens; of one lane, of its first windows."""
    if order.lanes == nodes:
        return len(np.unique(order.lane(0, 1).pieces[:, 0])) / len(order.sizes)
    lane, part = order.lane(0, 0), batch_size // nodes
    opened = lru_cache(2)(lane.open)
    seen: set[tuple[int, int]] = set()
    batches = -(-lane.first[1] // batch_size)  # in which the first window is read
    end = min(batches * batch_size, lane.first[-1])
    for start in range(part, end - part + 1, batch_size):
        for number in lane.windows(start, start + part):
            window = opened(number)
            rows = window.permutation[max(start - window.first, 0) : start + part - window.first]
            ends = np.cumsum(window.pieces[:, 2] - window.pieces[:, 1])
            seen |= {(number, shard) for shard in np.searchsorted(ends, rows, "right").tolist()}
    return len(seen) / sum(len(opened(number).pieces) for number in lane.windows(0, end))


@click.command()
@click.option("--tuples", default=10**10, help="In the train split.")
@click.option("--ranks", default=1024)
@click.option("--nodes", default=128)
@click.option("--batch-per-rank", default=256)
@click.option("--window", default=64, help="Shards whose tuples are mixed.")
@click.option("--encoding", type=click.Choice([*BYTES]), default="npy")
@click.option("--most-shards", default=50_000, help="Entries of a manifest that is made.")
def main(
    tuples: int, ranks: int, nodes: int, batch_per_rank: int, window: int, encoding: str, most_shards: int
) -> None:
    """Print a JSON line for each size of shards."""
    for images in (1024, 10_240, 102_400):
        shards = max(tuples // TUPLES_PER_IMAGE // images, 1)
        made = min(shards, most_shards)
        factor = shards / made
        with (
            tempfile.TemporaryDirectory() as folder,
            multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool,
        ):
            manifest = manifest_of(made, images, encoding)
            write_manifest(manifest, LocalFolder(Path(folder)))
            size = (Path(folder) / "manifest.json").stat().st_size
            found = pool.apply(of_shards, (Path(folder), window))
            of_one = pool.apply(of_window, (shards, images, window))
        line: dict[str, float] = {"images_per_shard": images, "shards": shards, "made": made}
        line |= {"tar_mib": images * BYTES[encoding] / 2**20, "manifest_mib": size * factor / 2**20}
        line |= {name: value * factor for name, value in found.items()}
        line |= of_one
        sizes = tuple(entry.tuples for entry in manifest.shards)
        for lanes in (1, nodes):
            share = of_node(Order(0, sizes, window, lanes), nodes, batch_per_rank * ranks)
            line[f"files_of_node_{lanes}_lanes"] = round(2 * share * shards)
            line[f"tib_of_node_{lanes}_lanes"] = share * shards * images * BYTES[encoding] / 2**40
        line["windows_open_gib_of_node"] = (OPEN + 1) * window * images * BYTES[encoding] / 2**30
        rounded = {
            name: value if isinstance(value, int) else float(f"{value:.3g}") for name, value in line.items()
        }
        print(json.dumps(rounded), flush=True)


if __name__ == "__main__":
    main()
