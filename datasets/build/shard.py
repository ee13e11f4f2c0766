"""Parts to one shard.

    task ─► labels of its posts ─► fingerprint: a finished shard that has the same is kept
         ─► encoded images out of the parts ─► tar ─► index ─► statistics, last

A shard appears under its name only when it is complete.
"""

import hashlib
import json
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import groupby
from operator import attrgetter

from ..emojis.text import CANONICAL_VERSION
from ..errors import InputError
from ..shards.index import Label
from ..shards.layout import BUILD_FOLDER, index_name, members_name, part_name, statistics_name
from ..shards.tar import add_sample, index_shard
from ..store.atomic import sha256
from ..store.folder import Folder
from .options import BuildOptions
from .parts import Part, read_part
from .plan import ShardTask


@dataclass(frozen=True)
class ShardStatistics:
    """What a finished shard says of itself, in 000000.stats.json beside it."""

    fingerprint: str
    images: int
    tuples: int
    reactions: tuple[int, ...]
    bytes: int
    sha256: str
    index_sha256: str
    emojis: dict[str, int]


@dataclass(frozen=True)
class _Sample:
    """One image of a shard and who posted it."""

    chunk: int
    row: int  # of the image in its chunk
    content: str  # hash of the pixels
    labels: list[Label]  # the first is of the post whose image is stored


def write_shard(folder: Folder, options: BuildOptions, task: ShardTask) -> ShardStatistics:
    """Write one shard, its index and its statistics; or keep them, when they are there and whole."""
    part = cache(lambda chunk: _read(folder, chunk))
    samples = _samples(task, part)
    fingerprint = _fingerprint(samples, options)
    if finished := _read_finished(folder, task.name, fingerprint):
        return finished
    with folder.creating(task.name) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            images = _images(folder, samples, part)
            for number, (sample, image) in enumerate(zip(samples, images, strict=True)):
                first, *others = sample.labels
                label = replace(first, reposts=tuple(others))
                add_sample(tar, f"{number:06d}", label, options.encoding, image)
        rows = index_shard(temporary)
        size, digest = temporary.stat().st_size, sha256(temporary)
    index = rows.to_bytes()
    folder.write(index_name(task.name), index)
    emojis = Counter(emoji for sample in samples for label in sample.labels for emoji in label.emojis)
    statistics = ShardStatistics(
        fingerprint=fingerprint,
        images=len(samples),
        tuples=emojis.total(),
        reactions=rows.reaction_sizes,
        bytes=size,
        sha256=digest,
        index_sha256=hashlib.sha256(index).hexdigest(),
        emojis=dict(sorted(emojis.items())),
    )
    folder.write(statistics_name(task.name), json.dumps(asdict(statistics), ensure_ascii=False))
    return statistics


def _samples(task: ShardTask, part: Callable[[int], Part]) -> list[_Sample]:
    """The images of a shard in order, each with the labels of all its posts."""
    samples: list[_Sample] = []
    for number, chunk, row in task.samples.tolist():
        here = part(chunk)
        post = here.post[row]
        label = Label(here.names[post], here.accounts[post], tuple(here.emojis[post]))
        if number == len(samples):
            samples.append(_Sample(chunk, row, here.content[row].tobytes().hex(), [label]))
        else:
            samples[number].labels.append(label)
    assert len(samples) == task.images
    return samples


def _fingerprint(samples: list[_Sample], options: BuildOptions) -> str:
    """A hash of all that a shard is made from; not of where that lay."""
    content = [(sample.content, sample.labels) for sample in samples]
    return hashlib.sha256(repr((CANONICAL_VERSION, options.encoding, content)).encode()).hexdigest()


def _images(folder: Folder, samples: list[_Sample], part: Callable[[int], Part]) -> Iterator[bytes]:
    """The encoded image of each sample. Of a chunk's members only the part that holds its samples is read."""
    for chunk, group in groupby(samples, attrgetter("chunk")):
        rows = [sample.row for sample in group]
        here = part(chunk)
        start = int(here.offset[rows[0]])
        members = memoryview(folder.read(members_name(chunk), start, int(here.offset[rows[-1] + 1])))
        for row in rows:
            image = members[here.offset[row] - start : here.offset[row + 1] - start]
            if zlib.crc32(image) != here.crc32[row]:
                raise _damaged(folder, members_name(chunk))
            yield bytes(image)


def _read(folder: Folder, chunk: int) -> Part:
    try:
        return read_part(folder, chunk)
    except ValueError as error:
        raise _damaged(folder, part_name(chunk)) from error


def _damaged(folder: Folder, name: str) -> InputError:
    return InputError(
        f"{folder}/{name} is damaged. Remove {folder}/{BUILD_FOLDER} and run the same command again."
    )


def _read_finished(folder: Folder, name: str, fingerprint: str) -> ShardStatistics | None:
    try:
        content = json.loads(folder.read(statistics_name(name)))
        statistics = ShardStatistics(**content | {"reactions": tuple(content["reactions"])})
        index = folder.read(index_name(name))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    if statistics.fingerprint != fingerprint or folder.size(name) != statistics.bytes:
        return None
    if hashlib.sha256(index).hexdigest() != statistics.index_sha256:
        return None
    # A tar on an object store is not read again: stores keep checksums of their own.
    if folder.path is not None and sha256(folder.path / name) != statistics.sha256:
        return None
    return statistics
