"""A chunk of posts to a part: everything that is needed of them, with each image opened once.

    chunk ─► emojis of its posts, without what is denied ─► images, small and encoded ─► members
                                                         ─► rows of posts and images ─► part, last

A part is whole or absent, and holds a hash of what it was made from, so that a build that goes on after a
kill knows which parts it can keep.
"""

import errno
import hashlib
import zlib
from dataclasses import dataclass

import numpy as np

from ..emojis.text import CANONICAL_VERSION
from ..images.duplicates import WIDTH, fingerprint
from ..images.read import ImageError, load_image, read_image
from ..posts.outcomes import (
    DENIED_ACCOUNT,
    DENIED_EMOJI,
    DENIED_WORD,
    LEFT_OUT,
    MISSING_IMAGE,
    UNREADABLE_IMAGE,
    USED,
    WITHOUT_IMAGE,
)
from ..posts.post import ImageSource, Post, Reject
from ..shards.encoding import ENCODERS
from ..shards.layout import members_name, part_name
from ..store.folder import Folder
from ..store.trouble import MISSING
from .labels import NO_TIME, emojis_of, hash64, hash_account, texts_of, why_without
from .options import BuildOptions
from .parts import PART_VERSION, Part, read_part
from .plan import Digest

LEADS_NOWHERE = (errno.ENAMETOOLONG, errno.ELOOP)  # a path that a post gives


@dataclass(frozen=True)
class Chunk:
    """Posts that lie together in the source."""

    number: int
    entries: tuple[Post | Reject, ...]

    def fingerprint(self, options: BuildOptions) -> str:
        """A hash of all that a part is made from: a finished part of the same fingerprint is kept."""
        content = (PART_VERSION, CANONICAL_VERSION, options.of_digest(), self.entries)
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def content(self, options: BuildOptions) -> bytes:
        """What the posts say, to be hashed: the same wherever their images lie."""
        return "".join(repr(_content(entry, options)) for entry in self.entries).encode()


def _content(entry: Post | Reject, options: BuildOptions) -> tuple | str:
    if isinstance(entry, Reject):
        return entry.reason
    content = (entry.id, entry.account, entry.caption, entry.comments, entry.reactions, len(entry.images))
    return (*content, entry.time) if options.split_by == "time" else content


def digest_chunk(folder: Folder, options: BuildOptions, chunk: Chunk) -> Digest:
    """Write the part of a chunk; or keep it, when it is there and whole."""
    kept = _read_kept(folder, options, chunk)
    if kept is not None:
        return _summary(kept, chunk.number)
    posts = [_digest_post(entry, options) for entry in chunk.entries]
    part = _to_part(posts, chunk.fingerprint(options))
    members = b"".join(image.encoded for post in posts for image in post.images)
    folder.remove(part_name(chunk.number))  # an old part must not stand beside new members
    folder.write(members_name(chunk.number), members)
    folder.write(part_name(chunk.number), part.to_bytes())
    return _summary(part, chunk.number)


@dataclass(frozen=True)
class _Image:
    content: bytes  # hash of the pixels
    near: np.ndarray  # int8 [WIDTH], fingerprint
    encoded: bytes


@dataclass(frozen=True)
class _Digested:
    """One post, or what could not be read as one."""

    entry: Post | Reject
    outcome: str
    emojis: list[str]
    denied: int = 0  # tuples
    images: tuple[_Image, ...] = ()
    unread: tuple[tuple[int, str], ...] = ()  # number in the post, reason


def _digest_post(entry: Post | Reject, options: BuildOptions) -> _Digested:
    if isinstance(entry, Reject):
        return _Digested(entry, entry.reason, [])
    if options.deny.account_of(entry):
        return _Digested(entry, DENIED_ACCOUNT, [])
    if any(map(options.deny.has_word, texts_of(entry, options))):
        return _Digested(entry, DENIED_WORD, [])
    emojis = emojis_of(entry, options)
    kept = [emoji for emoji in emojis if not options.deny.has_emoji(emoji)]
    if not kept:
        return _Digested(entry, DENIED_EMOJI if emojis else why_without(entry, options), [])
    if not entry.images:
        return _Digested(entry, WITHOUT_IMAGE, [])
    images: dict[bytes, _Image] = {}  # an image that comes twice in a post counts once
    unread = []
    for number, source in enumerate(entry.images):
        pixels = _read_pixels(source, options)
        if isinstance(pixels, str):
            unread.append((number, pixels))
        elif (content := _hash_pixels(pixels)) not in images:
            images[content] = _Image(content, fingerprint(pixels), ENCODERS[options.encoding](pixels))
    if not images:
        return _Digested(entry, unread[0][1], [])
    return _Digested(entry, USED, kept, len(emojis) - len(kept), tuple(images.values()), tuple(unread))


def _to_part(posts: list[_Digested], fingerprint: str) -> Part:
    reasons = {USED: 0}
    for post in posts:
        reasons.setdefault(post.outcome, len(reasons))
    entries = [post.entry for post in posts]
    images = [(row, image) for row, post in enumerate(posts) for image in post.images]
    return Part(
        fingerprint=fingerprint,
        reasons=list(reasons),
        names=[entry.id if isinstance(entry, Post) else entry.where for entry in entries],
        accounts=[hash_account(entry) if isinstance(entry, Post) else "" for entry in entries],
        emojis=[post.emojis for post in posts],
        unread=[(row, number, reason) for row, post in enumerate(posts) for number, reason in post.unread],
        denied=sum(post.denied for post in posts),
        outcome=np.array([reasons[post.outcome] for post in posts], np.uint16),
        is_post=np.array([isinstance(entry, Post) for entry in entries], np.bool_),
        time=np.array([_time(entry) for entry in entries], np.int64),
        post=np.array([row for row, _ in images], np.int32),
        content=np.frombuffer(b"".join(image.content for _, image in images), np.uint64).reshape(-1, 2),
        near=np.array([image.near for _, image in images], np.int8).reshape(-1, WIDTH),
        offset=np.cumsum([0, *(len(image.encoded) for _, image in images)], dtype=np.int64),
        crc32=np.array([zlib.crc32(image.encoded) for _, image in images], np.uint32),
    )


def _time(entry: Post | Reject) -> int:
    return NO_TIME if isinstance(entry, Reject) or entry.time is None else entry.time


def _summary(part: Part, chunk: int) -> Digest:
    return Digest(
        chunk=chunk,
        reasons=part.reasons,
        denied=part.denied,
        bad_images=len(part.unread),
        outcome=part.outcome,
        is_post=part.is_post,
        id_hash=np.array([hash64(name) for name in part.names], np.uint64),
        account=np.array([hash64(account) for account in part.accounts], np.uint64),
        time=part.time,
        tuples=np.array([len(emojis) for emojis in part.emojis], np.int32),
        post=part.post,
        content=part.content,
        near=part.near,
    )


def _read_kept(folder: Folder, options: BuildOptions, chunk: Chunk) -> Part | None:
    """The finished part of a chunk, if it is still right.

    Images that could not be read then are tried again: where one can be read now, the part is out of date.
    """
    try:
        part = read_part(folder, chunk.number)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    if part.fingerprint != chunk.fingerprint(options):
        return None
    if folder.size(members_name(chunk.number)) != part.offset[-1]:
        return None
    again = [(row, number) for row, number, _ in part.unread]
    for row, entry in enumerate(chunk.entries):
        if isinstance(entry, Post) and part.outcome[row] and part.reasons[part.outcome[row]] not in LEFT_OUT:
            again += [(row, number) for number in range(len(entry.images))]
    for row, number in again:
        entry = chunk.entries[row]
        assert isinstance(entry, Post)
        if not isinstance(_read_pixels(entry.images[number], options), str):
            return None
    return part


def _read_pixels(image: ImageSource, options: BuildOptions) -> np.ndarray | str:
    """The small square of an image, or why there is none."""
    try:
        return read_image(load_image(image), options.image_size)
    except ImageError as error:
        return str(error)
    except OSError as error:
        if isinstance(error, MISSING) or error.errno in LEADS_NOWHERE:
            return MISSING_IMAGE
        if error.errno is None:  # raised by our own readers, of a tar or table that has no such image
            return UNREADABLE_IMAGE
        raise  # the disk or the network failed: the image may be good


def _hash_pixels(pixels: np.ndarray) -> bytes:
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
