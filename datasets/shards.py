"""Posts to shards.

    posts ─► plan ─► write_shard, a task a shard, in processes ─► tar + index + statistics
                  ─► manifest, last

The bytes are the same for any number of workers. A shard appears under its name only when it is complete;
a build that was killed goes on where it stopped when the same command is run again.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from webdataset.writer import TarWriter

from .emoji_text import CANONICAL_VERSION
from .errors import InputError
from .files import replacing, sha256, write_atomic
from .images import ENCODERS, ImageError, read_image
from .index import index_name, index_shard
from .manifest import Manifest, ShardEntry, write_manifest
from .plan import BuildOptions, Plan, PlannedPost, ShardTask, plan_shards
from .posts import Reject
from .progress import progress
from .storage import Folder
from .workers import worker_pool


@dataclass(frozen=True)
class ShardStatistics:
    """What a finished shard says of itself, in 000000.stats.json beside it."""

    fingerprint: str
    images: int
    bytes: int
    sha256: str
    index_sha256: str
    emojis: dict[str, int]
    rejects: list[Reject]


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
    if any(out.glob("*/*.tar")) and not any(out.glob("*/*.index")):
        raise InputError(
            f"{out} holds tars of something else, which would be replaced. Choose another --out."
        )
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
    write_manifest(manifest, Folder(str(out)))
    return manifest


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
    write_atomic(_index_path(tar), index_shard(tar).to_bytes())
    statistics = ShardStatistics(
        fingerprint=task.fingerprint(),
        images=num_images,
        bytes=tar.stat().st_size,
        sha256=sha256(tar),
        index_sha256=sha256(_index_path(tar)),
        emojis=dict(sorted(emojis.items())),
        rejects=rejects,
    )
    write_atomic(_statistics_path(tar), json.dumps(asdict(statistics), ensure_ascii=False))
    return statistics


def _read_pixels(post: PlannedPost, options: BuildOptions) -> np.ndarray | Reject:
    try:
        return read_image(post.image.read(), options.image_size)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return Reject(f"post {post.id}", "missing image")
    except ImageError as error:
        return Reject(f"post {post.id}", str(error))


def _sample(post: PlannedPost, pixels: np.ndarray, number: int, encoding: str) -> dict:
    label = {"post": post.id, "account": post.account, "emojis": post.emojis}
    return {
        "__key__": f"{number:06d}",
        encoding: ENCODERS[encoding](pixels),
        "json": json.dumps(label, ensure_ascii=False).encode(),
    }


def _index_path(tar: Path) -> Path:
    return tar.with_name(index_name(tar.name))


def _statistics_path(tar: Path) -> Path:
    return tar.with_suffix(".stats.json")


def _read_statistics(tar: Path, task: ShardTask) -> ShardStatistics | None:
    """The statistics of a finished shard of this very task, unless an image that it lacks can be read now."""
    try:
        content = json.loads(_statistics_path(tar).read_text(encoding="utf-8"))
        whole = content["fingerprint"] == task.fingerprint() and content["sha256"] == sha256(tar)
    except FileNotFoundError:
        return None
    if not whole or not _index_path(tar).is_file():
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
        for path in (tar, _index_path(tar), statistics):
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
            index=index_name(task.name),
            split=task.name.split("/")[0],
            images=result.images,
            tuples=sum(count for emoji, count in result.emojis.items() if emoji in vocabulary),
            bytes=result.bytes,
            sha256=result.sha256,
            index_sha256=result.index_sha256,
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
