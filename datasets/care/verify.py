"""Whether a dataset is what its manifest says, sample by sample.

    manifest ─► tars, in workers: SHA-256, and of each sample the label, the image's CRC-32, and the picture
             ─► Checked ─► counts of the vocabulary and of the posts ─► Fault

Our own tars hold nothing but labels and images in a fixed order, so that every byte is checked, and behind a
damaged header the check goes on with the next sample. An adopted tar is read again as when it was adopted,
and its labels are compared.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
from zlib_ng import zlib_ng

from ..build.options import adoption_options
from ..errors import InputError
from ..posts.outcomes import USED
from ..shards.encoding import check_picture
from ..shards.index import ImageSpan, Index, Label, ShardError, hash_posts, read_index
from ..shards.layout import MANIFEST, REJECTS, SPLITS, is_of_shard, leftovers, statistics_name
from ..shards.manifest import Manifest, ShardEntry, is_adopted, read_manifest
from ..shards.tar import end_of, map_tar, read_sample
from ..store.atomic import sha256
from ..store.folder import Folder
from ..store.lock import is_of_lock
from ..store.trouble import MISSING, patiently
from ..work.processes import mapper
from ..work.progress import progress
from .contents import read_adopted


@dataclass(frozen=True)
class Fault:
    """Something that is not as it was made."""

    file: str
    key: str | None  # of the sample; None where it is the whole file
    reason: str


@dataclass(frozen=True)
class Verification:
    """What a verification found."""

    shards: int  # tars
    images: int
    tuples: int  # of the vocabulary
    bytes: int  # of the tars
    faults: list[Fault]
    unnamed: list[str]  # files that no shard names: no damage


@dataclass(frozen=True)
class _Checked:
    """What one tar's indexes count, and what is wrong with it."""

    images: int
    emojis: Counter[str]  # of the train split
    posts: np.ndarray  # uint64 [posts], hashes of their ids
    faults: list[Fault]


def verify(folder: Folder, manifest: Manifest, *, workers: int) -> Verification:
    """Check every checksum and every count of a dataset, and decode every image.

    Raises:
        InputError: somebody changed the dataset meanwhile, so that the faults may be none.
    """
    by_tar = sorted(manifest.shards, key=attrgetter("name"))
    tars = [tuple(entries) for _, entries in groupby(by_tar, attrgetter("name"))]
    checked = []
    with (
        progress(sum(entry.images for entry in manifest.shards), "verify", "images") as bar,
        mapper("local", workers) as run,
    ):
        for result in run(partial(_check_tar, folder, replace(manifest, shards=())), tars):
            checked.append(result)
            bar.update(result.images)
    if read_manifest(folder) != manifest:
        raise InputError(f"{folder} was changed while it was checked. Run the same command again.")
    names = folder.names()
    return Verification(
        shards=len(tars),
        images=sum(entry.images for entry in manifest.shards),
        tuples=sum(entry.tuples for entry in manifest.shards),
        bytes=sum(entries[0].bytes for entries in tars),
        faults=[
            *(fault for result in checked for fault in result.faults),
            *_check_counts(manifest, checked),
            *_check_forgotten(names, manifest),
        ],
        unnamed=_unnamed(names, manifest),
    )


def _check_counts(manifest: Manifest, checked: list[_Checked]) -> Iterator[Fault]:
    """Compare the manifest's counts with the indexes'. One that cannot be read makes them differ, too."""
    train = sum((result.emojis for result in checked), Counter[str]())
    told = manifest.vocabulary | manifest.rare
    for emoji in told | train:
        if train[emoji] != told.get(emoji, 0):
            yield Fault(
                MANIFEST, None, f"counts {told.get(emoji, 0)} {emoji} in train, where {train[emoji]} are"
            )
    posts = len(np.unique(np.concatenate([np.empty(0, np.uint64), *(result.posts for result in checked)])))
    if manifest.posts.get(USED, posts) != posts:
        yield Fault(MANIFEST, None, f"counts {manifest.posts[USED]} used posts, where {posts} are")


def _check_forgotten(names: list[str], manifest: Manifest) -> Iterator[Fault]:
    """What a `shards forget` that was killed has not removed yet: the accounts are still in it."""
    if manifest.history and not is_adopted(manifest):
        for name in leftovers(names, {shard.name for shard in manifest.shards}):
            yield Fault(name, None, "is still there after `shards forget`: run that again")


def _unnamed(names: list[str], manifest: Manifest) -> list[str]:
    """Files that belong to no shard; of an adopted folder, which may hold any, only tars and indexes."""
    named = {MANIFEST, REJECTS}
    for shard in manifest.shards:
        named |= {shard.name, shard.index, statistics_name(shard.name)}
    others = [name for name in names if name not in named and not is_of_lock(name)]
    return [name for name in others if not is_adopted(manifest) or is_of_shard(name)]


def _check_tar(folder: Folder, manifest: Manifest, entries: tuple[ShardEntry, ...]) -> _Checked:
    """Check a tar and its indexes: one for each split that has samples in it.

    Raises:
        InputError: this machine or the store is in trouble, which says nothing about the tar.
    """
    return patiently(partial(_check_files, folder, manifest, entries), folder)


def _check_files(folder: Folder, manifest: Manifest, entries: tuple[ShardEntry, ...]) -> _Checked:
    name = entries[0].name
    faults: list[Fault] = []
    indexes: list[Index] = []
    emojis = Counter[str]()
    for entry in entries:
        try:
            index = read_index(folder, entry)
        except ShardError as error:
            faults.append(Fault(entry.index, None, str(error)))
            continue
        indexes.append(index)
        here = Counter(index.emojis[emoji] for emoji in index.emoji.tolist())
        tuples = sum(count for emoji, count in here.items() if emoji in manifest.vocabulary)
        if tuples != entry.tuples:
            faults.append(
                Fault(MANIFEST, None, f"counts {entry.tuples} tuples of {entry.index}, not {tuples}")
            )
        outside = here.total() - tuples
        if entry.outside not in (outside, None):
            faults.append(
                Fault(
                    MANIFEST,
                    None,
                    f"counts {entry.outside} tuples of rarer emojis of {entry.index}, not {outside}",
                )
            )
        if entry.reactions not in (index.reaction_sizes, None):
            faults.append(
                Fault(
                    MANIFEST,
                    None,
                    f"counts {entry.reactions} reactions of {entry.index}, not {index.reaction_sizes}",
                )
            )
        if entry.split not in SPLITS:
            faults.append(Fault(MANIFEST, None, f"{name} is in no split"))
        emojis += here if entry.split == "train" else Counter()
    try:
        with folder.reading(name) as path:
            for key, reason in _check_bytes(path, entries[0], indexes, manifest):
                faults.append(Fault(name, key, reason))
    except MISSING:
        faults.append(Fault(name, None, "cannot be read: it is not there"))
    return _Checked(
        images=sum(entry.images for entry in entries),
        emojis=emojis,
        posts=np.concatenate([np.empty(0, np.uint64), *map(hash_posts, indexes)]),
        faults=faults,
    )


def _check_bytes(
    path: Path, entry: ShardEntry, indexes: list[Index], manifest: Manifest
) -> Iterator[tuple[str | None, str]]:
    """Yield what is wrong with a tar, by the keys of its samples."""
    content = map_tar(path)
    if len(content) != entry.bytes:
        yield None, f"{len(content)} bytes, not {entry.bytes}"
    elif sha256(path) != entry.sha256:
        yield None, "checksum differs"
    for index in indexes:
        samples = index.samples()
        for span, _ in samples:
            if reason := _check_image(content, span, manifest):
                yield span.key, reason
        yield from _check_labels(content, samples) if not is_adopted(manifest) else ()
    if is_adopted(manifest):
        try:
            found = read_adopted(path, entry.name, adoption_options(manifest))
        except InputError as error:
            yield None, str(error)
            return
        here = {span: label for samples in found.samples.values() for span, label in samples}
        for span, label in (sample for index in indexes for sample in index.samples()):
            if here.get(span) != label:
                yield span.key, "not as the index tells"


def _check_image(content: np.ndarray, span: ImageSpan, manifest: Manifest) -> str | None:
    image = content[span.offset : span.offset + span.length]
    if len(image) < span.length:
        return "cut off"
    if zlib_ng.crc32(image) != span.crc32:
        return "checksum differs"
    try:
        check_picture(image, manifest.encoding, manifest.image_size)
    except ValueError as error:
        return str(error)
    return None


def _check_labels(
    content: np.ndarray, samples: list[tuple[ImageSpan, Label]]
) -> Iterator[tuple[str | None, str]]:
    """Yield where the samples of a tar of ours, one behind the other, differ from its index."""
    start = 0
    for span, label in samples:
        try:
            there, told = read_sample(content, start)
        except ValueError as error:
            yield span.key, str(error)
        else:
            if replace(there, crc32=span.crc32) != span:
                yield span.key, "not where the index says"
            elif told != label:
                yield span.key, "label differs from the index"
        start = end_of(span)
    if content[start:].any():
        yield None, "holds more than its index says"
