"""Datasets to measure on: crops of photographs, in shards of ours and as the peers' default."""

import hashlib
import io
import shutil
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from emojigan.datasets.shards.encoding import ENCODERS
from emojigan.datasets.shards.index import Label
from emojigan.datasets.shards.layout import index_name
from emojigan.datasets.shards.manifest import Manifest, ShardEntry, write_manifest
from emojigan.datasets.shards.tar import add_sample, index_shard
from emojigan.datasets.store.folder import LocalFolder

SIZE, PER_SHARD = 64, 1024
EMOJIS = "😍😂🔥🐶🌊🍕🎉💔"


def make_datasets(folder: Path, images: int) -> None:
    """Make what is not there yet: npy, jpg, npy-bad, jpg-bad, jpg-default and pixels.bin."""
    import webdataset  # here, for not every benchmark needs it

    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "jpg-default").mkdir(parents=True)
    pixels = crops(images)
    pixels.tofile(folder / "pixels.bin")
    for encoding in ("npy", "jpg"):
        write_dataset(folder / encoding, {"train": pixels}, encoding)
        shutil.copytree(folder / encoding, folder / f"{encoding}-bad")
        harm(folder / f"{encoding}-bad")
    with webdataset.ShardWriter(
        str(folder / "jpg-default/%06d.tar"), maxcount=PER_SHARD, verbose=0
    ) as writer:
        for number, image in enumerate(pixels):
            writer.write(
                {
                    "__key__": f"{number:06d}",
                    "jpg": ENCODERS["jpg"](image),
                    "json": label(number, EMOJIS).to_json(),
                }
            )
    (folder / "done").touch()


def crops(number: int) -> np.ndarray:
    """uint8 [number, 64, 64, 3] of three photographs, in random places, twofold reduced."""
    from skimage import data as photographs

    rng = np.random.default_rng(0)
    sources = [photographs.astronaut(), photographs.coffee(), photographs.chelsea()]
    pixels = np.empty((number, SIZE, SIZE, 3), np.uint8)
    for each in pixels:
        source = sources[rng.integers(3)]
        top, left = (rng.integers(0, side - 2 * SIZE + 1) for side in source.shape[:2])
        box = source[top : top + 2 * SIZE, left : left + 2 * SIZE].astype(np.float32)
        each[:] = box.reshape(SIZE, 2, SIZE, 2, 3).mean(axis=(1, 3)) * rng.uniform(0.7, 1)
    return pixels


def label(number: int, emojis: Sequence[str]) -> Label:
    return Label(f"p{number}", f"{number:032x}", (emojis[number % len(emojis)],))


def write_dataset(
    folder: Path, splits: Mapping[str, np.ndarray], encoding: str, emojis: Sequence[str] = EMOJIS
) -> None:
    """The images of each split as a dataset with one tuple each."""
    shards = []
    for split, pixels in splits.items():
        (folder / split).mkdir(parents=True)
        for first in range(0, len(pixels), PER_SHARD):
            name = f"{split}/{first // PER_SHARD:06d}.tar"
            content = io.BytesIO()  # written at once: the page cache keeps small writes in small pieces
            with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for number in range(first, min(first + PER_SHARD, len(pixels))):
                    image = ENCODERS[encoding](pixels[number])
                    add_sample(tar, f"{number - first:06d}", label(number, emojis), encoding, image)
            (folder / name).write_bytes(content.getvalue())
            index = index_shard(folder / name)
            (folder / index_name(name)).write_bytes(index.to_bytes())
            digest, index_digest = (
                hashlib.sha256(each).hexdigest() for each in (content.getvalue(), index.to_bytes())
            )
            count, size = len(index.keys), len(content.getvalue())
            shards.append(ShardEntry(name, index_name(name), split, count, count, size, digest, index_digest))
    counts = Counter(emojis[number % len(emojis)] for number in range(len(splits["train"])))
    manifest = Manifest(SIZE, encoding, "benchmark", {}, dict(counts), {}, {}, tuple(shards))
    write_manifest(manifest, LocalFolder(folder))


def harm(folder: Path) -> None:
    """Change a byte in each tenth image of a dataset."""
    for shard in sorted(folder.glob("train/*.tar")):
        index = index_shard(shard)
        content = bytearray(shard.read_bytes())
        for row in range(0, len(index.keys), 10):
            content[index.offset[row] + index.length[row] // 2] ^= 255
        shard.write_bytes(content)
