"""Which image becomes a sample of which shard, decided at once from the digests of all posts.

    digests ─► Rows ─► no duplicate ids ─► equal images ─► near-duplicates, one split each ─► cut ─► Plan

All of it in arrays, so that a large machine plans 10^8 images. The result does not depend on who digested
what, or when.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field

import numpy as np

from .deny import DenyList
from .duplicates import near_clusters
from .manifest import SPLITS
from .parts import LEFT_OUT, NEAR_DUPLICATE, USED, Digest

TEXTS = ("caption", "comments", "reactions")
DUPLICATE_ID = "duplicate id"


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
    texts: tuple[str, ...] = ("caption",)  # of TEXTS: where emojis come from
    repeat: str = "once"  # or all: how often an emoji counts in a post
    deny: DenyList = field(default=DenyList())

    def of_digest(self) -> tuple:
        """Those that decide a part."""
        return (self.image_size, self.encoding, self.keep_variants, self.texts, self.repeat, self.deny)

    def to_json(self) -> dict:
        """For the manifest: of what is denied only a hash, for it may hold names."""
        return {**asdict(self), "texts": list(self.texts), "deny": self.deny.fingerprint()}


@dataclass(frozen=True)
class ShardTask:
    """One shard to write."""

    split: str
    name: str  # train/000000.tar
    images: int
    places: np.ndarray  # int64 [samples, 3]: row of the image in the shard, chunk, row in the chunk;
    # by rows of the shard, and first of each row the sample whose image is stored


@dataclass(frozen=True)
class Plan:
    """What the posts will become."""

    tasks: list[ShardTask]
    posts: dict[str, int]  # how many were read, used, left out and rejected, by reason
    bad: Counter[str]  # those of them that were rejected
    near_duplicates: int  # images left out, for a near-duplicate is in another split
    duplicates: np.ndarray  # int64, posts (counted from the first of the source) whose id came before


@dataclass(frozen=True)
class Rows:
    """All posts and images of a source."""

    reasons: list[str]
    outcome: np.ndarray  # int16 [posts], position in `reasons`
    is_post: np.ndarray  # bool [posts]
    id_hash: np.ndarray  # uint64 [posts]
    split: np.ndarray  # uint8 [posts], of the account, position in SPLITS
    tuples: np.ndarray  # int32 [posts], with each image
    first_image: np.ndarray  # int64 [chunks], number of its first image among all
    post: np.ndarray  # int64 [images], number of the post
    content: np.ndarray  # uint64 [images, 2]
    near: np.ndarray  # uint64 [images]


def plan_shards(digests: list[Digest], options: BuildOptions) -> Plan:
    """Decide which shard every image belongs to.

    An image that comes again is stored once, where it comes first. A cluster of near-duplicates stays in
    the split that most of its tuples are in by their accounts; its samples of other splits are left out,
    so that nobody, and nothing that looks alike, is in two splits.
    """
    rows = _gather(digests, options)
    duplicate = _duplicate_posts(rows)
    image = np.flatnonzero(~duplicate[rows.post])
    same = _equal_images(rows.content[image])  # [image]
    cluster = near_clusters(rows.near[image[_first_of_each(same)]])[same]
    post = rows.post[image]
    split = rows.split[post]
    num_clusters = cluster.max(initial=-1) + 1
    votes = np.bincount(len(SPLITS) * cluster + split, rows.tuples[post], len(SPLITS) * num_clusters)
    stays = votes.reshape(-1, len(SPLITS)).argmax(1)[cluster] == split
    used = np.zeros(len(duplicate), np.bool_)
    used[post[stays]] = True
    posts, bad = _count(rows, duplicate, used)
    return Plan(
        tasks=_cut(rows, image[stays], same[stays], split[stays], options),
        posts=posts,
        bad=bad,
        near_duplicates=int((~stays).sum()),
        duplicates=np.flatnonzero(duplicate),
    )


def splits_of(place: np.ndarray, options: BuildOptions) -> np.ndarray:
    """The splits of accounts, by their hash alone, so that nobody is in two and more posts move nobody.

    Args:
        place: uint64 [accounts], where the accounts lie between 0 and 2^64.

    Returns:
        uint8 [accounts], positions in SPLITS.
    """
    share = place / 2.0**64
    in_test = share < options.test_share
    in_val = ~in_test & (share < options.test_share + options.val_share)
    return np.select([in_test, in_val], [SPLITS.index("test"), SPLITS.index("val")], 0).astype(np.uint8)


def _gather(digests: list[Digest], options: BuildOptions) -> Rows:
    reasons = {USED: 0}
    outcomes = []
    for digest in digests:
        known = [reasons.setdefault(reason, len(reasons)) for reason in digest.reasons]
        outcomes.append(np.array(known, np.int16)[digest.outcome])
    first_post = np.cumsum([0, *(len(digest.outcome) for digest in digests)])
    first_image = np.cumsum([0, *(len(digest.post) for digest in digests)])
    posts = [digest.post + first for digest, first in zip(digests, first_post[:-1], strict=True)]
    return Rows(
        reasons=list(reasons),
        outcome=_joined(outcomes, np.int16),
        is_post=_joined([digest.is_post for digest in digests], np.bool_),
        id_hash=_joined([digest.id_hash for digest in digests], np.uint64),
        split=_joined([splits_of(digest.place, options) for digest in digests], np.uint8),
        tuples=_joined([digest.tuples for digest in digests], np.int32),
        first_image=first_image[:-1],
        post=_joined(posts, np.int64),
        content=_joined([digest.content.ravel() for digest in digests], np.uint64).reshape(-1, 2),
        near=_joined([digest.near for digest in digests], np.uint64),
    )


def _joined(arrays: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([np.empty(0, kind), *arrays])


def _duplicate_posts(rows: Rows) -> np.ndarray:
    """Whether a post's id came before, bool [posts]."""
    post = np.flatnonzero(rows.is_post)
    order = np.argsort(rows.id_hash[post], kind="stable")
    ids = rows.id_hash[post[order]]
    duplicate = np.zeros(len(rows.is_post), np.bool_)
    duplicate[post[order[1:]]] = ids[1:] == ids[:-1]
    return duplicate


def _equal_images(content: np.ndarray) -> np.ndarray:
    """Number the distinct images, int64 [images]."""
    order = np.lexsort(content.T)
    differs = (content[order[1:]] != content[order[:-1]]).any(1)  # from the one before
    number = np.zeros(len(order), np.int64)
    number[order[1:]] = np.cumsum(differs)
    return number


def _first_of_each(number: np.ndarray) -> np.ndarray:
    """The first position of each number from 0 to the largest, int64 [numbers]; any where there is none."""
    first = np.empty(number.max(initial=-1) + 1, np.int64)
    first[number[::-1]] = np.arange(len(number))[::-1]
    return first


def _count(rows: Rows, duplicate: np.ndarray, used: np.ndarray) -> tuple[dict[str, int], Counter[str]]:
    """How many posts there are by what became of them, and those that are bad."""
    numbers = np.bincount(rows.outcome[~duplicate & ~used], minlength=len(rows.reasons))
    counts = Counter(dict(zip(rows.reasons, numbers.tolist(), strict=True)))
    counts[NEAR_DUPLICATE] = counts.pop(USED)  # the images of the others are in other splits
    counts[DUPLICATE_ID] += int(duplicate.sum())
    counts = +counts  # without zeros
    bad = Counter({reason: count for reason, count in counts.items() if reason not in LEFT_OUT})
    without = counts.pop("without emoji", 0)
    posts = {"read": len(used), USED: int(used.sum()), "without emoji": without}
    return posts | dict(sorted(counts.items())), bad


def _cut(
    rows: Rows, image: np.ndarray, same: np.ndarray, split: np.ndarray, options: BuildOptions
) -> list[ShardTask]:
    """Cut each split into shards, in the order of the source; all arguments are [samples that stay]."""
    stored = _first_of_each(same)[same]  # of each sample, which one's image is stored
    tasks = []
    for number, name in enumerate(SPLITS):
        samples = np.flatnonzero(split == number)
        first = samples[stored[samples] == samples]
        place = np.searchsorted(first, stored[samples])  # [samples], among the images of the split
        samples, place = (each[np.argsort(place, kind="stable")] for each in (samples, place))
        chunk = np.searchsorted(rows.first_image, image[samples], "right") - 1
        places = np.stack([place, chunk, image[samples] - rows.first_image[chunk]], 1)
        size = options.images_per_shard
        for shard, start in enumerate(range(0, len(first), size)):
            low, high = np.searchsorted(place, [start, start + size])
            here = places[low:high] - [start, 0, 0]
            tasks.append(ShardTask(name, f"{name}/{shard:06d}.tar", min(size, len(first) - start), here))
    return tasks
