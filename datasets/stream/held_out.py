"""A split in memory, for evaluation: images with all of their tuples, of rare emojis too."""

from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InputError
from ..shards.encoding import decode
from ..shards.index import ShardError
from .split import Split


@dataclass(frozen=True)
class HeldOut:
    """Images of a split and their tuples."""

    images: torch.Tensor  # uint8 [images, 3, size, size]
    posts: tuple[str, ...]  # [images], the first post of each
    image: np.ndarray  # int64 [tuples], row of the image
    emojis: tuple[str, ...]  # [tuples], canonical
    reaction: np.ndarray  # int64 [tuples], which post's under which image: ascending from 0


def read_split(split: Split, max_images: int) -> HeldOut:
    """Read the first `max_images` images of a split.

    Raises:
        InputError: one of them is damaged: an evaluation must not choose what it looks at.
    """
    size, encoding = split.manifest.image_size, split.manifest.encoding
    pixels: list[np.ndarray] = []
    posts: list[str] = []
    image: list[int] = []
    emojis: list[str] = []
    reaction: list[int] = []
    for number, entry in enumerate(split.shards):
        first = len(posts)
        try:
            shard, index = split.open_shard(number), split.read_index(number)
            for row in range(min(len(index.keys), max_images - first)):
                member, decoded = shard.member(row), np.empty((size, size, 3), np.uint8)
                if not shard.is_right(row) and not split.mend(number, shard, row):
                    raise ShardError(f"checksum of {index.keys[row]} differs")
                decode(member, encoding, decoded)
                pixels.append(decoded)
        except ValueError as error:
            raise InputError(
                f"{split.folder}/{entry.name}: {error}. Copy it again, or build it again."
            ) from error
        posts += index.post_of_image()[: len(pixels) - first]
        rows = np.flatnonzero(index.image < len(pixels) - first)
        image += (index.image[rows].astype(np.int64) + first).tolist()
        emojis += [index.emojis[emoji] for emoji in index.emoji[rows]]
        reaction += (index.reaction[rows] + (reaction[-1] + 1 if reaction else 0)).tolist()
        if len(posts) == max_images:
            break
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    return HeldOut(
        images=images,
        posts=tuple(posts),
        image=np.array(image, np.int64),
        emojis=tuple(emojis),
        reaction=np.array(reaction, np.int64),
    )
