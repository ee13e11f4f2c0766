"""What is scored, in parts of a fixed order, each of which is read on its own.

a dataset of shards ──► a part a shard ────────────┐
a folder of photos ───► parts of 1,000, by paths ──┼─► read ─► Images
a Parquet of images ──► parts of 1,000 rows ───────┘

An image that cannot be read stops no other: it has its reason. Those of shards are checked against their
CRC-32 as the stream checks them; raw ones are taken from the memory map as they are, and not decoded.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ....datasets.errors import InputError
from ....datasets.images.find import find_photos
from ....datasets.images.read import load_image, read_image
from ....datasets.images.refused import ImageError
from ....datasets.posts.parquet import ParquetCell, huggingface_images, open_parquet, read_rows
from ....datasets.posts.paths import is_clean, name_in, name_with_tag, stays_inside
from ....datasets.posts.post import ImageFile, ImageSource
from ....datasets.shards.encoding import decode, has_plain_pixels, num_pixel_bytes
from ....datasets.shards.index import ShardError
from ....datasets.shards.layout import MANIFEST, SPLITS
from ....datasets.shards.manifest import read_manifest
from ....datasets.store.cache import ShardCache
from ....datasets.store.folder import Folder, open_folder
from ....datasets.stream.gather import overlapping
from ....datasets.stream.quarantine import Quarantine, Quarantined
from ....datasets.stream.split import OpenShard, Split
from ...config import RunConfig

PART = 1000  # photos
DAMAGED_GROUP = "lies in a damaged row group"


@dataclass(frozen=True)
class Images:
    """The images of a part."""

    keys: Sequence[str]  # by which each is known, unlike all others of the source
    posts: Sequence[str | None]  # the first post of each, where one is told
    pixels: torch.Tensor  # uint8 [images that could be read, size, size, 3]
    bad: dict[int, str]  # row: what is wrong with it


class UnreadablePart(Exception):
    """Nothing of a part can be read, not even how its images are called; the message says why."""


class Part(Protocol):
    """Images that are scored together, into one file."""

    @property
    def name(self) -> str:
        """Of the file, without its ending; unlike those of the other parts."""
        ...

    @property
    def images(self) -> int: ...

    def read(self, size: int) -> Images:
        """Its images as squares of `size` pixels. Raises UnreadablePart, and InputError."""
        ...


@dataclass(frozen=True)
class Source:
    """All that is to be scored."""

    content: str  # its identity: another means that something in it is another
    parts: tuple[Part, ...]
    image_size: int | None  # pixels; None where photos of any size are read


def open_source(address: str, split: str | None = None) -> Source:
    """A dataset by its folder or URL, a folder of photos, or a Parquet file with a column of images.

    Args:
        split: the one of the dataset's that is scored; all of them if none is given.

    Raises:
        InputError: it is none of these, or is empty.
    """
    path, folder = Path(address), open_folder(address).absolute()
    if path.suffix.lower() == ".parquet" and path.is_file():
        source = _table(path.absolute())
    elif folder.path is None or folder.size(MANIFEST) is not None:
        return _shards(folder, split)
    elif path.is_dir():
        source = _photos(path.absolute())
    else:
        raise InputError(f"{address} is no dataset of shards, no folder of photos and no Parquet file.")
    if split:
        raise InputError(f"{address} has no splits: leave --split out.")
    return source


@dataclass(frozen=True)
class ShardPart:
    """A shard."""

    folder: Folder
    dataset: str  # SHA-256 of the manifest
    split: str
    number: int  # in the split
    name: str
    images: int

    def read(self, size: int) -> Images:
        split = _split(self.folder, self.dataset, self.split)
        found: list[Quarantined] = []
        quarantine = Quarantine(split, 1, found.append)
        try:
            shard, index = split.open_shard(self.number), split.read_index(self.number)
        except ShardError as error:
            raise UnreadablePart(f"{self.folder}/{split.shards[self.number].name}: {error}") from error
        damaged = quarantine.rows(self.number, shard)
        rows = np.setdiff1d(np.arange(self.images), damaged)
        pixels = self._pixels(split, shard, rows, quarantine)
        reason = {each.key: each.reason for each in found}
        bad = {row: reason[index.keys[row]] for row in quarantine.rows(self.number, shard)}
        good = ~np.isin(rows, [*bad])
        return Images(
            keys=[f"{self.name}/{key}" for key in index.keys],
            posts=index.post_of_image(),
            pixels=torch.from_numpy(pixels if good.all() else pixels[good]),
            bad=bad,
        )

    def _pixels(self, split: Split, shard: OpenShard, rows: np.ndarray, quarantine: Quarantine) -> np.ndarray:
        """uint8 [rows, size, size, 3]; any of those that are found to be no pictures."""
        size, encoding = split.manifest.image_size, split.manifest.encoding
        if has_plain_pixels(encoding):
            _, memory = overlapping([shard.content], num_pixel_bytes(size))
            ends = shard.offset[rows] + shard.length[rows]  # a npy ends with its pixels
            return memory[ends - num_pixel_bytes(size)].reshape(-1, size, size, 3)
        pixels = np.empty((len(rows), size, size, 3), np.uint8)
        for row, out in zip(rows.tolist(), pixels, strict=True):
            try:
                decode(shard.member(row), encoding, out)
            except ValueError as error:
                quarantine.add_image(self.number, shard, row, str(error))
        return pixels


def _shards(folder: Folder, split: str | None) -> Source:
    manifest = read_manifest(folder)
    dataset = manifest.sha256()
    names = [split] if split else [name for name in SPLITS if manifest.of_split(name)]
    parts = []
    for name in names:
        opened = _split(folder, dataset, name)
        opened.check()
        parts += [
            ShardPart(folder, dataset, name, number, shard.index.removesuffix(".index"), shard.images)
            for number, shard in enumerate(opened.shards)
        ]
    if not parts:
        raise InputError(f"{folder} has no shard.")
    return Source(f"{dataset} {' '.join(names)}", tuple(parts), manifest.image_size)


@lru_cache(maxsize=len(SPLITS))
def _split(folder: Folder, dataset: str, name: str) -> Split:
    """A split, opened once in each process that works."""
    manifest, run = read_manifest(folder), RunConfig()
    if manifest.sha256() != dataset:
        raise InputError(f"{folder} was changed since it was opened. Run the same command again.")
    cache = ShardCache(Path(run.cache).expanduser(), int(run.cache_gib * 2**30))
    return Split(folder, manifest, name, cache)


@dataclass(frozen=True)
class Photo:
    """A photo by what it is called, and where it lies."""

    key: str
    post: str | None
    image: ImageSource | str  # a text says why there is none


@dataclass(frozen=True)
class PhotoPart:
    """Photos that lie anywhere."""

    name: str
    photos: tuple[Photo, ...]

    @property
    def images(self) -> int:
        return len(self.photos)

    def read(self, size: int) -> Images:
        read = [_pixels(photo.image, size) for photo in self.photos]
        good = [each for each in read if isinstance(each, np.ndarray)]
        return Images(
            keys=[photo.key for photo in self.photos],
            posts=[photo.post for photo in self.photos],
            pixels=torch.from_numpy(np.stack(good) if good else np.empty((0, size, size, 3), np.uint8)),
            bad={row: each for row, each in enumerate(read) if isinstance(each, str)},
        )


def _pixels(image: ImageSource | str, size: int) -> np.ndarray | str:
    """The central square, uint8 [size, size, 3], or what is wrong."""
    if isinstance(image, str):
        return image
    try:
        return read_image(load_image(image), size)
    except ImageError as error:
        return error.detail
    except OSError as error:
        return error.strerror or str(error)


def _photos(folder: Path) -> Source:
    """All photos of a folder and its folders, in the order of their paths."""
    photos, content = [], hashlib.sha256()
    for path in find_photos([str(folder)]):
        about, key = path.stat(), name_in(path, folder)
        content.update(f"{key}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
        photos.append(Photo(key, None, ImageFile(str(path))))
    return _source(content.hexdigest(), photos)


def _table(path: Path) -> Source:
    """The images of each row; they are called by its number, and their post by its `id` if it has one."""
    file = open_parquet(path)
    columns = file.schema_arrow.names
    image = next((each for each in ("image", *huggingface_images(file)) if each in columns), None)
    if image is None:
        raise InputError(f"{path}: no column image, but: {', '.join(columns[:30]) or 'nothing'}.")
    rows = read_rows(file, path, ("id" if "id" in columns else None, image), image)
    photos = [photo for row, values in enumerate(rows) for photo in _of_row(row, values, path.parent)]
    if not photos:
        raise InputError(f"{path} has no row.")
    return _source(name_with_tag(path, path.name), photos)


def _of_row(row: int, values: Sequence[Any] | None, folder: Path) -> Iterator[Photo]:
    if values is None:
        yield Photo(str(row), None, DAMAGED_GROUP)
        return
    post, images = values
    post = str(post) if isinstance(post, str | int) and is_clean(str(post)) else None
    if not isinstance(images, list):
        yield Photo(str(row), post, _image(images, folder))
        return
    for number, image in enumerate(images):
        yield Photo(f"{row}/{number}", post, _image(image, folder))


def _image(value: Any, folder: Path) -> ImageSource | str:
    if isinstance(value, ParquetCell):
        return value
    if not isinstance(value, str) or not value or not is_clean(value):
        return "is no image and no path of one"
    return ImageFile(str(folder / value)) if stays_inside(value) else "leads out of the table's folder"


def _source(content: str, photos: Iterable[Photo]) -> Source:
    left, parts = iter(photos), []
    while few := tuple(islice(left, PART)):
        parts.append(PhotoPart(f"{len(parts):06d}", few))
    return Source(content, tuple(parts), None)
