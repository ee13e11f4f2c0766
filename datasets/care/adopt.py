"""Tars that others wrote, or ours without their indexes, become a dataset where they lie.

    tars ─► adopt_tar, in workers: images read once ─► an index for each split, a note in .build/
         ─► rejects.jsonl ─► manifest, last

Nothing is copied and no tar is changed. An adoption that was killed goes on when it is started again: of a
tar that has a note only the checksum is computed again, to see that it is unchanged.
"""

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import simplejpeg
from zlib_ng import zlib_ng

from ..build.dataset import too_bad
from ..build.labels import emojis_of, hash64, hash_account, position_of, splits_of
from ..build.options import ADOPTION_OPTIONS, BuildOptions
from ..emojis.text import CANONICAL_VERSION
from ..errors import InputError
from ..posts.broken import check_broken
from ..posts.formats.webdataset import TarSlice, read_tar
from ..posts.images import ImageError, read_image
from ..posts.outcomes import BAD_IMAGE, BROKEN_FILES, LEFT_OUT, OTHER_SPLIT, USED, WITHOUT_EMOJI
from ..posts.post import ImageSource, Post, Reject
from ..shards.encoding import check_picture
from ..shards.index import ImageSpan, Label, count_posts, index_rows, read_index
from ..shards.layout import (
    BUILD_FOLDER,
    MANIFEST,
    REJECTS,
    SPLITS,
    index_name,
    is_hidden,
    note_name,
    split_of,
)
from ..shards.manifest import Manifest, ShardEntry, read_manifest, split_by_count, write_manifest
from ..shards.tar import map_tar, read_sample, read_samples
from ..shards.vocabulary import why_empty
from ..store.atomic import sha256
from ..store.folder import Folder, is_safe
from ..store.lock import writing
from ..work.processes import mapper
from ..work.progress import progress

Sample = tuple[ImageSpan, Label]


@dataclass
class TarContents:
    """What is in a tar."""

    samples: dict[str, list[Sample]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    kinds: set[str] = field(default_factory=set)  # npy, jpg, or foreign where only read_image can tell
    posts: Counter[str] = field(default_factory=Counter)  # by what became of them
    left_out: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)


@dataclass(frozen=True)
class _Note:
    """What the manifest needs to know of a tar, kept in .build/ until all tars are read."""

    fingerprint: str  # of the tar and of the options
    ours: bool  # as we built it: its folder is its split
    entries: list[ShardEntry]  # whose tuples count rare emojis, too, until the vocabulary is known
    emojis: list[dict[str, int]]  # of each entry
    kinds: list[str]
    posts: dict[str, int]
    left_out: dict[str, int]
    rejects: list[Reject]

    @classmethod
    def from_json(cls, content: str | bytes) -> "_Note":
        values = json.loads(content)
        entries = [ShardEntry(**entry) for entry in values.pop("entries")]
        return cls(**values | {"entries": entries, "rejects": [Reject(**each) for each in values["rejects"]]})


def adopt(
    folder: Folder,
    options: BuildOptions,
    *,
    max_bad: float,
    skip_broken: Collection[int | str] = (),
    workers: int,
) -> Manifest:
    """Make a folder of tars a dataset.

    Accounts or posts are split as by the builder, where `auto` is always by account. But each tar is read
    alone: images and ids that are in several tars are not found.

    Args:
        max_bad: the share of the posts that may be rejected, 0 to 1.
        skip_broken: damaged tars to go on with as far as they can be read, see `check_broken`.

    Raises:
        InputError: the folder holds a dataset already, or no tars; or a tar is damaged, too many posts are
            bad, or nothing to train on is in them.
    """
    assert options.split_by != "time"  # which tars do not tell
    tars = [name for name in folder.names() if name.endswith(".tar") and not is_hidden(name)]
    if not tars:
        raise InputError(f"{folder}: no .tar is there.")
    if unsafe := next((name for name in tars if not is_safe(name)), None):
        raise InputError(
            f"{folder}/{unsafe!r}: a trainer reads names of ASCII letters and digits. Rename it."
        )
    with writing(folder, "shards adopt") as lock:
        if folder.size(MANIFEST) is not None:
            return _complete(folder, options, tars)
        notes = []
        with progress(len(tars), "adopt", "tars") as bar, mapper("local", workers) as run:
            for note in run(partial(_adopt_tar, folder, options), tars):
                notes.append(note)
                bar.update()
        rejects = [each for note in notes for each in note.rejects]
        broken = {f"{folder}/{each.file}": each.reason for each in rejects if each.file}
        check_broken(broken, skip_broken)
        _check_bad(notes, rejects, max_bad)
        manifest = _manifest_of(folder, options, notes)
        if rejects:
            folder.write(REJECTS, "".join(each.to_json() for each in rejects))
        lock.check()
        write_manifest(manifest, folder)
        folder.remove_folder(BUILD_FOLDER)
    return manifest


def _complete(folder: Folder, options: BuildOptions, tars: list[str]) -> Manifest:
    """The manifest of tars that are adopted already. Raises InputError where it is of others."""
    manifest = read_manifest(folder)
    asked = {name: getattr(options, name) for name in ADOPTION_OPTIONS} | {"split_by": _split_by(options)}
    recorded = {**manifest.options, "split_by": manifest.split_by}
    if not recorded.pop("adopted", False):
        asked["split_by"] = manifest.split_by  # ours have it by their folders
    known = {entry.name: entry.bytes for entry in manifest.shards}
    if recorded != asked or known != {name: folder.size(name) for name in tars}:
        raise InputError(
            f"{folder} holds a dataset already. To adopt its tars anew, remove its {MANIFEST} first."
        )
    folder.remove_folder(BUILD_FOLDER)
    print(f"{folder} holds this dataset already, complete.", file=sys.stderr)
    return manifest


def _check_bad(notes: list[_Note], rejects: list[Reject], max_bad: float) -> None:
    """Raise InputError where more posts of all tars are bad than may be."""
    posts = sum((Counter(note.posts) for note in notes), Counter())
    bad = Counter(
        {reason: count for reason, count in posts.items() if reason not in ("read", USED, *LEFT_OUT)}
    )
    if bad.total() > max_bad * posts["read"]:
        raise too_bad(bad, posts["read"], max_bad, [each for each in rejects if not each.file])


def read_adopted(path: Path, name: str, options: BuildOptions) -> TarContents:
    """Read the tar that is called `name` in its dataset.

    Raises:
        InputError: it is ours, and damaged, or of another image size.
    """
    found = TarContents()
    content = map_tar(path)
    samples = _read_ours if _is_ours(content) else _read_foreign
    split = split_of(name)
    for span, labels in samples(content, path, name, options, found):
        splits = [split or _split_of_label(label, options) for label in labels]
        first, *others = (label for label, each in zip(labels, splits, strict=True) if each == splits[0])
        found.samples[splits[0]].append((span, replace(first, reposts=tuple(others))))
        found.left_out[OTHER_SPLIT] += len(splits) - splits.count(splits[0])
    return found


def _adopt_tar(folder: Folder, options: BuildOptions, name: str) -> _Note:
    """Write the indexes of a tar; or keep them, when they are noted and whole."""
    with folder.reading(name) as path:
        size, digest = path.stat().st_size, sha256(path)
        about = (digest, CANONICAL_VERSION, name, [getattr(options, each) for each in ADOPTION_OPTIONS])
        fingerprint = hashlib.sha256(repr(about).encode()).hexdigest()
        if note := _read_note(folder, name, fingerprint):
            return note
        ours = split_of(name) is not None and _is_ours(map_tar(path))
        found = read_adopted(path, name, options)
    entries, emojis = [], []
    for split, samples in found.samples.items():
        if samples:
            index = index_rows(samples)
            rows, file = (
                index.to_bytes(),
                index_name(name) if ours else index_name(name, split),
            )
            folder.write(file, rows)
            counts = Counter(index.emojis[emoji] for emoji in index.emoji.tolist())
            index_digest = hashlib.sha256(rows).hexdigest()
            entries.append(
                ShardEntry(name, file, split, len(samples), counts.total(), size, digest, index_digest)
            )
            emojis.append(dict(sorted(counts.items())))
    note = _Note(
        fingerprint=fingerprint,
        ours=ours,
        entries=entries,
        emojis=emojis,
        kinds=sorted(found.kinds),
        posts=dict(found.posts),
        left_out=dict(found.left_out),
        rejects=found.rejects,
    )
    folder.write(note_name(name), json.dumps(asdict(note), ensure_ascii=False))
    return note


def _read_note(folder: Folder, name: str, fingerprint: str) -> _Note | None:
    """The note of an adopted tar, if it is of this tar and these options, and its indexes are whole."""
    try:
        note = _Note.from_json(folder.read(note_name(name)))
        sums = [hashlib.sha256(folder.read(entry.index)).hexdigest() for entry in note.entries]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    whole = sums == [entry.index_sha256 for entry in note.entries]
    return note if whole and note.fingerprint == fingerprint else None


def _is_ours(content: np.ndarray) -> bool:
    """Whether a tar begins as ours do, with an account that is hashed already."""
    try:
        _, label = read_sample(content, 0)
    except ValueError:
        return False
    return re.fullmatch("[0-9a-f]{32}", label.account) is not None


def _read_ours(
    content: np.ndarray, path: Path, name: str, options: BuildOptions, found: TarContents
) -> Iterator[tuple[ImageSpan, list[Label]]]:
    posts = set()
    try:
        for span, label in read_samples(content):
            image = content[span.offset : span.offset + span.length]
            found.kinds.add(span.extension)
            check_picture(image, span.extension, options.image_size)
            labels = [replace(label, reposts=()), *label.reposts]
            posts |= {each.post for each in labels}
            yield span, labels
    except ValueError as error:
        raise InputError(
            f"{name} is a shard of ours, and cannot be used: {error}. Copy it again, or give the "
            "--image-size that it was built with."
        ) from error
    found.posts.update({"read": len(posts), USED: len(posts)})


def _read_foreign(
    content: np.ndarray, path: Path, name: str, options: BuildOptions, found: TarContents
) -> Iterator[tuple[ImageSpan, list[Label]]]:
    """Each image with the labels of its posts; there are several where a tar has our labels, with reposts."""
    for key, entries in groupby(read_tar(path, name, name.removesuffix(".tar")), key=itemgetter(0)):
        images: dict[ImageSource, list[Label]] = {}
        for _, entry in entries:
            if isinstance(entry, Reject) and entry.reason in BROKEN_FILES:
                found.left_out[entry.reason] += 1
                found.rejects.append(replace(entry, file=name))
                continue
            outcome = _label_images(entry, options, found, images)
            found.posts.update(["read", outcome])
            if outcome not in (USED, *LEFT_OUT):
                where = entry.where if isinstance(entry, Reject) else f"post {entry.id}"
                found.rejects.append(Reject(where, outcome))
        for image, labels in images.items():
            assert isinstance(image, TarSlice)
            member = content[image.offset : image.offset + image.length]
            yield ImageSpan(key, "", image.offset, image.length, zlib_ng.crc32(member)), labels


def _label_images(
    entry: Post | Reject, options: BuildOptions, found: TarContents, images: dict[ImageSource, list[Label]]
) -> str:
    """Add the label of a post to each of its images that can be read; return what became of the post."""
    if isinstance(entry, Reject):
        return entry.reason
    emojis = emojis_of(entry, options)
    if not emojis:
        return WITHOUT_EMOJI
    label = Label(entry.id, hash_account(entry), tuple(emojis))
    bad = []
    for image in entry.images:
        try:
            if image not in images:
                found.kinds.add(_kind(image.read(), options.image_size))
                images[image] = []
            images[image].append(label)
        except ImageError as error:
            bad.append(str(error))
    if len(bad) == len(entry.images):
        return bad[0]
    found.left_out[BAD_IMAGE] += len(bad)
    return USED


def _kind(image: bytes, size: int) -> str:
    """jpg if a plain decoder gives what read_image gives, else foreign. Raises ImageError."""
    pixels = read_image(image, size)
    member, plain = np.frombuffer(image, np.uint8), np.empty_like(pixels)
    try:
        check_picture(member, "jpg", size)
        simplejpeg.decode_jpeg(member, buffer=plain)
    except ValueError:
        return "foreign"
    return "jpg" if np.array_equal(plain, pixels) else "foreign"


def _split_of_label(label: Label, options: BuildOptions) -> str:
    position = hash64(label.post) if _split_by(options) == "post" else position_of(label.account)
    return SPLITS[splits_of(np.array([position], np.uint64), options)[0]]


def _split_by(options: BuildOptions) -> str:
    """What is dealt: each tar is read alone, so that nobody can tell whether accounts are too few."""
    return "account" if options.split_by == "auto" else options.split_by


def _split_by_of(folder: Folder, shards: list[ShardEntry]) -> str:
    """What was dealt to the splits of our own tars, which do not tell it: posts, where somebody is in two."""
    accounts = []
    for split in SPLITS:
        indexes = (read_index(folder, entry) for entry in shards if entry.split == split)
        hashes = (np.array([int(each[:16], 16) for each in index.accounts], np.uint64) for index in indexes)
        accounts.append(np.unique(np.concatenate([np.empty(0, np.uint64), *hashes])))
    everybody = np.concatenate(accounts)
    return "account" if len(np.unique(everybody)) == len(everybody) else "post"


def _manifest_of(folder: Folder, options: BuildOptions, notes: list[_Note]) -> Manifest:
    """The manifest of adopted tars. Raises InputError where they do not make a dataset."""
    kinds = {kind for note in notes for kind in note.kinds}
    if "npy" in kinds and len(kinds) > 1:
        raise InputError(f"{folder}: shards of ours with .npy, and tars with other images. Part them.")
    train: Counter[str] = Counter()
    for note in notes:
        for entry, emojis in zip(note.entries, note.emojis, strict=True):
            if entry.split == "train":
                train.update(emojis)
    posts = sum((Counter(note.posts) for note in notes), Counter())
    vocabulary, rare = split_by_count(train, options.min_count)
    shards = [
        replace(entry, tuples=known, outside=entry.tuples - known)
        for note in notes
        for entry, emojis in zip(note.entries, note.emojis, strict=True)
        for known in [sum(count for emoji, count in emojis.items() if emoji in vocabulary)]
    ]
    shards.sort(key=lambda entry: SPLITS.index(entry.split))
    ours = all(note.ours for note in notes)
    kept = {name: getattr(options, name) for name in ADOPTION_OPTIONS}
    kept["split_by"] = _split_by_of(folder, shards) if ours else _split_by(options)
    used = count_posts(read_index(folder, entry) for entry in shards)
    again = posts.pop(USED) - used  # how often posts were counted again, in further tars
    manifest = Manifest(
        image_size=options.image_size,
        encoding=kinds.pop() if len(kinds) == 1 else "foreign",
        canonical_version=CANONICAL_VERSION,
        options=kept if ours else kept | {"adopted": True},
        vocabulary=vocabulary,
        rare=rare,
        posts={"read": posts.pop("read") - again, USED: used, WITHOUT_EMOJI: posts.pop(WITHOUT_EMOJI, 0)}
        | dict(sorted(posts.items())),
        shards=tuple(shards),
        left_out=dict(+sum((Counter(note.left_out) for note in notes), Counter())),
    )
    if not vocabulary:
        raise InputError(why_empty(manifest))
    return manifest
