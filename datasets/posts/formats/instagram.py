"""Instagram's "download your information" as JSON: posts_1.json, posts_2.json… and the media beside them.

    posts_N.json ─► captions repaired ─► media that are images ─► Post

The exporter writes the bytes of UTF-8 as if each were a character ("Ã©" for "é"): undone string by string. A
post with one medium has its caption there, others have it at the top. The export does not say whose it is
where we look, so the folder's name stands for the account: "ann" of instagram-ann-2024-05-01-x1Y2.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..archives import dig, hidden, image_inside, read_list, refuse_zip
from ..outcomes import BROKEN_ENTRY
from ..paths import is_clean
from ..post import ImageFile, Post, Reject
from ..times import to_seconds

POST_FOLDERS = ("your_instagram_activity/media", "your_instagram_activity/content", "content")
"""Where exports of different years have their posts."""

_PART = re.compile(r"posts_(\d+)\.(json|html)")
_FOLDER = re.compile(r"instagram-(.+)-\d{4}-\d\d-\d\d(-\w+)?")
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".gif")
_FIRST_BYTES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8")
_BRANDS = (b"ftypheic", b"ftypheix", b"ftypmif1")  # of HEIC; those of videos are others


def recognises(source: Path) -> bool:
    """Whether there is a posts_1.json, or the .html that `read` refuses."""
    return bool(_find(source))


def read(source: Path, columns: Mapping[str, str]) -> Iterator[Post | Reject]:
    """Yield the posts of an export in the order of its files.

    Raises:
        InputError: there are no posts, or the export is packed or was made as HTML.
    """
    parts = _find(source)
    if not parts:
        raise InputError(f"{source}: no posts_1.json in {', '.join(POST_FOLDERS)}.")
    if all(part.suffix == ".html" for part in parts):
        raise InputError(f"{source}: an export as HTML. Request it from Instagram as JSON.")
    folder = _folder_of(source) if source.is_file() else source
    name = folder.resolve().name
    named = _FOLDER.fullmatch(name)
    account = f"instagram/{named[1] if named else name}"
    for part in parts:
        if part.suffix == ".json":
            for where, entry in read_list(part):
                yield entry if isinstance(entry, Reject) else _to_post(entry, where, folder, account)


def repair(text: str) -> str:
    """Undo the exporter's damage; text without it stays as it is.

    Text is changed only if all its characters are bytes, up to U+00FF, and the bytes are valid UTF-8.
    """
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _find(source: Path) -> list[Path]:
    """The files of posts, by folder and number."""
    refuse_zip(source)
    if source.is_file():
        return [source] if _PART.fullmatch(source.name) else []
    folders = [source / name for name in POST_FOLDERS if (source / name).is_dir()]
    found = [(path, named) for f in folders for path in f.iterdir() if (named := _PART.fullmatch(path.name))]
    return [path for path, named in sorted(found, key=lambda each: (each[0].parent, int(each[1][1])))]


def _folder_of(part: Path) -> Path:
    """The folder of the export that a file of posts lies in; the file's own folder where it was taken out."""
    for name in POST_FOLDERS:
        if part.resolve().parent.as_posix().endswith(f"/{name}"):
            return part.resolve().parents[name.count("/") + 1]
    return part.parent


def _to_post(entry: Any, where: str, folder: Path, account: str) -> Post | Reject:
    media = dig(entry, "media")
    if not isinstance(media, list):
        return Reject(where, BROKEN_ENTRY)
    titles = (dig(entry, "title"), dig(media, 0, "title"))
    uris = [dig(each, "uri") for each in media]
    number = dig(entry, "creation_timestamp")  # all that there is of a post whose media are gone
    identity = f"{account}/{uris[0] if uris else number}"
    if not all(isinstance(title, str | None) for title in titles) or not is_clean(identity):
        return Reject(where, BROKEN_ENTRY)
    if not uris and not isinstance(number, int):
        return Reject(where, BROKEN_ENTRY)
    images = []
    for uri in uris:
        image = image_inside(folder, uri, where) if isinstance(uri, str) else Reject(where, BROKEN_ENTRY)
        if isinstance(image, Reject):
            return image
        if _is_image(image):
            images.append(image)
    caption = repair(titles[0] or titles[1] or "")
    time = to_seconds(number or dig(media, 0, "creation_timestamp"))
    return Post(f"instagram/{hidden(identity)}", account, tuple(images), caption, time=time)


def _is_image(image: ImageFile) -> bool:
    """Whether a medium is an image, by its first bytes where the name does not tell: some have no ending."""
    ending = Path(image.path).suffix.lower()
    if ending in _ENDINGS:
        return True
    try:
        with open(image.path, "rb") as file:
            head = file.read(12)
    except OSError:
        return not ending  # it may have been an image: the builder counts it as a missing one
    return head.startswith(_FIRST_BYTES) or head[8:] == b"WEBP" or head[4:] in _BRANDS
