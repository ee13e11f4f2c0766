"""What is in a tar that is adopted: images, who posted them with which emojis, and what cannot be used.

    tar ─► read_adopted ─► samples of each split; posts, rejects and kinds of images, counted

Ours are known by their first label, and keep the split of their folder; of others, images are looked at once.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import simplejpeg
from zlib_ng import zlib_ng

from ..build.labels import emojis_of, hash64, hash_account, splits_of, why_without
from ..build.options import BuildOptions
from ..errors import InputError
from ..images.read import ImageError, load_image, read_image
from ..posts.formats.webdataset import TarSlice, read_tar
from ..posts.outcomes import BAD_IMAGE, BROKEN_FILES, LEFT_OUT, OTHER_SPLIT, USED
from ..posts.post import ImageSource, Post, Reject
from ..shards.encoding import check_picture
from ..shards.index import ImageSpan, Label
from ..shards.layout import (
    SPLITS,
    split_of,
)
from ..shards.tar import map_tar, read_sample, read_samples

Sample = tuple[ImageSpan, Label]


@dataclass
class TarContents:
    """What is in a tar."""

    samples: dict[str, list[Sample]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    kinds: set[str] = field(default_factory=set)  # npy, jpg, or foreign where only read_image can tell
    posts: Counter[str] = field(default_factory=Counter)  # by what became of them
    left_out: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)


def read_adopted(path: Path, name: str, options: BuildOptions) -> TarContents:
    """Read the tar that is called `name` in its dataset.

    Raises:
        InputError: it is ours, and damaged, or of another image size.
    """
    found = TarContents()
    content = map_tar(path)
    samples = _read_ours if is_ours(content) else _read_foreign
    split = split_of(name)
    for span, labels in samples(content, path, name, options, found):
        splits = [split or _split_of_label(label, options) for label in labels]
        first, *others = (label for label, each in zip(labels, splits, strict=True) if each == splits[0])
        found.samples[splits[0]].append((span, replace(first, reposts=tuple(others))))
        found.left_out[OTHER_SPLIT] += len(splits) - splits.count(splits[0])
    return found


def is_ours(content: np.ndarray) -> bool:
    """Whether a tar begins as ours do, with an account that is hashed already."""
    try:
        _, label = read_sample(content, 0)
    except ValueError:
        return False
    return re.fullmatch("[0-9a-f]{32}", label.account) is not None


def _read_ours(
    content: np.ndarray, path: Path, name: str, options: BuildOptions, found: TarContents
) -> Iterator[tuple[ImageSpan, list[Label]]]:
    posts = set()
    try:
        for span, label in read_samples(content):
            image = content[span.offset : span.offset + span.length]
            found.kinds.add(span.extension)
            check_picture(image, span.extension, options.image_size)
            labels = [replace(label, reposts=()), *label.reposts]
            posts |= {each.post for each in labels}
            yield span, labels
    except ValueError as error:
        raise InputError(
            f"{name} is a shard of ours, and cannot be used: {error}. Copy it again, or give the "
            "--image-size that it was built with."
        ) from error
    found.posts.update({"read": len(posts), USED: len(posts)})


def _read_foreign(
    content: np.ndarray, path: Path, name: str, options: BuildOptions, found: TarContents
) -> Iterator[tuple[ImageSpan, list[Label]]]:
    """Each image with the labels of its posts; there are several where a tar has our labels, with reposts."""
    for key, entries in groupby(read_tar(path, name, name.removesuffix(".tar")), key=itemgetter(0)):
        images: dict[ImageSource, list[Label]] = {}
        for _, entry in entries:
            if isinstance(entry, Reject) and entry.reason in BROKEN_FILES:
                found.left_out[entry.reason] += 1
                found.rejects.append(replace(entry, file=name))
                continue
            outcome = _label_images(entry, options, found, images)
            found.posts.update(["read", outcome])
            if outcome not in (USED, *LEFT_OUT):
                where = entry.where if isinstance(entry, Reject) else f"post {entry.id}"
                found.rejects.append(Reject(where, outcome))
        for image, labels in images.items():
            assert isinstance(image, TarSlice)
            member = content[image.offset : image.offset + image.length]
            yield ImageSpan(key, "", image.offset, image.length, zlib_ng.crc32(member)), labels


def _label_images(
    entry: Post | Reject, options: BuildOptions, found: TarContents, images: dict[ImageSource, list[Label]]
) -> str:
    """Add the label of a post to each of its images that can be read; return what became of the post."""
    if isinstance(entry, Reject):
        return entry.reason
    emojis = emojis_of(entry, options)
    if not emojis:
        return why_without(entry, options)
    label = Label(entry.id, hash_account(entry), tuple(emojis))
    bad = []
    for image in entry.images:
        try:
            if image not in images:
                found.kinds.add(_kind(load_image(image), options.image_size))
                images[image] = []
            images[image].append(label)
        except ImageError as error:
            bad.append(str(error))
    if len(bad) == len(entry.images):
        return bad[0]
    found.left_out[BAD_IMAGE] += len(bad)
    return USED


def _kind(image: bytes, size: int) -> str:
    """jpg if a plain decoder gives what read_image gives, else foreign. Raises ImageError."""
    pixels = read_image(image, size)
    member, plain = np.frombuffer(image, np.uint8), np.empty_like(pixels)
    try:
        check_picture(member, "jpg", size)
        simplejpeg.decode_jpeg(member, buffer=plain)
    except ValueError:
        return "foreign"
    return "jpg" if np.array_equal(plain, pixels) else "foreign"


def _split_of_label(label: Label, options: BuildOptions) -> str:
    position = hash64(label.post if split_by_of(options) == "post" else label.account)
    return SPLITS[splits_of(np.array([position], np.uint64), options)[0]]


def split_by_of(options: BuildOptions) -> str:
    """What is dealt: each tar is read alone, so that nobody can tell whether accounts are too few."""
    return "account" if options.split_by == "auto" else options.split_by
