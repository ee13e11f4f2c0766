"""Tars that others wrote, or ours without their indexes, become a dataset where they lie.

    tars ─► adopt_tar, in workers: images read once ─► an index for each split, a note in .build/
         ─► rejects.jsonl ─► manifest, last

Nothing is copied and no tar is changed. An adoption that was killed goes on when it is started again: of a
tar that has a note only the checksum is computed again, to see that it is unchanged.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from ..build.options import ADOPTION_OPTIONS, BuildOptions
from ..emojis.text import CANONICAL_VERSION
from ..errors import InputError
from ..posts.limits import check_broken, too_bad
from ..posts.outcomes import LEFT_OUT, USED, WITHOUT_EMOJI
from ..posts.post import Reject
from ..printable import printable
from ..shards.index import count_posts, index_rows, read_index
from ..shards.layout import (
    BEGUN,
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
from ..shards.tar import map_tar
from ..shards.vocabulary import why_empty
from ..store.atomic import sha256
from ..store.folder import Folder, is_safe
from ..store.lock import writing
from ..work.processes import mapper
from ..work.progress import progress
from .contents import is_ours, read_adopted, split_by_of

NOTE_VERSION = 2  # to be raised when other images are read: others' notes are made again


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
        entries = [
            ShardEntry(**entry | {"reactions": tuple(entry["reactions"])}) for entry in values.pop("entries")
        ]
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
    if folder.size(MANIFEST) is None and folder.size(BEGUN) is not None:
        raise InputError(
            f"{folder} holds a build that is not done. Run the same `emojigan shards build` again; or remove "
            f"{folder}/{BUILD_FOLDER}, to adopt what is there."
        )
    with writing(folder, "shards adopt") as folder:
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
        write_manifest(manifest, folder)
        folder.remove_folder(BUILD_FOLDER)
    return manifest


def _complete(folder: Folder, options: BuildOptions, tars: list[str]) -> Manifest:
    """The manifest of tars that are adopted already. Raises InputError where it is of others."""
    manifest = read_manifest(folder)
    asked = {name: getattr(options, name) for name in ADOPTION_OPTIONS} | {"split_by": split_by_of(options)}
    recorded = {**manifest.options, "split_by": manifest.split_by}
    if not recorded.pop("adopted", False):
        asked["split_by"] = manifest.split_by  # ours have it by their folders
    known = {entry.name: entry.bytes for entry in manifest.shards}
    same = recorded == asked and known == {name: folder.size(name) for name in tars if name in known}
    if not same or any(_has_samples(folder, name, options) for name in tars if name not in known):
        raise InputError(
            f"{folder} holds a dataset already. To adopt its tars anew, remove its {MANIFEST} first."
        )
    folder.remove_folder(BUILD_FOLDER)
    print(printable(f"{folder} holds this dataset already, complete."), file=sys.stderr)
    return manifest


def _has_samples(folder: Folder, name: str, options: BuildOptions) -> bool:
    with folder.reading(name) as path:
        return any(read_adopted(path, name, options).samples.values())


def _check_bad(notes: list[_Note], rejects: list[Reject], max_bad: float) -> None:
    """Raise InputError where more posts of all tars are bad than may be."""
    posts = sum((Counter(note.posts) for note in notes), Counter())
    bad = Counter(
        {reason: count for reason, count in posts.items() if reason not in ("read", USED, *LEFT_OUT)}
    )
    if bad.total() > max_bad * posts["read"]:
        raise too_bad(bad, posts["read"], max_bad, [each for each in rejects if not each.file])


def _adopt_tar(folder: Folder, options: BuildOptions, name: str) -> _Note:
    """Write the indexes of a tar; or keep them, when they are noted and whole."""
    with folder.reading(name) as path:
        size, digest = path.stat().st_size, sha256(path)
        kept = [getattr(options, each) for each in ADOPTION_OPTIONS]
        about = (NOTE_VERSION, digest, CANONICAL_VERSION, name, kept)
        fingerprint = hashlib.sha256(repr(about).encode()).hexdigest()
        if note := _read_note(folder, name, fingerprint):
            return note
        ours = split_of(name) is not None and is_ours(map_tar(path))
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
                ShardEntry(
                    name=name,
                    index=file,
                    split=split,
                    images=len(samples),
                    tuples=counts.total(),
                    bytes=size,
                    sha256=digest,
                    index_sha256=index_digest,
                    reactions=index.reaction_sizes,
                )
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


def _split_by_folders(folder: Folder, shards: list[ShardEntry]) -> str:
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
    kept["split_by"] = _split_by_folders(folder, shards) if ours else split_by_of(options)
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
