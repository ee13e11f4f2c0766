"""The manifest: what a dataset is, in one JSON file; its hash is the dataset's identity.

Written last, so a folder without it is not a dataset yet.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import InputError
from .files import write_atomic

FORMAT_VERSION = 1
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ShardEntry:
    """One shard."""

    name: str  # path of the tar, relative to the dataset
    split: str
    images: int
    tuples: int  # with an emoji of the vocabulary: what the order counts
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A dataset of shards."""

    image_size: int  # pixels
    encoding: str  # npy or jpg
    canonical_version: str
    options: dict  # that it was built with
    vocabulary: dict[str, int]  # canonical emoji → tuples in the train split; the most frequent first
    rare: dict[str, int]  # emojis under min_count: in the shards, not in the vocabulary
    posts: dict[str, int]  # how many posts were read, used, without emoji, and rejected by reason
    shards: tuple[ShardEntry, ...]

    def of_split(self, split: str) -> tuple[ShardEntry, ...]:
        """The shards of one split, in order."""
        return tuple(shard for shard in self.shards if shard.split == split)

    def sha256(self) -> str:
        """The dataset's identity."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The bytes of manifest.json, as text."""
        content = {"format_version": FORMAT_VERSION, **asdict(self)}
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `manifest.json`, which makes the folder a dataset."""
    write_atomic(folder / "manifest.json", manifest.to_json())


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a dataset.

    Raises:
        InputError: the folder is no dataset, or a damaged one, or one of another format version.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise InputError(
            f"{folder} is not a dataset (no manifest.json). Make it with `emojigan shards build`."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}. Copy it again, or build the shards again.") from error
    if (version := content.pop("format_version", None)) != FORMAT_VERSION:
        raise InputError(f"{path}: format version {version}, not {FORMAT_VERSION}. Build the shards again.")
    shards = tuple(ShardEntry(**shard) for shard in content.pop("shards"))
    return Manifest(shards=shards, **content)
