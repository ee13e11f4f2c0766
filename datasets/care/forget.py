"""An account leaves a dataset: every label of its posts, and the images that nobody else posted.

    shards, in workers: index ─► does it name the account? ─► the rest of its samples ─► a new tar, .index
                                                           ─► rejects.jsonl ─► manifest ─► old files removed

Shards that do not name the account stay byte for byte. The new ones stand beside the old ones until the new
manifest replaces the old one, so that a reader always finds one dataset or the other, and a killed command
goes on when it is run again. The vocabulary keeps its emojis, however few of their tuples are left; only
those with none leave it.
"""

import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

from zlib_ng import zlib_ng

from ..errors import InputError
from ..posts.outcomes import FORGOTTEN, USED
from ..shards.index import ImageSpan, Label, ShardError, read_index
from ..shards.layout import BUILD_FOLDER, MANIFEST, REJECTS, index_name, leftovers, rewritten_name
from ..shards.manifest import Manifest, ShardEntry, is_adopted, read_manifest, write_manifest
from ..shards.tar import add_sample, index_shard, map_tar
from ..store.atomic import sha256
from ..store.folder import Folder
from ..store.lock import writing
from ..work.processes import mapper
from ..work.progress import progress


@dataclass(frozen=True)
class Forgotten:
    """What was removed, or would be."""

    accounts: frozenset[str]  # hashed: those that were found
    images: int
    tuples: int  # rare ones, too
    train_tuples: int  # those of them that were in the train split
    posts: int
    shards: int  # rewritten
    dropped: int  # shards of which nothing was left


@dataclass(frozen=True)
class _Shard:
    """A shard without the accounts."""

    entry: ShardEntry | None  # None where nothing is left
    emojis: Counter[str]  # that are left
    changed: bool
    accounts: frozenset[str]
    images: int  # that went
    tuples: int
    posts: frozenset[str]


def forget(folder: Folder, accounts: Iterable[str], *, dry_run: bool, workers: int) -> Forgotten:
    """Remove accounts, given by their hashes, from a dataset; with `dry_run`, only say what would go.

    Raises:
        InputError: the tars are others', a shard concerned is damaged, or somebody else writes the dataset.
    """
    wanted = frozenset(accounts)
    if dry_run:
        return _rewrite(folder, _read_ours(folder), wanted, dry_run, workers)[0]
    _read_ours(folder)  # nothing is written where no dataset is
    with writing(folder, "shards forget") as folder:
        manifest = old = _read_ours(folder)
        found, shards = _rewrite(folder, old, wanted, dry_run, workers)
        if found.accounts:
            _forget_rejects(folder, frozenset().union(*(shard.posts for shard in shards)))
            manifest = _without(old, shards, found)
            write_manifest(manifest, folder, replaces=old)
        for name in leftovers(folder.names(), {shard.name for shard in manifest.shards}):
            folder.remove(name)  # what was forgotten must not lie about
        folder.remove_folder(BUILD_FOLDER)  # a task that came late may have left parts there
    return found


def _read_ours(folder: Folder) -> Manifest:
    manifest = read_manifest(folder)
    if is_adopted(manifest):
        raise InputError(
            f"{folder} holds tars of others, which we do not change. Remove the account's samples from them, "
            f"then remove {MANIFEST}, and run `emojigan shards adopt` again."
        )
    return manifest


def _rewrite(
    folder: Folder, manifest: Manifest, accounts: frozenset[str], dry_run: bool, workers: int
) -> tuple[Forgotten, list[_Shard]]:
    """Write the shards that hold one of the accounts anew, beside the old ones."""
    shards: list[_Shard] = []
    with progress(len(manifest.shards), "forget", "shards") as bar, mapper("local", workers) as run:
        for shard in run(partial(_forget_in_shard, folder, accounts, dry_run), manifest.shards):
            shards.append(shard)
            bar.update()
    found = Forgotten(
        accounts=frozenset().union(*(shard.accounts for shard in shards)),
        images=sum(shard.images for shard in shards),
        tuples=sum(shard.tuples for shard in shards),
        train_tuples=sum(
            shard.tuples for old, shard in zip(manifest.shards, shards, strict=True) if old.split == "train"
        ),
        posts=len(frozenset().union(*(shard.posts for shard in shards))),
        shards=sum(shard.changed for shard in shards),
        dropped=sum(shard.entry is None for shard in shards),
    )
    return found, shards


def history_after(manifest: Manifest, found: Forgotten) -> tuple[dict, ...]:
    """The history of a dataset once `found` is removed from it; as it is where nothing was found."""
    event = {
        "from": manifest.sha256(),
        "forgot": sorted(found.accounts),
        **{"images": found.images, "tuples": found.tuples, "posts": found.posts},
        "train": found.train_tuples,
    }
    return (*manifest.history, event) if found.accounts else manifest.history


def was_forgotten(manifest: Manifest, account: str) -> bool:
    """Whether an account, given by its hash, was in the dataset once."""
    return any(account in event.get("forgot", ()) for event in manifest.history)


def _forget_in_shard(folder: Folder, accounts: frozenset[str], dry_run: bool, entry: ShardEntry) -> _Shard:
    try:
        index = read_index(folder, entry)
    except ShardError as error:
        raise _damaged(folder, entry.index, error) from error
    concerned = accounts.intersection(index.accounts)
    before = Counter(index.emojis[emoji] for emoji in index.emoji.tolist())
    if not concerned:
        return _Shard(entry, before, False, concerned, 0, 0, frozenset())
    samples = [
        (span, left) for span, label in index.samples() if (left := _without_accounts(label, accounts))
    ]
    left = Counter(emoji for _, label in samples for each in (label, *label.reposts) for emoji in each.emojis)
    new = replace(entry, images=len(samples)) if samples else None
    if new and not dry_run:
        new = _write(folder, new, samples)
    return _Shard(
        entry=new,
        emojis=left,
        changed=True,
        accounts=concerned,
        images=entry.images - len(samples),
        tuples=before.total() - left.total(),
        posts=frozenset(
            post for post, account in zip(index.posts, index.accounts, strict=True) if account in accounts
        ),
    )


def _without_accounts(label: Label, accounts: frozenset[str]) -> Label | None:
    """A label without the posts of some accounts; None where there are no others."""
    kept = [each for each in (replace(label, reposts=()), *label.reposts) if each.account not in accounts]
    return replace(kept[0], reposts=tuple(kept[1:])) if kept else None


def _write(folder: Folder, entry: ShardEntry, samples: list[tuple[ImageSpan, Label]]) -> ShardEntry:
    """Write a shard of some samples of another, under a new name."""
    content = hashlib.sha256(repr((entry.sha256, [(span.key, label) for span, label in samples])).encode())
    name = rewritten_name(entry.name, content.hexdigest())
    with folder.reading(entry.name) as path, folder.creating(name) as temporary:
        old = map_tar(path)
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for span, label in samples:
                image = old[span.offset : span.offset + span.length]
                if len(image) < span.length or zlib_ng.crc32(image) != span.crc32:
                    raise _damaged(folder, entry.name, f"checksum of {span.key} differs")
                add_sample(tar, span.key, label, span.extension, image.tobytes())
        rows = index_shard(temporary)
        index = rows.to_bytes()
        size, digest = temporary.stat().st_size, sha256(temporary)
        folder.write(
            index_name(name), index
        )  # first: a tar beside an index is known as ours, see `leftovers`
    index_digest = hashlib.sha256(index).hexdigest()
    names = {"name": name, "index": index_name(name)}
    return replace(
        entry,
        **names,
        bytes=size,
        sha256=digest,
        index_sha256=index_digest,
        reactions=rows.reaction_sizes,
    )


def _without(manifest: Manifest, shards: list[_Shard], found: Forgotten) -> Manifest:
    """The manifest of what is left."""
    train: Counter[str] = Counter()
    for old, shard in zip(manifest.shards, shards, strict=True):
        train.update(shard.emojis if old.split == "train" else ())
    ranked = sorted(train.items(), key=lambda item: (-item[1], item[0]))
    vocabulary = {emoji: count for emoji, count in ranked if emoji in manifest.vocabulary}
    posts = {**manifest.posts, USED: manifest.posts[USED] - found.posts}
    return replace(
        manifest,
        vocabulary=vocabulary,
        rare={emoji: count for emoji, count in ranked if emoji not in vocabulary},
        posts=posts | {FORGOTTEN: posts.get(FORGOTTEN, 0) + found.posts},
        shards=tuple(
            replace(shard.entry, tuples=known, outside=shard.emojis.total() - known)
            for shard in shards
            if shard.entry
            for known in [sum(n for emoji, n in shard.emojis.items() if emoji in vocabulary)]
        ),
        history=history_after(manifest, found),
    )


def _forget_rejects(folder: Folder, posts: frozenset[str]) -> None:
    """Drop the lines that name some posts: as rejected for a repeated id, or for a bad image."""
    if folder.size(REJECTS) is None:
        return
    wheres = {f"post {post}" for post in posts}
    lines = folder.read(REJECTS).splitlines(keepends=True)  # of bytes: a text would be cut at U+2028, too
    kept = [
        line
        for line in lines
        if not wheres & {where := json.loads(line)["where"], re.sub(r", image \d+$", "", where)}
    ]
    if len(kept) < len(lines):
        folder.write(REJECTS, b"".join(kept)) if kept else folder.remove(REJECTS)


def _damaged(folder: Folder, name: str, reason: object) -> InputError:
    return InputError(
        f"{folder}/{name}: {reason}. Nothing was forgotten. See `emojigan shards verify {folder}`, copy the "
        "shard again, and run the same command again."
    )
