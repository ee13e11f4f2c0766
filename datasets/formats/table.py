"""A table beside a folder of images: JSONL or CSV.

The columns are `id`, `account`, `image` (a path relative to the file) and `text`; others are ignored. A
post without an account is its own account.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import InputError
from ..posts import ImageFile, Post, Reject, is_clean

COLUMNS = ("id", "image", "text")  # that every post must have


def recognises(source: Path) -> bool:
    """Whether the name ends as a table's does."""
    return source.is_file() and source.suffix.lower() in _READERS


def read(source: Path, columns: Mapping[str, str]) -> Iterator[Post | Reject]:
    """Yield the posts of a table in the order of the file.

    Raises:
        InputError: the ending is unknown, or a CSV lacks a column.
    """
    reader = _READERS.get(source.suffix.lower())
    if reader is None:
        raise InputError(f"{source}: a table of posts ends in {' or '.join(_READERS)}.")
    for line, row in reader(source):
        where = f"{source.name}:{line}"
        yield row if isinstance(row, Reject) else _to_post(row, where, source.parent)


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
    if not is_clean(str(identity), str(account), image):
        return Reject(where, "broken line")
    return Post(str(identity), str(account), (ImageFile(str(folder / image)),), caption=text or "")


_READERS = {".jsonl": _read_jsonl, ".csv": _read_csv}
