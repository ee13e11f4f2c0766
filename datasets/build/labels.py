"""What is known of a post without its images: its emojis, who posted it, and the split of that account.

Post ─► emojis_of ─► or why_without
     ─► hash_account ─► position_of ─► splits_of
"""

import hashlib
from collections import Counter

import numpy as np

from ..emojis.disguised import has_disguised
from ..emojis.text import extract
from ..posts.outcomes import DISGUISED_EMOJIS, WITHOUT_EMOJI
from ..posts.post import Post
from ..shards.layout import SPLITS
from .options import BuildOptions

MOST_REPEATS = 1000  # of one emoji in one post: a viral post must not become the dataset


def hash_account(post: Post) -> str:
    """The pseudonym that stands for an account in everything we write, as 32 hexadecimal digits.

    It keeps names out of the shards. Somebody who guesses a name can still check whether it is there.
    """
    return hashlib.blake2b(post.account.encode(), digest_size=16, person=b"emojigan-account").hexdigest()


def position_of(account: str) -> int:
    """Where a hashed account lies between 0 and 2^64, which decides its split."""
    return hash64(account)


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


def splits_of(position: np.ndarray, options: BuildOptions) -> np.ndarray:
    """The splits of accounts, by their hash alone, so that nobody is in two and more posts move nobody.

    Args:
        position: uint64 [accounts], where the accounts lie between 0 and 2^64.

    Returns:
        uint8 [accounts], positions in SPLITS.
    """
    share = position / 2.0**64
    in_test = share < options.test_share
    in_val = ~in_test & (share < options.test_share + options.val_share)
    return np.select([in_test, in_val], [SPLITS.index("test"), SPLITS.index("val")], 0).astype(np.uint8)
