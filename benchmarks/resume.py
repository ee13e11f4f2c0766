"""Where a reader starts costs nothing, and ten million tuples need little memory.

Prints JSON lines: seconds from nothing to the first batch at 0 % and at 90 % of an epoch, each in a process
of its own in turn, and the memory of a reader process beyond the mapped files, for the default window and for
a window of all shards. The tars are sparse files of zeros: as long as real ones, and read like them.
"""

import hashlib
import json
import subprocess
import sys
import zlib
from itertools import islice
from pathlib import Path
from time import perf_counter

import click
import numpy as np

from emojigan.datasets.shards.index import Index
from emojigan.datasets.shards.manifest import Manifest, ShardEntry, read_manifest, write_manifest
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.stream.split import Split
from emojigan.datasets.stream.stream import batches_per_epoch, stream

TUPLES, PER_SHARD, SIZE, STRIDE, BATCH = 10_000_000, 1024, 64, 13_824, 256
EMOJIS = [chr(0x1F600 + number) for number in range(64)]


def make(folder: Path) -> None:
    """A dataset of ten million tuples whose shards are all the same."""
    if (folder / "manifest.json").exists():
        return
    (folder / "train").mkdir(parents=True, exist_ok=True)
    member = 128 + 3 * SIZE**2
    rows = np.arange(PER_SHARD)
    index = Index(
        keys=tuple(f"{row:06d}" for row in rows),
        extensions=("npy",) * PER_SHARD,
        posts=tuple(f"some-platform/{row:016d}" for row in rows),
        accounts=tuple(f"{row:032x}" for row in rows),
        emojis=tuple(EMOJIS),
        offset=1024 + STRIDE * rows,
        length=np.full(PER_SHARD, member),
        crc32=np.full(PER_SHARD, zlib.crc32(bytes(member)), np.uint32),
        image=rows.astype(np.int32),
        emoji=(rows % len(EMOJIS)).astype(np.int32),
        post=rows.astype(np.int32),
    ).to_bytes()
    digest, size = hashlib.sha256(index).hexdigest(), STRIDE * PER_SHARD + 10_240
    shards = []
    for number in range(-(-TUPLES // PER_SHARD)):
        name = f"train/{number:06d}"
        with open(folder / f"{name}.tar", "wb") as file:
            file.truncate(size)
        (folder / f"{name}.index").write_bytes(index)
        shards.append(
            ShardEntry(f"{name}.tar", f"{name}.index", "train", PER_SHARD, PER_SHARD, size, "0" * 64, digest)
        )
    manifest = Manifest(SIZE, "npy", "benchmark", {}, dict.fromkeys(EMOJIS, 1), {}, {}, tuple(shards))
    write_manifest(manifest, LocalFolder(folder))


def first_batch(folder: Path, share: float) -> float:
    """Seconds from opening the dataset to the first batch."""
    begin = perf_counter()
    split = Split(LocalFolder(folder), read_manifest(LocalFolder(folder)), "train")
    start = int(share * batches_per_epoch(split, BATCH))
    batches = stream(split, seed=0, window=64, batch_size=BATCH, start=start)
    next(batches)
    return perf_counter() - begin


def memory(folder: Path, window: int, batches: int) -> float:
    """MiB that a process holds beyond the mapped files, after it has read so many batches."""
    split = Split(LocalFolder(folder), read_manifest(LocalFolder(folder)), "train")
    for _ in islice(stream(split, seed=0, window=window, batch_size=BATCH, start=0), batches):
        pass
    status = Path("/proc/self/status").read_text().splitlines()
    (anonymous,) = (line for line in status if line.startswith("RssAnon"))
    return int(anonymous.split()[1]) / 1024


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("bench_index"), show_default=True)
@click.option("--rounds", type=click.IntRange(min=3), default=5, show_default=True)
@click.option("--run", "inner", hidden=True, help="An expression to print, in this process.")
def main(data: Path, rounds: int, inner: str | None) -> None:
    """Measure the first batch and the memory."""
    if inner:
        click.echo(eval(inner))
        return
    make(data)

    def run(expression: str) -> float:
        command = [sys.executable, __file__, "--data", str(data), "--run", expression]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    times = {0.0: [], 0.9: []}
    for _ in range(rounds):
        for share, each in times.items():
            each.append(run(f"first_batch(data, {share})"))
    zero, ninety = (float(np.median(each)) for each in times.values())
    row = {"name": "first batch", "at_0_percent_s": round(zero, 3), "at_90_percent_s": round(ninety, 3)}
    click.echo(
        json.dumps(
            row
            | {
                "ratio": round(ninety / zero, 2),
                "goal": "< 1 s and < 2",
                "met": ninety < 1 and ninety < 2 * zero,
            }
        )
    )
    for name, window, batches in (("default window", 64, 2000), ("window of all shards", 10**6, 100)):
        held = run(f"memory(data, {window}, {batches})")
        click.echo(
            json.dumps({"name": f"memory, {name}", "mib": round(held), "goal": "< 1024", "met": held < 1024})
        )


if __name__ == "__main__":
    main()
