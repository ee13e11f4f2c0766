"""Which image becomes a sample of which shard, decided at once from the digests of all posts.

    digests ─► columns ─► no duplicate ids ─► deal ─► equal images ─► near-duplicates, one split each
            ─► cut ─► Plan

All of it in arrays, about 180 bytes an image, so that a large machine plans 10^8 images. The result does not
depend on who digested what, or when.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import InputError
from ..images.duplicates import WIDTH, near_clusters
from ..posts.outcomes import (
    BAD_IMAGE,
    BROKEN_FILES,
    DENIED_TUPLES,
    DUPLICATE_ID,
    LEFT_OUT,
    NEAR_DUPLICATE,
    NEAR_DUPLICATE_IMAGES,
    USED,
    WITHOUT_EMOJI,
)
from ..shards.layout import SPLITS, tar_name
from .labels import LEAST_OF_SHARE, Lot, deal
from .options import BuildOptions


@dataclass(frozen=True)
class Digest:
    """What the plan must know of a chunk of posts, in as few bytes as can be."""

    chunk: int  # its number
    reasons: list[str]  # USED, and why posts are not
    denied: int  # tuples of denied emojis, in posts that are used
    bad_images: int  # of posts that have good ones
    outcome: np.ndarray  # uint16 [posts], position in `reasons`
    is_post: np.ndarray  # bool [posts], false for what could not be read as one
    id_hash: np.ndarray  # uint64 [posts]
    account: np.ndarray  # uint64 [posts], where it lies between 0 and 2^64
    time: np.ndarray  # int64 [posts], in seconds; NO_TIME where it is not known
    tuples: np.ndarray  # int32 [posts], that each image of the post gives
    post: np.ndarray  # int32 [images], row of the post
    content: np.ndarray  # uint64 [images, 2], hash of the pixels
    near: np.ndarray  # int8 [images, WIDTH], fingerprint, close for images that look alike


@dataclass(frozen=True)
class ShardTask:
    """One shard to write."""

    split: str
    fold: int | None  # of train, where that is dealt to folds
    name: str  # train/000000.tar
    images: int
    samples: np.ndarray  # int32 [samples, 3]: number of the image in the shard, chunk, row in the chunk
    """Sorted by image number. A repost has the number of the image that it repeats, which is stored as the
    first sample of that number has it."""


@dataclass(frozen=True)
class Plan:
    """What the posts will become."""

    tasks: list[ShardTask]
    posts: dict[str, int]  # how many were read, used, left out and rejected, by reason
    bad: Counter[str]  # those of them that were rejected
    broken: Counter[str]  # broken files and parts of files, by reason
    left_out: dict[str, int]  # what posts lost, by reason
    rejects: list[tuple[int, list[int]]]  # chunks with something bad, and their rows with a repeated id
    crowd: tuple[int, int, int]  # the most images that look alike: how many; the first's chunk, and row there
    split_by: str  # account, post or time
    why_split: str  # it is not by account, where `auto` decided; else empty


def plan_shards(digests: Iterable[Digest], options: BuildOptions) -> Plan:
    """Decide which shard every image belongs to, by the split that its post is dealt to.

    An image that comes again is stored once, where it comes first. A cluster of near-duplicates stays in
    the split that most of its tuples were dealt to; its samples of other splits are left out, so that
    nothing that looks alike is in two splits. The same then holds of the folds of train, which have no part
    in that: val and test are what they are without folds.

    Args:
        digests: of all chunks, in order; none is kept once the next is asked for.
    """
    chunks, column = _gather(digests)
    duplicate = _duplicates(column["is_post"], column["id_hash"])
    image = np.flatnonzero(~duplicate[column["post"]])
    post = column.pop("post")[image]
    dealt = deal(
        options,
        np.bincount(post, minlength=len(duplicate)),
        account=column.pop("account"),
        identity=column.pop("id_hash"),
        time=column.pop("time"),
    )
    same = _number(column.pop("content")[image])  # [image], equal for equal images
    first = _first_of_each(same)[same]
    originals = np.flatnonzero(first == np.arange(len(first)))
    cluster = near_clusters(column.pop("near")[image[originals]])[np.searchsorted(originals, first)]
    lot = dealt.lot[post]
    splits = np.array([SPLITS.index(each.split) for each in dealt.lots])
    stays = _stays(cluster, lot, splits, column["tuples"], post)
    used = np.zeros(len(duplicate), np.bool_)
    used[post[stays]] = True
    posts, bad, broken = _count(chunks, column["outcome"], duplicate, used)
    left_out = {
        DENIED_TUPLES: sum(chunk.denied for chunk in chunks),
        BAD_IMAGE: sum(chunk.bad_images for chunk in chunks),
        NEAR_DUPLICATE_IMAGES: int((~stays).sum()),
    }
    return Plan(
        tasks=_cut(chunks, image[stays], same[stays], lot[stays], dealt.lots, options),
        posts=posts,
        bad=bad,
        broken=broken,
        left_out={what: count for what, count in left_out.items() if count},
        rejects=_with_rejects(chunks, duplicate),
        crowd=_crowd(chunks, image, cluster),
        split_by=dealt.split_by,
        why_split=dealt.why,
    )


def check_folds(plan: Plan, folds: int) -> None:
    """Raise InputError where a fold of train got next to nothing: its scores would tell nothing."""
    images = np.zeros(folds, np.int64)
    for task in plan.tasks:
        if task.fold is not None:
            images[task.fold] += task.images
    least = int(images.argmin())
    if images[least] < LEAST_OF_SHARE * images.mean():
        raise InputError(
            f"By {plan.split_by}, fold {least} of train would get {images[least]:,} of {images.sum():,} "
            "images. Ask for fewer --folds, into another --out."
        )


@dataclass(frozen=True)
class _Chunk:
    """What is left of a digest beside its columns."""

    reasons: tuple[str, ...]
    denied: int
    bad_images: int
    posts: int
    images: int


def _gather(digests: Iterable[Digest]) -> tuple[list[_Chunk], dict[str, np.ndarray]]:
    """Put the digests' columns one behind the other, with posts numbered from the first of the source."""
    chunks: list[_Chunk] = []
    parts: dict[str, list[np.ndarray]] = {name: [np.empty(shape, kind)] for name, kind, shape in _COLUMNS}
    num_posts = 0
    for digest in digests:
        for name in parts:
            parts[name].append(getattr(digest, name))
        parts["post"][-1] = digest.post + np.int32(num_posts)
        num_posts += len(digest.outcome)
        sizes = len(digest.outcome), len(digest.post)
        chunks.append(_Chunk(tuple(digest.reasons), digest.denied, digest.bad_images, *sizes))
    assert num_posts < 2**31
    return chunks, {name: np.concatenate(parts.pop(name)) for name in list(parts)}


_COLUMNS = (
    ("outcome", np.uint16, 0),
    ("is_post", np.bool_, 0),
    ("id_hash", np.uint64, 0),
    ("account", np.uint64, 0),
    ("time", np.int64, 0),
    ("tuples", np.int32, 0),
    ("post", np.int32, 0),
    ("content", np.uint64, (0, 2)),
    ("near", np.int8, (0, WIDTH)),
)


def _duplicates(is_post: np.ndarray, id_hash: np.ndarray) -> np.ndarray:
    """Whether an earlier post has the same id, bool [posts]."""
    post = np.flatnonzero(is_post)
    order = post[np.argsort(id_hash[post], kind="stable")]
    id_hash = id_hash[order]
    duplicate = np.zeros(len(is_post), np.bool_)
    duplicate[order[1:]] = id_hash[1:] == id_hash[:-1]
    return duplicate


def _number(content: np.ndarray) -> np.ndarray:
    """Numbers for the rows of uint64 [images, 2], the same for equal rows: int32 [images]."""
    order = np.lexsort(content.T)
    content = content[order]
    number = np.zeros(len(order), np.int32)
    number[order[1:]] = np.cumsum((content[1:] != content[:-1]).any(1))
    return number


def _first_of_each(number: np.ndarray) -> np.ndarray:
    """Where each number from 0 to the largest first occurs, int32; arbitrary for those that do not occur."""
    first = np.empty(number.max(initial=-1) + 1, np.int32)
    first[number[::-1]] = np.arange(len(number), dtype=np.int32)[::-1]
    return first


def _stays(
    cluster: np.ndarray, lot: np.ndarray, splits: np.ndarray, tuples: np.ndarray, post: np.ndarray
) -> np.ndarray:
    """Whether a sample stays, bool [samples]: its lot is where most tuples of its near-duplicates are.

    Args:
        splits: of each lot. The splits are voted on first, and then the lots of the one that has won.
    """
    together = np.flatnonzero((np.bincount(cluster) > 1)[cluster])
    lots = len(splits)
    near, lot = np.unique(cluster[together], return_inverse=True)[1], lot[together]
    votes = np.bincount(lots * near + lot, tuples[post[together]], lots * len(together)).reshape(-1, lots)
    of_splits = votes @ (splits[:, None] == np.arange(len(SPLITS)))  # [clusters, splits]
    lost = splits != of_splits.argmax(1)[:, None]  # [clusters, lots]
    stays = np.ones(len(cluster), np.bool_)
    stays[together] = np.where(lost, -1, votes).argmax(1)[near] == lot
    return stays


def _crowd(chunks: list[_Chunk], image: np.ndarray, cluster: np.ndarray) -> tuple[int, int, int]:
    """The size of the largest cluster, and where the first of its images is."""
    sizes = np.bincount(cluster, minlength=1)
    begins = np.cumsum([0, *(chunk.images for chunk in chunks)])
    first = image[np.flatnonzero(cluster == sizes.argmax())[:1]].sum()
    chunk = np.searchsorted(begins, first, "right") - 1
    return int(sizes.max()), int(chunk), int(first - begins[chunk])


def _count(
    chunks: list[_Chunk], outcome: np.ndarray, duplicate: np.ndarray, used: np.ndarray
) -> tuple[dict[str, int], Counter[str], Counter[str]]:
    """How many posts there are by what became of them, those that are bad, and what is a broken file."""
    counts: Counter[str] = Counter()
    start = 0
    for chunk in chunks:
        here = slice(start, start := start + chunk.posts)
        numbers = np.bincount(outcome[here][~duplicate[here] & ~used[here]], minlength=len(chunk.reasons))
        counts.update(dict(zip(chunk.reasons, numbers.tolist(), strict=True)))
    counts[NEAR_DUPLICATE] = counts.pop(USED, 0)  # good posts, none of whose images stays in their split
    counts[DUPLICATE_ID] += int(duplicate.sum())
    counts = +counts  # without zeros
    broken = Counter({reason: counts.pop(reason) for reason in sorted(counts) if reason in BROKEN_FILES})
    bad = Counter({reason: count for reason, count in counts.items() if reason not in LEFT_OUT})
    read = len(used) - broken.total()
    posts = {"read": read, USED: int(used.sum()), WITHOUT_EMOJI: counts.pop(WITHOUT_EMOJI, 0)}
    return posts | dict(sorted(counts.items())), bad, broken


def _with_rejects(chunks: list[_Chunk], duplicate: np.ndarray) -> list[tuple[int, list[int]]]:
    found = []
    start = 0
    for number, chunk in enumerate(chunks):
        rows = np.flatnonzero(duplicate[start : start + chunk.posts]).tolist()
        if rows or chunk.bad_images or not {USED, *LEFT_OUT}.issuperset(chunk.reasons):
            found.append((number, rows))
        start += chunk.posts
    return found


def _cut(
    chunks: list[_Chunk],
    image: np.ndarray,
    same: np.ndarray,
    lot: np.ndarray,
    lots: tuple[Lot, ...],
    options: BuildOptions,
) -> list[ShardTask]:
    """Cut each lot into shards, in the order of the source; all arrays are [samples that stay]."""
    stored = _first_of_each(same)[same]  # [samples], the sample whose bytes are stored for it
    begins = np.cumsum([0, *(chunk.images for chunk in chunks)])
    size = options.images_per_shard
    tasks: list[ShardTask] = []
    of_split: Counter[str] = Counter()  # shards
    for number, each in enumerate(lots):
        samples = np.flatnonzero(lot == number)
        first = samples[stored[samples] == samples]
        row = np.searchsorted(first, stored[samples]).astype(np.int32)  # the image's number in the lot
        order = np.argsort(row, kind="stable")
        rows = np.empty((len(samples), 3), np.int32)  # ShardTask.samples, numbered through the lot
        rows[:, 0] = row[order]
        samples = image[samples[order]]
        rows[:, 1] = np.searchsorted(begins, samples, "right") - 1
        rows[:, 2] = samples - begins[rows[:, 1]]
        cuts = np.searchsorted(rows[:, 0], range(0, len(first) + size, size))
        for shard, (low, high) in enumerate(pairwise(cuts)):
            here = rows[low:high] - np.array([shard * size, 0, 0], np.int32)
            name = tar_name(each.split, of_split[each.split])
            tasks.append(ShardTask(each.split, each.fold, name, int(here[-1, 0]) + 1, here))
            of_split[each.split] += 1
    return tasks
