"""Which post becomes a sample of which shard: decided from the posts alone, before any image is opened.

    posts ─► emojis of the text ─► no duplicates ─► split by account ─► cut into shards ─► Plan

So the bytes of a dataset do not depend on who writes which shard, or when.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from .emoji_text import CANONICAL_VERSION, extract
from .manifest import SPLITS
from .posts import ImageSource, Post, Reject, read_posts


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
    image: ImageSource
    emojis: tuple[str, ...]  # distinct, in reading order


@dataclass(frozen=True)
class ShardTask:
    """One shard to write."""

    name: str  # train/000000.tar
    posts: tuple[PlannedPost, ...]
    options: BuildOptions

    def fingerprint(self) -> str:
        """Names what the shard is made from: a finished shard of the same fingerprint is kept."""
        return hashlib.sha256(repr([CANONICAL_VERSION, self]).encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """What the posts will become."""

    tasks: list[ShardTask]
    rejects: list[Reject]
    num_posts: int
    num_without_emoji: int


def plan_shards(source: Path, options: BuildOptions) -> Plan:
    """Read every post once and decide which shard it belongs to; images are not opened."""
    rejects: list[Reject] = []
    splits: dict[str, list[PlannedPost]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    num_posts = num_without_emoji = 0
    for post in read_posts([source]):
        num_posts += 1
        if isinstance(post, Reject):
            rejects.append(post)
        elif post.id in seen:
            rejects.append(Reject(f"post {post.id}", "duplicate id"))
        else:
            seen.add(post.id)
            emojis = tuple(dict.fromkeys(extract(post.caption, keep_variants=options.keep_variants)))
            if emojis:
                account = hash_account(post)
                planned = PlannedPost(post.id, account, post.images[0], emojis)
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
