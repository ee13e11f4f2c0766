"""WebDataset tars, as img2dataset and others write them, and our own; one or a folder of them.

    tar ─► members ─► samples: neighbours of one name up to the first dot ─► Post | Reject

The image stays where it lies, as a TarSlice. The text is the sample's `.txt`, else the caption or text of
its `.json`. Nothing else is opened, and a sample that is not plainly one is rejected, so that no image gets
another's emojis. A damaged header ends a tar for Python's tarfile without a word: here it is told, and the
sample before it, which may lack a member, is lost with it.
"""

import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from ...errors import InputError
from ..outcomes import (
    BROKEN_JSON,
    DAMAGED_TAR,
    DOTS_IN_NAME,
    NO_ID_OR_IMAGE,
    NO_PLAIN_FILE,
    NOT_UTF8,
    REPEATED_MEMBER,
    TEXT_TOO_LONG,
    UNSAFE_NAME,
)
from ..paths import files_in, is_clean, name_in, name_with_tag
from ..post import Post, Reject, changed, unreadable

IMAGES = ("jpg", "jpeg", "png", "webp", "gif")
TEXTS = ("txt", "json")
LONGEST_TEXT = 1 << 24  # bytes
_END = bytes(512)


@dataclass(frozen=True, slots=True)
class TarSlice:
    """An image within a tar."""

    path: str
    offset: int  # bytes
    length: int  # bytes

    def read(self) -> bytes:
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                content = file.read(self.length)
        except FileNotFoundError as error:
            raise changed(self.path) from error
        if len(content) < self.length:
            raise changed(self.path)
        return content


@dataclass(frozen=True, slots=True)
class _Member:
    key: str  # the name up to the first dot of its last part
    extension: str  # the rest, in small letters
    offset: int
    length: int
    text: bytes | None = None  # of TEXTS
    fault: str = ""


class _DamagedError(Exception):
    """A tar that does not go on where it should; the message says where."""


def recognises(source: Path) -> bool:
    """Whether the name ends as a tar's does, or a folder holds such files."""
    return bool(files_in(source, (".tar",)))


def read(source: Path, columns: Mapping[str, str]) -> Iterator[Post | Reject]:
    """Yield a post for each sample, in the order of the tars' names and of their members.

    Raises:
        InputError: not a tar, or columns are given.
    """
    if columns:
        raise InputError("--column is for tables: a tar's texts are in its .txt or .json members.")
    tars = files_in(source, (".tar",))
    if not tars:
        raise InputError(f"{source}: no .tar is there.")
    for tar in tars:
        name = name_in(tar, source)
        try:
            for _, entry in read_tar(tar, name, name_with_tag(tar, name)):
                yield entry
        except OSError:
            yield unreadable(tar, name)


def read_tar(tar: Path, name: str, tagged: str) -> Iterator[tuple[str, Post | Reject]]:
    """Yield a post for each sample of a tar that is called `name`, with the sample's name in the tar.

    Args:
        tagged: what the ids of posts that have none begin with.
    """
    try:
        for key, members in groupby(_read_members(tar), key=lambda member: member.key):
            for entry in _to_posts(list(members), key, tar, name, tagged):
                yield key, entry
    except _DamagedError as error:
        yield "", Reject(f"{name}, {error}", DAMAGED_TAR, str(tar))


def _read_members(path: Path) -> Iterator[_Member]:
    """Every file of a tar. Raises _DamagedError behind the last that can be trusted."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        tar, end = None, 0
        while True:
            file.seek(end)
            if file.read(len(_END)) == _END:
                return _check_end(file, end, size)
            try:
                tar = tar or tarfile.TarFile(fileobj=file)
                file.seek(end)
                info = tarfile.TarInfo.fromtarfile(tar)
            except Exception as error:  # it raises all sorts on broken headers
                raise _DamagedError(f"byte {end} of {size}") from error
            if info.size < 0 or info.offset_data + info.size > size or tar.offset <= end:
                raise _DamagedError(f"byte {end} of {size}")
            end = tar.offset
            if not info.isdir() and "/._" not in f"/{info.name}":  # macOS's notes on other members
                yield _to_member(info, file)


def _check_end(file: BinaryIO, end: int, size: int) -> None:
    """A whole tar has nothing but zeros behind its last member."""
    while content := file.read(1 << 20):
        if content.count(0) < len(content):
            raise _DamagedError(f"byte {end} of {size}")


def _to_member(info: tarfile.TarInfo, file: BinaryIO) -> _Member:
    name = info.name.removeprefix("./")
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    extension = extension.lower()
    fault, text = "", None
    if not is_clean(name) or name.startswith("/") or ".." in name.split("/") or not stem:
        fault = UNSAFE_NAME
    elif not info.isreg() or info.issparse():
        fault = NO_PLAIN_FILE
    elif extension in TEXTS and info.size > LONGEST_TEXT:
        fault = TEXT_TOO_LONG
    elif extension in TEXTS:
        file.seek(info.offset_data)
        text = file.read(info.size)
    return _Member(folder + slash + stem, extension, info.offset_data, info.size, text, fault)


def _to_posts(members: list[_Member], key: str, tar: Path, name: str, tagged: str) -> Iterator[Post | Reject]:
    """The post of a sample, and those that our own tars name as its reposts; or why there is none."""
    where = f"{name}:{key}".encode(errors="backslashreplace").decode()
    extensions = [member.extension for member in members]
    images = tuple(
        TarSlice(str(tar), member.offset, member.length) for member in members if member.extension in IMAGES
    )
    dotted = sum("." in each and each.rpartition(".")[2] in IMAGES for each in extensions)
    if fault := next((member.fault for member in members if member.fault), ""):
        yield Reject(where, fault)
    elif len(set(extensions)) < len(extensions):
        yield Reject(where, REPEATED_MEMBER)
    elif not images and dotted:  # v1.2.jpg and v1.3.jpg: WebDataset takes them for one sample
        yield from [Reject(where, DOTS_IN_NAME)] * dotted
    elif not images:
        yield Reject(where, NO_ID_OR_IMAGE)
    else:
        for post in _read_texts(members, f"{tagged}/{key}", images):
            yield Reject(where, post) if isinstance(post, str) else post


def _read_texts(members: list[_Member], name: str, images: tuple[TarSlice, ...]) -> list[Post | str]:
    """The posts of a sample's images, or why there is none."""
    try:
        texts = {each.extension: each.text.decode("utf-8-sig") for each in members if each.text is not None}
        about = json.loads(texts.get("json", "{}"))
        reposts = about.get("reposts", []) if "emojis" in about else []
        return [_to_post(label, texts.get("txt", ""), name, images) for label in (about, *reposts)]
    except UnicodeDecodeError:
        return [NOT_UTF8]
    except (ValueError, TypeError, AttributeError, RecursionError):  # no JSON, or lists for mappings
        return [BROKEN_JSON]


def _to_post(about: dict, text: str, name: str, images: tuple[TarSlice, ...]) -> Post | str:
    """A post of what its JSON says, and of its text. `name` is its id if it has none."""
    if {"post", "account", "emojis"} <= about.keys():  # ours: canonical emojis
        text = " ".join(about["emojis"])
    elif not text:
        text = about.get("caption") or about.get("text") or ""
    identity = _first(about, "post", "id") or name
    account = _first(about, "account", "author", "username") or identity
    if not isinstance(text, str) or not is_clean(identity, account):
        return BROKEN_JSON
    return Post(identity, account, images, text)


def _first(about: dict, *keys: str) -> str:
    """The first of some values that is a name or a number; "" if there is none."""
    found = (about.get(key) for key in keys)
    return next((str(value) for value in found if type(value) in (str, int) and value != ""), "")
