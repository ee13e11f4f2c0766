"""What a dataset is on disk. No other file knows how its files are called.

    shards/
      manifest.json              written last: a folder without it is no dataset yet
      rejects.jsonl              the posts and files that are bad, and why; absent where none is
      train/
        000000.tar               samples, as WebDataset reads them
        000000.index             where the images lie in the tar, and their tuples
        000000.stats.json        what the builder counted
        000003.1a2b3c4d5e6f.tar, .index    in the place of 000003.tar, since accounts left it; by its content
      val/, test/                likewise
      .build/                    while the dataset is built or adopted; then it goes
        begun.json               of which posts and options, and by how many tasks
        000000.part              of a chunk of posts: what became of each, and its emojis
        000000.members           its encoded images, one behind the other
        laion/00000.tar.json     of an adopted tar: its indexes and counts

Beside these lie what writers know of each other by (store/lock.py), and temporary files.

An adopted tar stays where it lies, with an index beside it for each split: 00000.train.index.
"""

import re
from collections.abc import Collection, Iterable

MANIFEST = "manifest.json"
REJECTS = "rejects.jsonl"
SPLITS = ("train", "val", "test")
BUILD_FOLDER = ".build"
BEGUN = f"{BUILD_FOLDER}/begun.json"
_OF_SHARD = re.compile(rf"((?:{'|'.join(SPLITS)})/[^/]+?)\.(tar|index|stats\.json)")


def tar_name(split: str, number: int) -> str:
    """The name of a new shard: train/000000.tar."""
    return f"{split}/{number:06d}.tar"


def rewritten_name(tar: str, content: str) -> str:
    """The name of the shard that replaces one: train/000003.tar → train/000003.1a2b3c4d5e6f.tar.

    Of two commands that write the same name, both write the same bytes.

    Args:
        content: a hash of all that the new shard is made from, hexadecimal.
    """
    parts = re.fullmatch(r"(.+?)(?:\.[0-9a-f]{12})?\.tar", tar)
    assert parts is not None, tar
    return f"{parts[1]}.{content[:12]}.tar"


def index_name(tar: str, split: str | None = None) -> str:
    """The name of a shard's index, or of an adopted tar's for one split: 00000.index, 00000.train.index."""
    return tar.removesuffix(".tar") + (f".{split}" if split else "") + ".index"


def statistics_name(tar: str) -> str:
    """The name of a shard's statistics: train/000000.tar → train/000000.stats.json."""
    return tar.removesuffix(".tar") + ".stats.json"


def part_name(chunk: int) -> str:
    """The name of the part of a chunk."""
    return f"{BUILD_FOLDER}/{chunk:06d}.part"


def members_name(chunk: int) -> str:
    """The name of the encoded images of a chunk."""
    return f"{BUILD_FOLDER}/{chunk:06d}.members"


def note_name(tar: str) -> str:
    """The name of what is noted of an adopted tar."""
    return f"{BUILD_FOLDER}/{tar}.json"


def split_of(name: str) -> str | None:
    """The split in whose folder a file lies; None where it lies elsewhere."""
    folder = name.rpartition("/")[0]
    return folder if folder in SPLITS else None


def is_begun(names: Iterable[str]) -> bool:
    """Whether some files are those of a build: what it notes first, parts, or statistics of shards.

    Indexes alone are no sign of it: an adoption writes them beside the tars of somebody else.
    """
    return any(
        name == BEGUN
        or (name.startswith(f"{BUILD_FOLDER}/") and name.endswith(".part"))
        or (name.endswith(".stats.json") and split_of(name))
        for name in names
    )


def is_of_shard(name: str) -> bool:
    """Whether a file is a tar or an index, be it of this dataset or not."""
    return name.endswith((".tar", ".index"))


def is_hidden(name: str) -> bool:
    """Whether nobody put a file there, by the dot of its name: an unfinished one, or macOS's notes."""
    return name.rpartition("/")[2].startswith(".")


def leftovers(names: Iterable[str], tars: Collection[str]) -> list[str]:
    """The files of shards that are not among `tars`, and temporary ones, in the order of their removal.

    A tar is ours if an index or statistics lie beside it, or if its name is only a number. Any other may be
    somebody's who put it there, and stays. A tar is removed before what lies beside it: after a kill between,
    the rest is still known as ours.
    """
    names = list(names)
    found = {name: match for name in names if (match := _OF_SHARD.fullmatch(name)) and not is_hidden(name)}
    ours = {
        match[1] for match in found.values() if match[2] != "tar" or match[1].rpartition("/")[2].isdigit()
    }
    kept = {file for tar in tars for file in (tar, index_name(tar), statistics_name(tar))}
    of_shards = sorted(
        (name for name, match in found.items() if match[1] in ours and name not in kept), reverse=True
    )
    inside = ("", *SPLITS)
    return of_shards + [
        name
        for name in names
        if is_hidden(name) and name.endswith(".tmp") and name.rpartition("/")[0] in inside
    ]
