"""Posts as people keep them: a table (JSONL or CSV) beside a folder of images.

    posts.jsonl ─► read_posts ─► Post | Reject, in the order of the file

The columns are `id`, `account`, `image` (a path relative to the file) and `text`; others are ignored. A
post without an account is its own account. A line that cannot be read is a Reject, never an exception:
the builder counts them and decides.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError

COLUMNS = ("id", "image", "text")  # that every post must have


@dataclass(frozen=True, slots=True)
class Post:
    """One post with its image."""

    id: str
    account: str
    image: Path
    text: str


@dataclass(frozen=True, slots=True)
class Reject:
    """A post that was skipped: where it stands, and why, in the few words that it is counted under."""

    where: str
    reason: str


def read_posts(path: Path) -> Iterator[Post | Reject]:
    """Yield every post of a `.jsonl` or `.csv` table, and a Reject for what is not one.

    Raises:
        InputError: there is no such table, its ending is unknown, or a CSV lacks a column.
    """
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: a table of posts ends in .jsonl or .csv.")
    if not path.is_file():
        raise InputError(f"{path}: no such file. Give a table with the columns id, account, image and text.")
    for line, row in reader(path):
        where = f"{path.name}:{line}"
        yield row if isinstance(row, Reject) else _to_post(row, where, path.parent)


def _read_jsonl(path: Path) -> Iterator[tuple[int, Mapping | Reject]]:
    with open(path, "rb") as file:
        for line, content in enumerate(file, 1):
            if not content.strip():
                continue
            try:
                row = json.loads(content.decode("utf-8-sig"))  # strict: a wrong encoding is told, not guessed
            except (ValueError, RecursionError):
                row = None
            yield line, row if isinstance(row, dict) else Reject(f"{path.name}:{line}", "broken line")


def _read_csv(path: Path) -> Iterator[tuple[int, Mapping | Reject]]:
    csv.field_size_limit(1 << 24)  # captions with their comments pass the default of 128 KiB
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, strict=True)  # else an open quote swallows the posts behind it
        try:
            columns = reader.fieldnames or ()
        except csv.Error:
            columns = ()
        if missing := [name for name in COLUMNS if name not in columns]:
            raise InputError(
                f"{path}: no column {', '.join(missing)}. The columns are id, account, image, text."
            )
        while True:
            try:
                row = next(reader, None)
            except csv.Error:
                row = Reject(f"{path.name}:{reader.reader.line_num}", "broken line")
            if row is None:
                return
            yield reader.line_num, row


def _to_post(row: Mapping, where: str, folder: Path) -> Post | Reject:
    """Check a row's types; numbers are welcome as ids, and a missing text is an empty one."""
    identity, image, text = (row.get(name) for name in COLUMNS)
    account = row.get("account")
    if not isinstance(identity, str | int) or identity == "" or not isinstance(image, str) or not image:
        return Reject(where, "no id or image")
    if not isinstance(text, str | None) or not isinstance(account, str | int | None):
        return Reject(where, "broken line")
    account = identity if account in (None, "") else account
    post = Post(id=str(identity), account=str(account), image=folder / image, text=text or "")
    if not all(_is_clean(value) for value in (post.id, post.account, image)):
        return Reject(where, "broken line")
    return post


def _is_clean(text: str) -> bool:
    """Whether `text` can be written as UTF-8 and be a file's name: no lone surrogate, no NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
