"""The photos that somebody means by files, folders and patterns."""

from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path

from ..errors import InputError

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif"),
}


def find_photos(names: Iterable[str]) -> Iterator[Path]:
    """The files that names mean, one after the other; whether each can be read is not looked at.

    Args:
        names: of a file; of a folder, for all photos in it and its folders, in the order of their paths; or a
            pattern such as `photos/**/*.jpg`.

    Raises:
        InputError: a folder or a pattern has no photo, or a name is the address of a web page.
    """
    for name in names:
        path = Path(name)
        if path.is_dir():
            yield from _some(sorted(each for each in path.rglob("*") if _is_photo(each)), name)
        elif path.exists() or not has_magic(name):
            if name.startswith(("http://", "https://")):
                raise InputError(f"{name} is an address of the web. Download the photo, and give its file.")
            yield path
        else:
            found = sorted(Path(each) for each in glob(name, recursive=True))
            yield from _some([each for each in found if each.is_file()], name)


def _is_photo(path: Path) -> bool:
    """By its name: beside photos there are lists, thumbnails' databases, and what a system hides."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _some(found: list[Path], name: str) -> list[Path]:
    if not found:
        raise InputError(f"{name} has no photo.")
    return found
