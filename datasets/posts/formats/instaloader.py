"""What Instaloader downloads: a folder for each profile, and in it some files for each post.

    2023-11-14_22-13-20_UTC.json.xz      the post (or .json); its caption also in the .txt
    2023-11-14_22-13-20_UTC.jpg          its image; .png, .webp and .heic, too
    2023-11-14_22-13-20_UTC_1.jpg …      the images of a carousel, which share the rest
    2023-11-14_22-13-20_UTC_comments.json

An image beside a video is its thumbnail, and left out. Stories, profile pictures and what else Instaloader
keeps are passed over. A post without its JSON is known by such a name. Where Instaloader was told to name
files otherwise, the JSON is needed, and this format has to be asked for.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..archives import dig, hidden, read_json, refuse_zip
from ..outcomes import BROKEN_ENTRY, BROKEN_JSON, UNREADABLE_FOLDER
from ..paths import is_clean
from ..post import ImageFile, Post, Reject
from ..times import to_seconds

_STEM = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_UTC")
_SLIDE = re.compile(r"(.+)_(\d+)")
_JSON = re.compile(r"(?!.*iterator_)(.+)(?<!_comments)\.json(\.xz)?")
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".heic")


def recognises(source: Path) -> bool:
    """Whether a file in the folder, or in one of its folders, is named by its moment, as posts are."""
    for folder in _folders(source):
        with suppress(PermissionError):  # such as of a file system's lost+found
            if any(_STEM.match(path.name) for path in folder.iterdir()):
                return True
    return False


def read(source: Path, columns: Mapping[str, str]) -> Iterator[Post | Reject]:
    """Yield the posts of each folder by their names, which is by time.

    Raises:
        InputError: the source is a file, or packed.
    """
    folders = _folders(source)
    if not folders:
        raise InputError(f"{source}: not a folder of Instaloader's.")
    for folder in folders:
        yield from _read_folder(folder)


def _folders(source: Path) -> list[Path]:
    refuse_zip(source)
    if not source.is_dir():
        return []
    return [source, *sorted(path for path in source.iterdir() if path.is_dir())]


def _read_folder(folder: Path) -> Iterator[Post | Reject]:
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    except PermissionError:
        yield Reject("a profile", UNREADABLE_FOLDER, str(folder))
        return
    metadata = {named[1]: named[0] for name in names if (named := _JSON.fullmatch(name))}
    videos = {name.removesuffix(".mp4") for name in names if name.endswith(".mp4")}
    images: dict[str, dict[int, str]] = {stem: {} for stem in metadata}  # stem of a post → number → name
    for name in names:
        stem, ending = Path(name).stem, Path(name).suffix.lower()
        found = _post_of(stem, metadata) if ending in (*_IMAGES, ".txt") else None
        if found:
            post_stem, number = found
            files = images.setdefault(post_stem, {})
            if ending != ".txt" and stem not in videos:
                files[number] = name  # only the last of an image that was downloaded in two encodings
    for stem in sorted(images):
        post = _to_post(folder, stem, metadata.get(stem), images[stem])
        if post:
            yield post


def _post_of(stem: str, metadata: Mapping[str, str]) -> tuple[str, int] | None:
    """The stem of the post that a file belongs to, and its number there: slides are counted from 1."""
    if stem in metadata:
        return stem, 0
    slide = _SLIDE.fullmatch(stem)
    if slide and (slide[1] in metadata or _STEM.fullmatch(slide[1])):
        return slide[1], int(slide[2])
    return (stem, 0) if _STEM.fullmatch(stem) else None


def _to_post(folder: Path, stem: str, metadata: str | None, images: dict[int, str]) -> Post | Reject | None:
    """None where the JSON is of a story, or of something else that is no post."""
    where = stem
    content = read_json(folder / metadata) if metadata else None
    if isinstance(content, Reject):
        return Reject(where, BROKEN_JSON)  # of this post alone
    kind, node = dig(content, "instaloader", "node_type"), dig(content, "node")
    if metadata and kind != "Post":
        return None if isinstance(kind, str) else Reject(where, BROKEN_ENTRY)
    identity = dig(node, "shortcode") if metadata else hidden(f"{folder.name}/{stem}")
    if not isinstance(identity, str) or not identity:
        return Reject(where, BROKEN_ENTRY)
    account = _account(folder, node) or f"instaloader/{identity}"
    caption, comments = _caption(folder, stem, node), _comments(folder / f"{stem}_comments.json")
    if caption is None or comments is None or not is_clean(identity, account):
        return Reject(where, BROKEN_ENTRY)
    videos = _videos(node)
    stills = [name for number, name in sorted(images.items()) if number not in videos]
    files = tuple(ImageFile(str(folder / name)) for name in stills)
    return Post(f"instaloader/{identity}", account, files, caption, comments, time=_time(stem, node))


def _time(stem: str, node: Any) -> int | None:
    """The moment in the JSON, else that of the name."""
    told = dig(node, "taken_at_timestamp") or dig(node, "date")
    if told is None and _STEM.match(stem):
        day, clock, *_ = stem.split("_")
        told = f"{day}T{clock.replace('-', ':')}"
    return to_seconds(told)


def _videos(node: Any) -> set[int]:
    """The numbers of the files that are thumbnails of videos, as `_post_of` counts."""
    slides = dig(node, "edge_sidecar_to_children", "edges")
    nodes = [node, *(dig(each, "node") for each in (slides if isinstance(slides, list) else []))]
    return {
        number
        for number, each in enumerate(nodes)
        if dig(each, "is_video") is True or dig(each, "__typename") == "GraphVideo"
    }


def _account(folder: Path, node: Any) -> str | None:
    """The owner's number, else the name; without a JSON the number of the profile that the folder is of."""
    for key in ("id", "username"):
        owner = dig(node, "owner", key)
        if isinstance(owner, str | int) and owner:
            return f"instagram/{owner}"
    if node is None and (folder / "id").is_file():
        return f"instagram/{(folder / 'id').read_text(errors='surrogateescape').strip()}"
    return None


def _caption(folder: Path, stem: str, node: Any) -> str | None:
    """The caption in the JSON, else in the .txt, which may hold other things; None where it is broken."""
    if dig(node, "edge_media_to_caption") is not None:
        edges = dig(node, "edge_media_to_caption", "edges")
        text = dig(edges, 0, "node", "text") if edges else ""
        return text if isinstance(text, str) and isinstance(edges, list) else None
    caption = dig(node, "caption")
    if caption is not None:
        text = dig(caption, "text") if isinstance(caption, dict) else caption
        return text if isinstance(text, str) else None
    try:
        return (folder / f"{stem}.txt").read_text(encoding="utf-8-sig").removesuffix("\n")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError):
        return None


def _comments(path: Path) -> tuple[str, ...] | None:
    """The texts of the comments and of their answers; None where they are broken."""
    if not path.is_file():
        return ()
    comments = read_json(path)
    if not isinstance(comments, list):
        return None
    texts = []
    for comment in comments:
        answers = dig(comment, "answers") or []
        if not isinstance(answers, list):
            return None
        texts += [dig(each, "text") for each in (comment, *answers)]
    return tuple(texts) if all(isinstance(text, str) for text in texts) else None
