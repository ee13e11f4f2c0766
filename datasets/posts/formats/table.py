"""A table of posts: CSV, TSV, JSON lines or Parquet, or a folder of them.

    table ─► its reader ─► the seven values of each row ─► Post | Reject

The columns are `id`, `account`, `image`, `text`, `comments`, `reactions` and `time`, unless told otherwise;
others are ignored. Only an image and some text are asked for: a post without an id is named by its table and
row, one without an account is its own. An image is a file below the table's folder, or lies in a Parquet
cell, also as Hugging Face writes it; a list of them is a post with several. Comments are a list and reactions
a mapping of emojis to counts, as JSON where the table has only text. A time is ISO 8601 or seconds since
1970. A folder of Hugging Face's ImageFolder shape is read by its metadata tables (`file_name`).
"""

import codecs
import csv
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ...errors import InputError
from ..outcomes import (
    BROKEN_LINE,
    IMAGE_OUTSIDE_TABLE,
    LINE_TOO_LONG,
    NO_ID_OR_IMAGE,
    NOT_UTF8,
    ROW_WITHOUT_END,
    UNREADABLE_ROW_GROUP,
)
from ..parquet import ParquetCell, huggingface_images, open_parquet, read_rows
from ..paths import files_in, is_clean, name_in, name_with_tag, stays_inside
from ..post import ImageFile, ImageSource, Post, Reject, unreadable
from ..times import to_seconds

COLUMNS = {  # ours, and what else they are called
    "id": ("id",),
    "account": ("account",),
    "image": ("image", "file_name"),
    "text": ("text", "caption"),
    "comments": ("comments",),
    "reactions": ("reactions",),
    "time": ("time",),
}
LONGEST_FIELD = 1 << 24  # characters: captions with their comments pass csv's own 128 KiB
LONGEST_ROW = 1 << 25  # characters, or bytes of a JSON line
_ABSENT = object()  # the id of a table without ids
_Names = Mapping[str, Sequence[str]]  # of each of our columns, the names that it may have


def recognises(source: Path) -> bool:
    """Whether the name ends as a table's does, or a folder holds such files."""
    return bool(files_in(source, _READERS))


def read(source: Path, columns: Mapping[str, str]) -> Iterator[Post | Reject]:
    """Yield the posts of a table, or of a folder's tables by their names, in the order of the rows.

    Raises:
        InputError: the ending is unknown, or a table lacks a column.
    """
    if unknown := columns.keys() - COLUMNS.keys():
        raise InputError(f"{', '.join(sorted(unknown))}: not a column of ours ({', '.join(COLUMNS)}).")
    names = COLUMNS | {ours: (theirs,) for ours, theirs in columns.items()}
    tables = files_in(source, _READERS)
    if not tables:
        raise InputError(f"{source}: a table of posts ends in {', '.join(_READERS)}.")
    if any(path.stem == "metadata" for path in tables):
        tables = [path for path in tables if path.stem == "metadata" or path.is_dir()]
    for table in tables:
        name, folder = name_in(table, source), str(table.parent)
        try:
            _refuse_no_text(table)
            tagged = name_with_tag(table, name)
            for number, (line, row) in enumerate(_READERS[table.suffix.lower()](table, names)):
                if not isinstance(row, str):
                    row = _to_post(row, f"{tagged}/{number}", folder)
                if isinstance(row, str):
                    row = Reject(f"{name}:{line}", row, str(table) if row == ROW_WITHOUT_END else "")
                yield row
        except OSError:
            yield unreadable(table, name)


def _refuse_no_text(table: Path) -> None:
    """Raise an InputError for what is packed, or UTF-16: by its mark, or a zero in every other byte."""
    if table.suffix.lower() == ".parquet":
        return
    with open(table, "rb") as file:
        head = file.read(64)
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        raise InputError(f"{table}: packed, with gzip or zip. Unpack it first.")
    fewer, more = sorted(head[first::2].count(0) for first in (0, 1))
    every_other = fewer == 0 and more >= 4 and more > len(head) // 4
    if every_other or head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{table}: not UTF-8; it looks like UTF-16. Save it as UTF-8.")


_Rows = Iterator[tuple[int, Sequence[Any] | str]]
"""Where a row stands, and its values in the order of COLUMNS; or why it has none. May raise OSError."""


class _TooLongError(csv.Error):
    """A row of more than LONGEST_ROW; csv's reader lets it through and can go on behind it."""


class _Lines:
    """The lines of an open table. None is held in memory that is longer than a row may be."""

    def __init__(self, file: IO) -> None:
        self.file = file
        self.number = 0  # of the last line
        self.row = 0  # characters of the lines since a row began: quotes can join any number of them
        self.cut = False  # whether the file ended where a line, or within quotes a row, should have gone on

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> Any:
        line = self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self.row += len(line)
        if self.row < LONGEST_ROW:
            return line
        while len(line) == LONGEST_ROW and self.cut:  # the rest of this line is no row
            line = self._read()
        raise _TooLongError

    def _read(self) -> Any:
        line = self.file.readline(LONGEST_ROW)
        self.cut = line[-1:] not in ("\n", "\r", b"\n")
        return line


def _read_jsonl(path: Path, names: _Names) -> _Rows:
    with open(path, "rb") as file:
        lines = _Lines(file)
        while True:
            lines.row = 0
            try:
                content = next(lines, None)
                if content is None:
                    return
                if content.isspace():
                    continue
                row = json.loads(content.decode("utf-8-sig"))  # strict: a wrong encoding is told, not guessed
            except _TooLongError:
                values = LINE_TOO_LONG
            except UnicodeDecodeError:
                values = NOT_UTF8
            except (ValueError, RecursionError):
                values = BROKEN_LINE
            else:
                values = _pick(row, names) if isinstance(row, dict) else BROKEN_LINE
            yield lines.number, ROW_WITHOUT_END if lines.cut and isinstance(values, str) else values


def _pick(row: dict, names: _Names) -> list:
    values = []
    for ours, theirs in names.items():
        for name in theirs:
            if name in row:
                values.append(row[name])
                break
        else:
            values.append(_ABSENT if ours == "id" else None)
    return values


def _read_csv(path: Path, names: _Names, delimiter: str = ",") -> _Rows:
    csv.field_size_limit(LONGEST_FIELD)
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = _Lines(file)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)  # else an open quote swallows many posts
        try:
            header = next(filter(None, reader), [])
        except csv.Error:
            header = []
        if len(header) == 1 and (other := re.search(r"[;|\t,]", header[0])):  # one column is never enough
            raise InputError(
                f"{path}: its columns are separated by {other[0]!r}, not by {delimiter!r}. "
                "Write it with commas as .csv, or with tabs as .tsv."
            )
        identity, *others = _choose(header, names, path).values()
        while True:
            lines.row, first = 0, lines.number + 1
            try:
                row = next(reader, None)
            except csv.Error as error:
                # How many posts did an open quote swallow, up to the end, or as many as csv lets it?
                if lines.cut or (lines.number > first and lines.row > LONGEST_FIELD):
                    yield first, ROW_WITHOUT_END
                else:
                    yield lines.number, LINE_TOO_LONG if isinstance(error, _TooLongError) else BROKEN_LINE
                continue
            if row is None:
                return
            if row and lines.cut and (len(row) < len(header) or row[-1].endswith("\0")):
                yield first, ROW_WITHOUT_END
            elif row:
                content = dict(zip(header, row, strict=False))  # short rows lack their last columns
                values = [content.get(identity) if identity else _ABSENT]
                values += [content.get(name) if name else None for name in others]
                bad = ROW_WITHOUT_END if lines.cut else NOT_UTF8
                yield lines.number, values if _is_utf8(values) else bad


def _read_tsv(path: Path, names: _Names) -> _Rows:
    return _read_csv(path, names, delimiter="\t")


def _is_utf8(values: Sequence[Any]) -> bool:
    """Whether `surrogateescape` had nothing to do."""
    try:
        return "".join(value for value in values if isinstance(value, str)).encode() is not None
    except UnicodeEncodeError:
        return False


def _read_parquet(path: Path, names: _Names) -> _Rows:
    file = open_parquet(path)
    if names["image"] == COLUMNS["image"]:
        names = {**names, "image": (*names["image"], *huggingface_images(file))}
    chosen = _choose(file.schema_arrow.names, names, path)
    for row, values in enumerate(read_rows(file, path, tuple(chosen.values()), chosen["image"] or "")):
        if values and chosen["id"] is None:
            values = (_ABSENT, *values[1:])
        yield row, values or UNREADABLE_ROW_GROUP


def _choose(header: Sequence[str], names: _Names, path: Path) -> dict[str, str | None]:
    """The column of a table for each of ours; None where it has none. Raises InputError."""
    chosen = {ours: next((name for name in theirs if name in header), None) for ours, theirs in names.items()}
    wanted = {"image"} | {ours for ours, theirs in names.items() if theirs != COLUMNS[ours]}
    if not any(chosen[ours] for ours in ("text", "comments", "reactions")):
        wanted.add("text")
    if missing := [names[ours][0] for ours in names if ours in wanted and chosen[ours] is None]:
        there = ", ".join(header[:30]).encode(errors="replace").decode()
        raise InputError(
            f"{path}: no column {', '.join(missing)}, but: {there or 'nothing'}. Say which is which with "
            "--column, as in --column text=caption."
        )
    if twice := [name for name in chosen.values() if name and list(header).count(name) > 1]:
        raise InputError(f"{path}: more than one column is called {twice[0]}.")
    return chosen


def _to_post(values: Sequence[Any], name: str, folder: str) -> Post | str:
    """Check a row's types: the post, or the reason why it is none. Numbers are welcome as ids."""
    identity, account, image, text, comments, reactions, time = values
    identity = name if identity is _ABSENT else identity
    if bytes in map(type, values[:-1]):  # what pyarrow could not decode
        return NOT_UTF8
    images = _to_images(image, folder)
    if isinstance(images, str):
        return images
    if not isinstance(identity, str | int) or identity == "":
        return NO_ID_OR_IMAGE
    if not isinstance(text, str | None) or not isinstance(account, str | int | None):
        return BROKEN_LINE
    comments, reactions = _to_comments(comments), _to_reactions(reactions)
    if comments is None or reactions is None:
        return BROKEN_LINE
    identity = str(identity)
    account = identity if account in (None, "") else str(account)
    if not is_clean(identity, account):
        return BROKEN_LINE
    return Post(identity, account, images, text or "", comments, reactions, to_seconds(time))


def _to_images(value: Any, folder: str) -> tuple[ImageSource, ...] | str:
    """The images of a row, or the reason why it has none."""
    images: list[ImageSource] = []
    if isinstance(value, str) and value.startswith('["'):
        value = _from_json(value)
    for image in value if isinstance(value, list) else [value]:
        if isinstance(image, ParquetCell):
            images.append(image)
        elif not isinstance(image, str) or not image:
            return NO_ID_OR_IMAGE
        elif not is_clean(image):
            return BROKEN_LINE
        elif not stays_inside(image):
            return IMAGE_OUTSIDE_TABLE
        else:
            images.append(ImageFile(os.path.join(folder, image)))
    return tuple(images) or NO_ID_OR_IMAGE


def _to_comments(value: Any) -> tuple[str, ...] | None:
    """A row's comments; None where they are not a list of texts."""
    value = _from_json(value) if isinstance(value, str) else value
    if value is None:
        return ()
    fine = isinstance(value, list) and all(isinstance(comment, str) for comment in value)
    return tuple(value) if fine else None


def _to_reactions(value: Any) -> tuple[tuple[str, int], ...] | None:
    """A row's emojis and counts, from a mapping or its pairs; None where they are something else."""
    value = _from_json(value) if isinstance(value, str) else value
    if value is None:
        return ()
    try:
        pairs = [(emoji, count) for emoji, count in (value.items() if isinstance(value, dict) else value)]
    except (TypeError, ValueError):
        return None
    # In Parquet's structs each row names every emoji of the table; those that it lacks have no count.
    given = [(emoji, count) for emoji, count in pairs if count is not None]
    fine = all(isinstance(emoji, str) and type(count) is int and count >= 0 for emoji, count in given)
    return tuple(given) if fine else None


def _from_json(value: str) -> Any:
    """What a JSON text stands for: nothing if it is empty, itself if it is no JSON."""
    try:
        return json.loads(value) if value else None
    except (ValueError, RecursionError):
        return value


_READERS = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}
