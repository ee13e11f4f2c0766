"""What is known of a post without its images: its emojis, who posted it, and its split.

Post ─► emojis_of ─► or why_without
     ─► hash_account ─► hash64 ─► deal, all posts at once ─► splits_of
"""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..emojis.disguised import has_disguised
from ..emojis.text import extract
from ..posts.outcomes import DISGUISED_EMOJIS, WITHOUT_EMOJI
from ..posts.post import Post
from ..shards.layout import SPLITS
from .options import BuildOptions

MOST_REPEATS = 1000  # of one emoji in one post: a viral post must not become the dataset
FEWEST_ACCOUNTS = 30  # of which a tenth can stand for others
LEAST_OF_SHARE = 0.25  # of the images that its share asks for, that a split must get
NO_TIME = np.iinfo(np.int64).min


def hash_account(post: Post) -> str:
    """The pseudonym that stands for an account in everything we write, as 32 hexadecimal digits.

    It keeps names out of the shards. Somebody who guesses a name can still check whether it is there.
    """
    return hashlib.blake2b(post.account.encode(), digest_size=16, person=b"emojigan-account").hexdigest()


def emojis_of(post: Post, options: BuildOptions) -> list[str]:
    """The emojis that a post counts for, in reading order, denied ones too."""
    found: list[tuple[str, int]] = []
    for text in texts_of(post, options):
        found += ((emoji, 1) for emoji in extract(text, keep_variants=options.keep_variants))
    if "reactions" in options.texts:
        for reaction, count in post.reactions:
            emojis = extract(reaction, keep_variants=options.keep_variants)
            found += ((emoji, count) for emoji in emojis if count > 0)
    most = 1 if options.repeat == "once" else MOST_REPEATS
    counted: Counter[str] = Counter()
    emojis = []
    for emoji, count in found:
        taken = min(count, most - counted[emoji])
        counted[emoji] += taken
        emojis += [emoji] * taken
    return emojis


def why_without(post: Post, options: BuildOptions) -> str:
    """What a post without emojis is counted under."""
    texts = texts_of(post, options)
    texts += [reaction for reaction, _ in post.reactions] if "reactions" in options.texts else []
    return DISGUISED_EMOJIS if any(map(has_disguised, texts)) else WITHOUT_EMOJI


def texts_of(post: Post, options: BuildOptions) -> list[str]:
    """The texts of a post in which emojis, and denied words, are looked for."""
    texts = [post.caption] if "caption" in options.texts else []
    return texts + (list(post.comments) if "comments" in options.texts else [])


def hash64(text: str) -> int:
    """A hash between 0 and 2^64, the same on every machine."""
    return int(hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), 16)


@dataclass(frozen=True)
class Lot:
    """What posts are dealt to: a split, or a fold of train."""

    split: str
    fold: int | None = None

    def __str__(self) -> str:
        return self.split if self.fold is None else f"fold {self.fold} of {self.split}"


def lots_of(options: BuildOptions) -> tuple[Lot, ...]:
    """All that posts are dealt to, in the order of SPLITS."""
    folds = [None] if options.folds is None else [*range(options.folds)]
    return tuple(Lot(split, fold) for split in SPLITS for fold in (folds if split == "train" else [None]))


@dataclass(frozen=True)
class Deal:
    """The splits and folds of posts."""

    split_by: str  # what was dealt: one of SPLIT_BY
    lots: tuple[Lot, ...]
    lot: np.ndarray  # uint8 [posts], positions in `lots`
    why: str  # it is not by account, where `auto` decided; else empty


def deal(
    options: BuildOptions, images: np.ndarray, *, account: np.ndarray, identity: np.ndarray, time: np.ndarray
) -> Deal:
    """Deal posts to the splits, and those of train to folds, as the options ask.

    Args:
        images: int64 [posts], how many each has that can be used; a post without any counts for nothing.
        account: uint64 [posts], where the accounts lie between 0 and 2^64.
        identity: uint64 [posts], hashes of the ids.
        time: int64 [posts], in seconds; only asked for where the posts are dealt by it.
    """
    split_by, why, lots = options.split_by, "", lots_of(options)
    if split_by == "auto":
        why = _why_not_by_account(options, images, account)
        split_by = "post" if why else "account"
    if split_by == "time":
        return Deal(split_by, lots, _split_by_time(options, np.flatnonzero(images), identity, time), why)
    return Deal(split_by, lots, _lots_of(account if split_by == "account" else identity, options), why)


def _why_not_by_account(options: BuildOptions, images: np.ndarray, account: np.ndarray) -> str:
    """Why accounts are not dealt: there are few, or a split would get next to nothing. Empty if they are."""
    used = np.flatnonzero(images)
    accounts = len(np.unique(account[used]))
    if accounts == len(used) or not options.val_share + options.test_share:
        return ""  # each post is an account of its own, or all is train
    if accounts < FEWEST_ACCOUNTS:
        return f"Only {accounts} account{'s' if accounts > 1 else ''}."
    counts = np.bincount(splits_of(account[used], options), images[used], len(SPLITS)).astype(int).tolist()
    shares = 1 - options.val_share - options.test_share, options.val_share, options.test_share
    for split, share, count in zip(SPLITS, shares, counts, strict=True):
        if count < LEAST_OF_SHARE * share * sum(counts):
            return f"By account, {split} would get {count:,} of {sum(counts):,} images, for few have most."
    return ""


def _split_by_time(
    options: BuildOptions, used: np.ndarray, identity: np.ndarray, time: np.ndarray
) -> np.ndarray:
    """The newest posts are test, those before them val; of one second, the hash of the id decides."""
    assert (time[used] != NO_TIME).all()  # the survey refuses posts without one
    assert options.folds is None  # which the command line refuses: later folds would learn from earlier ones
    oldest_first = used[np.lexsort((identity[used], time[used]))]
    test = len(used) - round(len(used) * options.test_share)
    val = max(0, test - round(len(used) * options.val_share))
    split = np.zeros(len(time), np.uint8)
    split[oldest_first[val:test]] = SPLITS.index("val")
    split[oldest_first[test:]] = SPLITS.index("test")
    return split


def splits_of(position: np.ndarray, options: BuildOptions) -> np.ndarray:
    """The splits of accounts, or of posts, by a hash alone: none is in two, and more posts move none.

    Args:
        position: uint64 [n], where they lie between 0 and 2^64.

    Returns:
        uint8 [n], positions in SPLITS.
    """
    share = position / 2.0**64
    in_test = share < options.test_share
    in_val = ~in_test & (share < options.test_share + options.val_share)
    return np.select([in_test, in_val], [SPLITS.index("test"), SPLITS.index("val")], 0).astype(np.uint8)


def _lots_of(position: np.ndarray, options: BuildOptions) -> np.ndarray:
    """The same of splits and folds: uint8 [n], positions in `lots_of`."""
    split, folds = splits_of(position, options), options.folds or 1
    held_out = options.test_share + options.val_share
    fold = (position / 2.0**64 - held_out) / max(1 - held_out, 1e-9) * folds  # means nothing beyond train
    return np.where(split == 0, fold.clip(0, folds - 1), split + folds - 1).astype(np.uint8)
