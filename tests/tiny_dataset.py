"""Datasets of tiny images: each tells its number, below 256, and that its emojis."""

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
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
    first, shards = 0, []
    for size in sizes:
        shards.append([emojis_of(image) for image in range(first, first + size)])
        first += size
    return write_shards(folder, shards, EMOJIS, encoding)


def write_reactions(folder: Path, reactions: Sequence[Sequence[str]], vocabulary: str) -> Split:
    """One shard of images with these emojis each, in batches of reactions."""
    return replace(write_shards(folder, [reactions], vocabulary), unit="reaction")


def write_shards(
    folder: Path, shards: Sequence[Sequence[Sequence[str]]], vocabulary: str, encoding: str = "npy"
) -> Split:
    """A dataset of the emojis of each image of each shard, all in train."""
    folder.mkdir(parents=True, exist_ok=True)
    entries, first = [], 0
    for number, emojis in enumerate(shards):
        name = f"{number:06d}.tar"
        (folder / name).write_bytes(tar(emojis, encoding, first))
        index = index_shard(folder / name)
        rows, content = index.to_bytes(), (folder / name).read_bytes()
        (folder / index_name(name)).write_bytes(rows)
        known = sum(emoji in vocabulary for each in emojis for emoji in each)
        entries.append(
            ShardEntry(
                name=name,
                index=index_name(name),
                split="train",
                images=len(emojis),
                tuples=known,
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                index_sha256=hashlib.sha256(rows).hexdigest(),
                outside=len(index.image) - known,
                reactions=index.reaction_sizes,
            )
        )
        first += len(emojis)
    manifest = Manifest(SIZE, encoding, "tiny", {}, dict.fromkeys(vocabulary, 1), {}, {}, tuple(entries))
    write_manifest(manifest, LocalFolder(folder))
    return Split(LocalFolder(folder), manifest, "train")


def tar(emojis: Sequence[Sequence[str]], encoding: str, first: int = 0) -> bytes:
    """A shard as the builder writes it, of images that are numbered from `first` on."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as file:
        for number, each in enumerate(emojis):
            pixels = np.full((SIZE, SIZE, 3), (first + number) % 256, np.uint8)  # grey: JPEG keeps it exactly
            label = Label(f"p{first + number}", "a", tuple(each))
            add_sample(file, f"{number:06d}", label, encoding, ENCODERS[encoding](pixels))
    return buffer.getvalue()
