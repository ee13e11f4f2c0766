"""The manifest: what a dataset is, in one JSON file; its hash is the dataset's identity.

Written last, so a folder without it is not a dataset yet.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, fields
from functools import cached_property

from ..errors import InputError
from ..store.folder import Folder, is_safe
from ..store.trouble import MISSING, patiently
from .encoding import ENCODINGS
from .layout import MANIFEST, SPLITS

FORMAT_VERSION = 2
MAX_SIZE = 1024  # pixels, of a side
MOST = 8  # emojis of a reaction in a batch

SPLIT_BY = {
    "account": "by account: nobody is in two splits, so scores tell of people whom the model does not know",
    "post": "by post: the same people are in train and test, so scores tell of more posts of theirs alone",
    "time": "by time: the newest posts are test, of people in train, too, so scores tell of their next posts",
}
"""What is dealt to the splits as a whole, and what that makes of the scores."""


@dataclass(frozen=True)
class ShardEntry:
    """The samples of one split in one tar. A tar of others can hold several splits: an entry for each."""

    name: str  # of the tar, relative to the dataset
    index: str  # of the index, relative to the dataset
    split: str
    images: int
    tuples: int  # with an emoji of the vocabulary: what the order counts
    bytes: int  # of the tar
    sha256: str  # of the tar
    index_sha256: str
    # Of datasets that were made before these were counted, they are None.
    outside: int | None = None  # tuples with another emoji
    # Reactions, which are the emojis of one post under one image: how many have 1, 2, … of them, and MOST or
    # more, whether or not of the vocabulary.
    reactions: tuple[int, ...] | None = None
    fold: int | None = None  # of train, where that is dealt to folds: nobody is in two


@dataclass(frozen=True)
class Manifest:
    """A dataset of shards."""

    image_size: int  # pixels
    encoding: str  # npy or jpg; "foreign" where images are of any kind and size
    canonical_version: str
    options: dict  # that it was built with
    vocabulary: dict[str, int]  # canonical emoji → tuples in the train split; the most frequent first
    rare: dict[str, int]  # emojis under min_count: in the shards, not in the vocabulary
    posts: dict[str, int]  # how many posts were read, used, without emoji, and rejected by reason
    shards: tuple[ShardEntry, ...]
    left_out: dict[str, int] = field(default_factory=dict)  # what posts lost, and broken files, by reason
    history: tuple[dict, ...] = field(default=())  # what was done to it since: accounts forgotten
    """Of each event: "from", the identity of the dataset before it; "forgot", the accounts; "images",
    "tuples" and "posts", how many went; "train", how many of the tuples were in the train split."""

    def of_split(self, split: str, fold: int | None = None) -> tuple[ShardEntry, ...]:
        """The shards of one split, in order; with a fold, train lacks it, and it stands for test."""
        if fold is None or split == "val":
            return self._by_split.get(split, ())
        train = self._by_split.get("train", ())
        return tuple(shard for shard in train if (shard.fold == fold) == (split == "test"))

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that the train split is dealt to; none where it is not."""
        return tuple(sorted({shard.fold for shard in self.shards if shard.fold is not None}))

    @cached_property
    def _by_split(self) -> dict[str, tuple[ShardEntry, ...]]:
        return {name: tuple(shard for shard in self.shards if shard.split == name) for name in SPLITS}

    @property
    def split_by(self) -> str:
        """One of SPLIT_BY: accounts in datasets that were made before there was a choice."""
        return self.options.get("split_by", "account")

    @property
    def split_text(self) -> str:
        """How the splits were dealt, and what that makes of the scores."""
        return SPLIT_BY[self.split_by]

    def sha256(self) -> str:
        """The dataset's identity."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:  # of many shards it takes seconds, and is asked for several times
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The bytes of manifest.json, as text."""
        content = {each.name: getattr(self, each.name) for each in fields(self)}
        # By asdict it would take a minute for a million shards. What an older dataset does not have is not in
        # it, so that its identity stays what it was.
        names = [each.name for each in fields(ShardEntry)]
        content["shards"] = [
            {name: value for name in names if (value := getattr(shard, name)) is not None}
            for shard in self.shards
        ]
        content = {"format_version": FORMAT_VERSION, **content}
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def lineage(manifest: Manifest) -> dict[str, tuple[dict, ...]]:
    """The identities that a dataset is known to have had and has, each with the events since.

    An event names the identity before it. Those of versions that did not note it are no link: what the
    dataset was before one of them counts as another dataset.
    """
    events = manifest.history
    since = {event["from"]: events[number:] for number, event in enumerate(events) if "from" in event}
    return since | {manifest.sha256(): ()}


def split_by_count(train: Counter[str], min_count: int) -> tuple[dict[str, int], dict[str, int]]:
    """The vocabulary and the rare emojis of a train split's tuples, the most frequent first."""
    ranked = sorted(train.items(), key=lambda item: (-item[1], item[0]))
    vocabulary = {emoji: count for emoji, count in ranked if count >= min_count}
    return vocabulary, {emoji: count for emoji, count in ranked if count < min_count}


def write_manifest(manifest: Manifest, folder: Folder, *, replaces: Manifest | None = None) -> None:
    """Write `manifest.json`, which makes the folder a dataset.

    Args:
        replaces: the manifest that was read, in whose place it comes; None where there was none.

    Raises:
        InputError: another one is there now.
    """
    old = folder.read(MANIFEST) if replaces else None
    same = old is None or _parse(old, folder) == replaces
    if not (same and folder.swap(MANIFEST, old, manifest.to_json())):
        raise InputError(
            f"{folder} was changed by somebody else meanwhile, and stays as it is now. Run the same command "
            "again."
        )


def read_manifest(folder: Folder) -> Manifest:
    """Read the manifest of a dataset.

    Raises:
        InputError: the folder is no dataset, or a damaged one, or one of another format version; or this
            machine or the store is in trouble.
    """

    def read() -> bytes:
        try:
            return folder.read(MANIFEST)
        except MISSING as error:
            raise InputError(
                f"{folder} is not a dataset (no {MANIFEST}). Make it with `emojigan shards build`."
            ) from error

    return _parse(patiently(read, folder), folder)


def _parse(text: bytes, folder: Folder) -> Manifest:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{folder}/{MANIFEST} is damaged: {error}. Copy it again, or build the shards again."
        ) from error
    version = content.pop("format_version", None) if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(
            f"{folder}/{MANIFEST}: format version {version}, not {FORMAT_VERSION}. Build the shards again."
        )
    from pydantic import TypeAdapter

    try:
        manifest = TypeAdapter(Manifest).validate_json(json.dumps(content), strict=True)
    except ValueError as error:
        reason = " ".join(str(error).splitlines()[1:3])
        raise InputError(f"{folder}/{MANIFEST} is damaged: {reason}. Copy it again.") from error
    counts = [number for shard in manifest.shards for number in (shard.images, shard.tuples, shard.bytes)]
    counts += [*manifest.vocabulary.values(), *manifest.rare.values(), *manifest.posts.values()]
    counts += [
        number for shard in manifest.shards for number in (shard.outside or 0, *(shard.reactions or ()))
    ]
    if (
        min(counts, default=0) < 0
        or not 0 < manifest.image_size <= MAX_SIZE
        or manifest.encoding not in ENCODINGS
        or any(len(shard.reactions) != MOST for shard in manifest.shards if shard.reactions is not None)
        or manifest.split_by not in [*SPLIT_BY]  # a list: what is no text may have no hash
    ):
        raise InputError(
            f"{folder}/{MANIFEST} is damaged: a count, size, encoding or split cannot be. Copy it again."
        )
    for shard in manifest.shards:
        if not (is_safe(shard.name) and is_safe(shard.index)):
            raise InputError(
                f"{folder}/{MANIFEST}: {shard.name!r} would leave the folder. Do not use this dataset."
            )
    return manifest


def is_adopted(manifest: Manifest) -> bool:
    """Whether the tars are others', or not in the folders that the builder puts them into."""
    return "adopted" in manifest.options
