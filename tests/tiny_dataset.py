"""Datasets of tiny images: each tells its number, below 256, and that its emojis."""

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emojigan.datasets.shards.encoding import ENCODERS
from emojigan.datasets.shards.index import Label
from emojigan.datasets.shards.layout import index_name
from emojigan.datasets.shards.manifest import Manifest, ShardEntry, write_manifest
from emojigan.datasets.shards.tar import add_sample, index_shard
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.stream.split import Split

EMOJIS = "😍😂🔥🐶🌊🍕🎉"
SIZE = 4  # pixels


def emojis_of(image: int) -> list[str]:
    """One or two emojis, by the number of the image."""
    return [EMOJIS[image % 7], EMOJIS[(image + 3) % 7]][: 1 + image % 2]


def tuples_of(images: int) -> Counter[tuple[int, int]]:
    """All tuples of a dataset: number of the image, and position of the emoji in the vocabulary."""
    return Counter((image, EMOJIS.index(emoji)) for image in range(images) for emoji in emojis_of(image))


def number_of(pixels: np.ndarray) -> int:
    """The number that an image tells."""
    assert (pixels == pixels[0, 0]).all(), "pixels of several images"
    return int(pixels[0, 0, 0])


def write_dataset(folder: Path, sizes: Sequence[int], encoding: str = "npy") -> Split:
    """A dataset of shards of so many images, all in train."""
    folder.mkdir(parents=True, exist_ok=True)
    shards, first = [], 0
    for number, size in enumerate(sizes):
        name = f"{number:06d}.tar"
        (folder / name).write_bytes(tar(range(first, first + size), encoding))
        rows = index_shard(folder / name).to_bytes()
        (folder / index_name(name)).write_bytes(rows)
        content = (folder / name).read_bytes()
        digest, index_digest = (hashlib.sha256(each).hexdigest() for each in (content, rows))
        tuples = sum(len(emojis_of(image)) for image in range(first, first + size))
        shards.append(
            ShardEntry(
                name=name,
                index=index_name(name),
                split="train",
                images=size,
                tuples=tuples,
                bytes=len(content),
                sha256=digest,
                index_sha256=index_digest,
                outside=0,
                reactions=size,
            )
        )
        first += size
    manifest = Manifest(SIZE, encoding, "tiny", {}, dict.fromkeys(EMOJIS, 1), {}, {}, tuple(shards))
    write_manifest(manifest, LocalFolder(folder))
    return Split(LocalFolder(folder), manifest, "train")


def tar(images: Sequence[int], encoding: str) -> bytes:
    """A shard as the builder writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as file:
        for number, image in enumerate(images):
            pixels = np.full((SIZE, SIZE, 3), image, np.uint8)  # grey: JPEG keeps it exactly
            label = Label(f"p{image}", "a", tuple(emojis_of(image)))
            add_sample(file, f"{number:06d}", label, encoding, ENCODERS[encoding](pixels))
    return buffer.getvalue()
