"""What a trainer must know of a shard, so that it never parses tar.

    samples of a tar ─► index_rows ─► Index ─► to_bytes ─► 000000.index ─► from_bytes

One row per image (where its bytes lie, their CRC-32, the sample's key), one per post, and one per tuple
(which image, which emoji, which post). A file is in the safetensors format, for it holds arrays and runs
nothing; strings travel in it as JSON bytes. Its SHA-256 is in the manifest.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..store.folder import Folder
from ..store.trouble import MISSING, patiently
from .manifest import MOST, ShardEntry

_TEXTS = ("keys", "extensions", "posts", "accounts", "emojis")
_ARRAYS = {
    "offset": np.int64,
    "length": np.int64,
    "crc32": np.uint32,
    "image": np.int32,
    "emoji": np.int32,
    "post": np.int32,
}


@dataclass(frozen=True)
class Index:
    """Rows of one shard. Every image has at least one tuple."""

    keys: tuple[str, ...]  # [images], the samples' names in the tar
    extensions: tuple[str, ...]  # [images], of the image members
    posts: tuple[str, ...]  # [posts]
    accounts: tuple[str, ...]  # [posts], hashed
    emojis: tuple[str, ...]  # the distinct canonical emojis of the shard, sorted
    offset: np.ndarray  # int64 [images], first byte of the image in the tar
    length: np.ndarray  # int64 [images], bytes
    crc32: np.ndarray  # uint32 [images], of those bytes
    image: np.ndarray  # int32 [tuples], row of the tuple's image; ascending
    emoji: np.ndarray  # int32 [tuples], position in `emojis`
    post: np.ndarray  # int32 [tuples], row of the tuple's post

    def post_of_image(self) -> list[str]:
        """The id of the post that first had each image, [images]."""
        first = np.searchsorted(self.image, np.arange(len(self.keys)))
        return [self.posts[row] for row in self.post[first]]

    @property
    def reaction(self) -> np.ndarray:
        """Whose a tuple is, int64 [tuples]: the number of a post under an image, ascending from 0."""
        other = (np.diff(self.image) != 0) | (np.diff(self.post) != 0)  # than the tuple before
        return np.concatenate([[0], np.cumsum(other)])[: len(self.image)]

    @property
    def reaction_sizes(self) -> tuple[int, ...]:
        """How many reactions have 1, 2, … emojis; the last number, of MOST, is of more, too."""
        sizes = np.bincount(self.reaction).clip(max=MOST)
        return tuple(np.bincount(sizes, minlength=MOST + 1)[1:].tolist())

    def samples(self) -> "list[tuple[ImageSpan, Label]]":
        """What `index_rows` made the rows from."""
        labels: list[list[Label]] = [[] for _ in self.keys]
        rows = np.stack([self.image, self.post, self.emoji], axis=1).tolist()
        for (image, post), tuples in groupby(rows, itemgetter(0, 1)):
            emojis = tuple(self.emojis[emoji] for *_, emoji in tuples)
            labels[image].append(Label(self.posts[post], self.accounts[post], emojis))
        columns = (self.offset.tolist(), self.length.tolist(), self.crc32.tolist())
        spans = map(ImageSpan, self.keys, self.extensions, *columns)
        return [
            (span, replace(first, reposts=tuple(others)))
            for span, (first, *others) in zip(spans, labels, strict=True)
        ]

    def to_bytes(self) -> bytes:
        """The file; the same index always gives the same bytes."""
        texts = json.dumps({name: getattr(self, name) for name in _TEXTS}, ensure_ascii=False)
        arrays = {name: np.ascontiguousarray(getattr(self, name), kind) for name, kind in _ARRAYS.items()}
        return save({"texts": np.frombuffer(texts.encode(), np.uint8), **arrays})

    @classmethod
    def from_bytes(cls, content: bytes) -> "Index":
        """Read what `to_bytes` wrote. Raises ValueError for anything else."""
        try:
            arrays = load(content)
            texts = json.loads(arrays.pop("texts").tobytes())
            rows: dict[str, Any] = {name: tuple(texts[name]) for name in _TEXTS}
            for name, kind in _ARRAYS.items():
                if arrays[name].dtype != kind:
                    raise TypeError(f"{name} is {arrays[name].dtype}")
                rows[name] = arrays[name]
            for name in _TEXTS:
                "".join(rows[name]).encode()  # raises where one is no text, or cannot be UTF-8
            return cls(**rows)
        except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"not an index: {error}") from error


@dataclass(frozen=True)
class Label:
    """Who posted an image with which emojis: the JSON member of a sample."""

    post: str
    account: str  # hashed
    emojis: tuple[str, ...]  # canonical, in reading order; repeated as often as they count
    reposts: tuple["Label", ...] = ()  # other posts of the very same image

    def to_json(self) -> dict:
        content: dict = {"post": self.post, "account": self.account, "emojis": list(self.emojis)}
        return content | ({"reposts": [label.to_json() for label in self.reposts]} if self.reposts else {})

    @classmethod
    def from_json(cls, content: dict) -> "Label":
        reposts = tuple(cls.from_json(each) for each in content.get("reposts", ()))
        return cls(content["post"], content["account"], tuple(content["emojis"]), reposts)


@dataclass(frozen=True)
class ImageSpan:
    """Where the image of a sample lies in a tar."""

    key: str
    extension: str
    offset: int
    length: int
    crc32: int


def index_rows(samples: list[tuple[ImageSpan, Label]]) -> Index:
    """The index of samples, in the order in which they lie."""
    spans = [span for span, _ in samples]
    labels = [(row, each) for row, (_, label) in enumerate(samples) for each in (label, *label.reposts)]
    posts: dict[tuple[str, str], int] = {}
    for _, label in labels:
        posts.setdefault((label.post, label.account), len(posts))
    emojis = sorted({emoji for _, label in labels for emoji in label.emojis})
    position = {emoji: number for number, emoji in enumerate(emojis)}
    tuples = [
        (row, position[emoji], posts[label.post, label.account])
        for row, label in labels
        for emoji in label.emojis
    ]
    image, emoji, post = np.array(tuples, np.int32).reshape(-1, 3).T
    return Index(
        keys=tuple(span.key for span in spans),
        extensions=tuple(span.extension for span in spans),
        posts=tuple(post for post, _ in posts),
        accounts=tuple(account for _, account in posts),
        emojis=tuple(emojis),
        offset=np.array([span.offset for span in spans], np.int64),
        length=np.array([span.length for span in spans], np.int64),
        crc32=np.array([span.crc32 for span in spans], np.uint32),
        image=image,
        emoji=emoji,
        post=post,
    )


class ShardError(ValueError):
    """A shard that cannot be used; the message is the reason that it is quarantined for."""


def read_index(folder: Folder, shard: ShardEntry) -> Index:
    """The index of a shard, whole and consistent.

    Raises:
        ShardError: it is damaged or not there.
        InputError: this machine or the store is in trouble.
    """

    def read() -> bytes:
        try:
            return folder.read(shard.index)
        except MISSING as error:
            raise ShardError("index cannot be read: it is not there") from error

    index = parse_index(patiently(read, folder), shard)
    if not fits(index, shard) or not np.array_equal(np.unique(index.image), np.arange(shard.images)):
        raise ShardError("index does not fit the manifest")
    return index


def parse_index(content: bytes, shard: ShardEntry) -> Index:
    """The index in those bytes. Raises ShardError when they are not the ones that the manifest names."""
    if hashlib.sha256(content).hexdigest() != shard.index_sha256:
        raise ShardError("damaged index")
    try:
        return Index.from_bytes(content)
    except ValueError as error:
        raise ShardError(str(error)) from error


def fits(index: Index, shard: ShardEntry) -> bool:
    """Whether every row of an index lies within its tables, and every image within the tar."""
    per_image, per_tuple = (index.offset, index.length, index.crc32), (index.image, index.emoji, index.post)
    limits = {"image": len(index.keys), "emoji": len(index.emojis), "post": len(index.posts)}
    inside = [
        rows.min() >= 0 and rows.max() < limit
        for rows, limit in ((getattr(index, name), limit) for name, limit in limits.items())
        if len(rows)
    ]
    if len(index.offset):
        inside += [rows.min() >= 0 and rows.max() <= shard.bytes for rows in (index.offset, index.length)]
        inside += [(index.offset + index.length).max() <= shard.bytes]
    return (
        all(rows.ndim == 1 and len(rows) == shard.images == len(index.keys) for rows in per_image)
        and all(rows.ndim == 1 and len(rows) == len(index.image) for rows in per_tuple)
        and all(inside)
    )


def count_posts(indexes: Iterable[Index]) -> int:
    """Distinct posts by their id, in eight bytes for each."""
    hashes = [hash_posts(index) for index in indexes]
    return len(np.unique(np.concatenate(hashes))) if hashes else 0


def hash_posts(index: Index) -> np.ndarray:
    """A hash of each post's id, uint64 [posts]."""
    hashes = (hashlib.blake2b(post.encode(), digest_size=8).digest() for post in index.posts)
    return np.frombuffer(b"".join(hashes), np.uint64)
