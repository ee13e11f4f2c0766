"""Posts to shards.

    posts ─► plan (read, extract emojis, drop duplicates, split by account, cut into shards)
          ─► write_shard, one task per shard, in processes ─► tar + index + statistics
          ─► manifest, last

The plan depends on the posts alone, so the bytes are the same for any number of workers. A shard appears
under its name only when it is complete; a build that was killed goes on where it stopped when the same
command is run again.
"""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from webdataset.writer import TarWriter

from .emoji_text import CANONICAL_VERSION, extract
from .errors import InputError
from .files import replacing, sha256, write_atomic
from .images import ENCODERS, ImageError, read_image
from .index import index_path, index_shard, write_index
from .manifest import SPLITS, Manifest, ShardEntry, write_manifest
from .posts import Post, Reject, read_posts
from .progress import progress
from .workers import worker_pool


@dataclass(frozen=True)
class BuildOptions:
    """What decides the bytes of a dataset, besides the posts."""

    image_size: int = 64  # pixels
    encoding: str = "npy"
    images_per_shard: int = 1024
    min_count: int = 5  # tuples in the train split for an emoji to be in the vocabulary
    keep_variants: bool = False  # keep skin tone and gender
    val_share: float = 0.1  # of the accounts
    test_share: float = 0.1


@dataclass(frozen=True)
class PlannedPost:
    """A post that will become one sample."""

    id: str
    account: str  # hashed
    image: str  # path
    emojis: tuple[str, ...]  # distinct, in reading order


@dataclass(frozen=True)
class ShardTask:
    """One shard to write."""

    name: str  # train/000000.tar
    posts: tuple[PlannedPost, ...]
    options: BuildOptions

    def fingerprint(self) -> str:
        """Names what the shard is made from: a finished shard of the same fingerprint is kept."""
        return hashlib.sha256(json.dumps([CANONICAL_VERSION, asdict(self)]).encode()).hexdigest()


@dataclass(frozen=True)
class ShardStatistics:
    """What a finished shard says of itself, in 000000.stats.json beside it."""

    fingerprint: str
    images: int
    bytes: int
    sha256: str
    emojis: dict[str, int]
    rejects: list[Reject]


@dataclass(frozen=True)
class Plan:
    """What the posts will become."""

    tasks: list[ShardTask]
    rejects: list[Reject]
    num_posts: int
    num_without_emoji: int


def build_shards(source: Path, out: Path, options: BuildOptions, *, workers: int, max_bad: float) -> Manifest:
    """Build a dataset from a table of posts.

    Args:
        source: `.jsonl` or `.csv`, see posts.py.
        out: folder of the dataset; it is one when its manifest.json is there.
        workers: processes; the bytes do not depend on it.
        max_bad: the share of the posts that may be rejected, 0 to 1.

    Raises:
        InputError: too many rejects, nothing to train on, or another dataset is in the way.
    """
    if (out / "manifest.json").exists():
        raise InputError(f"{out} already holds a dataset. Choose another --out, or remove it first.")
    plan = plan_shards(source, options)
    check_rejects(plan.rejects, plan.num_posts, max_bad)
    statistics = _write_all(plan.tasks, out, workers)
    rejects = plan.rejects + [reject for result in statistics for reject in result.rejects]
    check_rejects(rejects, plan.num_posts, max_bad)
    manifest = summarise(plan, statistics, options)
    if not manifest.vocabulary:
        raise InputError(
            f"{source}: no emoji comes {options.min_count} times in the train split of {plan.num_posts} "
            f"posts ({plan.num_without_emoji} without emoji, {len(rejects)} rejected). Lower --min-count or "
            "add posts."
        )
    _remove_leftovers(plan.tasks, out)
    write_manifest(manifest, out)
    return manifest


def plan_shards(source: Path, options: BuildOptions) -> Plan:
    """Read every post once and decide which shard it belongs to; images are not opened."""
    rejects: list[Reject] = []
    splits: dict[str, list[PlannedPost]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    num_posts = num_without_emoji = 0
    for post in read_posts(source):
        num_posts += 1
        if isinstance(post, Reject):
            rejects.append(post)
        elif post.id in seen:
            rejects.append(Reject(f"post {post.id}", "duplicate id"))
        else:
            seen.add(post.id)
            emojis = tuple(dict.fromkeys(extract(post.text, keep_variants=options.keep_variants)))
            if emojis:
                account = hash_account(post)
                planned = PlannedPost(post.id, account, str(post.image), emojis)
                splits[split_of(account, options)].append(planned)
            else:
                num_without_emoji += 1
    tasks = [task for split, posts in splits.items() for task in _cut(split, posts, options)]
    return Plan(tasks, rejects, num_posts, num_without_emoji)


def hash_account(post: Post) -> str:
    """The pseudonym that stands for an account in everything we write, as 32 hexadecimal digits.

    It keeps names out of the shards; it does not keep out somebody who can guess the name.
    """
    return hashlib.blake2b(post.account.encode(), digest_size=16, person=b"emojigan-account").hexdigest()


def split_of(account: str, options: BuildOptions) -> str:
    """The split of an account, by its hash alone, so that nobody is in two and more posts move nobody."""
    place = int(hashlib.blake2b(account.encode(), digest_size=8).hexdigest(), 16) / 2**64
    if place < options.test_share:
        return "test"
    return "val" if place < options.test_share + options.val_share else "train"


def _cut(split: str, posts: list[PlannedPost], options: BuildOptions) -> list[ShardTask]:
    size = options.images_per_shard
    starts = range(0, len(posts), size)
    return [
        ShardTask(f"{split}/{number:06d}.tar", tuple(posts[start : start + size]), options)
        for number, start in enumerate(starts)
    ]


def _write_all(tasks: list[ShardTask], out: Path, workers: int) -> list[ShardStatistics]:
    """Write every shard, in processes; the results come in the order of the tasks."""
    if not tasks:
        return []
    results = []
    total = sum(len(task.posts) for task in tasks)
    with (
        worker_pool(min(workers, len(tasks))) as pool,
        progress(total, "shards", "images") as bar,
    ):
        for task, result in zip(tasks, pool.map(write_shard, tasks, [out] * len(tasks)), strict=True):
            results.append(result)
            bar.update(len(task.posts))
    return results


def write_shard(task: ShardTask, out: Path) -> ShardStatistics:
    """Write one shard, its index and its statistics; or keep them, when they are there and whole."""
    tar = out / task.name
    if finished := _read_statistics(tar, task):
        return finished
    rejects: list[Reject] = []
    emojis: Counter[str] = Counter()
    num_images = 0
    with replacing(tar) as temporary, open(temporary, "wb") as file:
        # An integer mtime: a float one costs a kilobyte of PAX header for each member.
        with TarWriter(file, encoder=False, mtime=0) as writer:
            for post in task.posts:
                pixels = _read_pixels(post, task.options)
                if isinstance(pixels, Reject):
                    rejects.append(pixels)
                    continue
                writer.write(_sample(post, pixels, num_images, task.options.encoding))
                emojis.update(post.emojis)
                num_images += 1
        file.flush()
    write_index(index_shard(tar), tar)
    statistics = ShardStatistics(
        fingerprint=task.fingerprint(),
        images=num_images,
        bytes=tar.stat().st_size,
        sha256=sha256(tar),
        emojis=dict(sorted(emojis.items())),
        rejects=rejects,
    )
    write_atomic(_statistics_path(tar), json.dumps(asdict(statistics), ensure_ascii=False))
    return statistics


def _read_pixels(post: PlannedPost, options: BuildOptions) -> np.ndarray | Reject:
    try:
        return read_image(Path(post.image), options.image_size)
    except ImageError as error:
        return Reject(f"post {post.id}", str(error))


def _sample(post: PlannedPost, pixels: np.ndarray, number: int, encoding: str) -> dict:
    label = {"post": post.id, "account": post.account, "emojis": post.emojis}
    return {
        "__key__": f"{number:06d}",
        encoding: ENCODERS[encoding](pixels),
        "json": json.dumps(label, ensure_ascii=False).encode(),
    }


def _statistics_path(tar: Path) -> Path:
    return tar.with_suffix(".stats.json")


def _read_statistics(tar: Path, task: ShardTask) -> ShardStatistics | None:
    """The statistics of a finished shard of this very task, unless an image that it lacks can be read now."""
    try:
        content = json.loads(_statistics_path(tar).read_text(encoding="utf-8"))
        whole = content["fingerprint"] == task.fingerprint() and content["sha256"] == sha256(tar)
    except FileNotFoundError:
        return None
    if not whole or not index_path(tar).is_file():
        return None
    rejected = {reject["where"] for reject in content["rejects"]}
    again = [_read_pixels(post, task.options) for post in task.posts if f"post {post.id}" in rejected]
    rejects = [reject for reject in again if isinstance(reject, Reject)]
    return ShardStatistics(**content | {"rejects": rejects}) if len(rejects) == len(again) else None


def _remove_leftovers(tasks: list[ShardTask], out: Path) -> None:
    """Remove what killed builds left, and shards of other posts or options: `*.tar` would find them."""
    finished = {_statistics_path(out / task.name) for task in tasks}
    for statistics in set(out.glob("*/*.stats.json")) - finished:
        tar = statistics.with_name(statistics.name.replace(".stats.json", ".tar"))
        for path in (tar, index_path(tar), statistics):
            path.unlink(missing_ok=True)
    for temporary in out.glob("*/.*.tmp"):
        temporary.unlink()


def check_rejects(rejects: list[Reject], num_posts: int, max_bad: float) -> None:
    """Refuse a source of which more than `max_bad` was rejected, naming the first offenders."""
    if len(rejects) > max_bad * num_posts:
        first = "; ".join(f"{reject.where}: {reject.reason}" for reject in rejects[:3])
        raise InputError(
            f"{len(rejects)} of {num_posts} posts are bad, more than --max-bad {max_bad:g} allows: {first}."
        )


def summarise(plan: Plan, statistics: list[ShardStatistics], options: BuildOptions) -> Manifest:
    """The manifest of finished shards: vocabulary and counts. Empty shards are left out."""
    train: Counter[str] = Counter()
    for task, result in zip(plan.tasks, statistics, strict=True):
        if task.name.startswith("train/"):
            train.update(result.emojis)
    ranked = sorted(train.items(), key=lambda item: (-item[1], item[0]))
    vocabulary = {emoji: count for emoji, count in ranked if count >= options.min_count}
    shards = tuple(
        ShardEntry(
            name=task.name,
            split=task.name.split("/")[0],
            images=result.images,
            tuples=sum(count for emoji, count in result.emojis.items() if emoji in vocabulary),
            bytes=result.bytes,
            sha256=result.sha256,
        )
        for task, result in zip(plan.tasks, statistics, strict=True)
        if result.images
    )
    rejects = Counter(reject.reason for reject in plan.rejects)
    rejects.update(reject.reason for result in statistics for reject in result.rejects)
    return Manifest(
        image_size=options.image_size,
        encoding=options.encoding,
        canonical_version=CANONICAL_VERSION,
        options=asdict(options),
        vocabulary=vocabulary,
        rare={emoji: count for emoji, count in ranked if count < options.min_count},
        posts={
            "read": plan.num_posts,
            "used": sum(shard.images for shard in shards),
            "without emoji": plan.num_without_emoji,
            **dict(sorted(rejects.items())),
        },
        shards=shards,
    )
