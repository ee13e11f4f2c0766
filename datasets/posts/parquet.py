"""Rows of a Parquet file, and the images in its cells.

    file ─► read_rows ─► the wanted values of each row; an image's bytes stay where they are, as a
                         ParquetCell ─► read ─► the bytes, when they are wanted

Both go forward through a row group in small batches: a group that pandas wrote can be the whole
file.
"""

import errno
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, repeat
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from .paths import stays_inside
from .post import changed

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROWS = 1024  # a batch
ROWS_WITH_IMAGES = 32  # a batch of which images are read: a hundred megabytes of photographs


@dataclass(frozen=True, slots=True)
class ParquetCell:
    """An image in a cell of a Parquet file: bytes, Hugging Face's {bytes, path}, or one of a list of them."""

    path: str
    column: str
    row: int
    position: int | None = None  # in the list

    def read(self) -> bytes:
        import pyarrow as pa

        try:
            column = _open_column(self.path, self.column)
        except OSError as error:
            if error.errno in (None, errno.ENOENT):  # damaged or gone, and it was whole when we met its rows
                raise changed(self.path) from error
            raise
        try:
            value = column.cell(self.row)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise OSError(f"{self.path}: row {self.row} is damaged: {error}") from error
        if self.position is not None:
            value = value[self.position]
        content, beside = (
            (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        )
        if content is None and beside and stays_inside(beside):
            return (Path(self.path).parent / beside).read_bytes()
        if not isinstance(content, bytes):
            raise FileNotFoundError(f"{self.path}: no image in row {self.row} of {self.column}")
        return content


@lru_cache(maxsize=4)
def _open_column(path: str, column: str) -> "_Column":
    return _Column(path, column)


class _Column:
    """A column whose cells are read in order, as builders do. To go back, it reads the row group anew."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.file, self.name = path, open_parquet(Path(path)), name
        self.firsts = [0, *accumulate(_group_sizes(self.file))]  # the first row of each group, and the end
        self.start = self.stop = 0  # the first row of the batch, and the end of its row group
        self.batch: Sequence = ()
        self.batches: Iterator[pa.RecordBatch] = iter(())
        self.lock = Lock()

    def cell(self, row: int) -> Any:
        with self.lock:
            if not self.start <= row < self.stop:
                if row >= self.firsts[-1]:
                    raise changed(self.path)
                group = bisect_right(self.firsts, row) - 1
                self.start, self.stop = self.firsts[group], self.firsts[group + 1]
                self.batch, self.batches = (), _batches(self.file, group, [self.name], ROWS_WITH_IMAGES)
            while row >= self.start + len(self.batch):
                batch = next(self.batches, None)
                if batch is None:
                    raise OSError(f"row {row} of {self.name} lies in a damaged row group")
                self.start += len(self.batch)
                self.batch = batch.column(self.name)
            return self.batch[row - self.start].as_py()


def open_parquet(path: Path) -> "pq.ParquetFile":
    """Open a file and read what it says of itself. Raises OSError where it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
        rows = sum(_group_sizes(file)) if file.schema_arrow.names else 0
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise OSError(f"{path}: {error}") from error
    if rows != file.metadata.num_rows:
        raise OSError(f"{path}: its row groups are not as long as it says")
    return file


def read_rows(
    file: "pq.ParquetFile", path: Path, columns: Sequence[str | None], image: str
) -> Iterator[tuple[Any, ...] | None]:
    """Yield the values of some columns of each row, and None for a row that is lost in a damaged group.

    A value that cannot be decoded, such as a text that is not UTF-8, is bytes.

    Args:
        columns: their names; a None among them gives the value None.
        image: the one of them with images. Where its cells hold the images themselves, each row gives a
            ParquetCell, even for an empty cell. To know which are empty we would have to read the images, or
            ask pyarrow for the column's statistics: where these are damaged, it ends the process.
    """
    import pyarrow as pa

    layout = _layout(file.schema_arrow.field(image).type)
    wanted = sorted({name for name in columns if name and (name != image or layout != "cells")})
    first = 0
    for group, size in enumerate(_group_sizes(file)):
        row = first
        with suppress(OSError, pa.ArrowException):  # the rows that this leaves out come as None below
            for batch in _batches(file, group, wanted, ROWS_WITH_IMAGES if layout == "lists" else ROWS):
                values = {name: _values(batch.column(name)) for name in wanted if name != image}
                cells = [ParquetCell(str(path), image, row + number) for number in range(len(batch))]
                values[image] = cells if layout == "cells" else _images(batch.column(image), layout, cells)
                nothing = [None] * len(batch)
                yield from zip(*(values[name] if name else nothing for name in columns), strict=True)
                row += len(batch)
        yield from repeat(None, first + size - row)
        first += size


def huggingface_images(file: "pq.ParquetFile") -> list[str]:
    """The columns that Hugging Face's `datasets` wrote as images, by the metadata that it leaves."""
    try:
        about = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])
        features = about["info"]["features"].items()
        return [name for name, feature in features if '"_type": "Image"' in json.dumps(feature)]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return []


def _group_sizes(file: "pq.ParquetFile") -> list[int]:
    return [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]


def _batches(file: "pq.ParquetFile", group: int, columns: list[str], rows: int) -> "Iterator[pa.RecordBatch]":
    """The batches of a row group. Raises OSError where it is damaged."""
    import pyarrow as pa

    try:
        yield from file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)
    except pa.ArrowException as error:
        raise OSError(f"a damaged row group: {error}") from error


def _layout(kind: "pa.DataType") -> Literal["paths", "cells", "lists"]:
    """Where the images of a column are: in files, in the cells themselves, or in lists in the cells."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _layout(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "lists" if _layout(kind.value_type) == "cells" else "paths"
    in_cells = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return "cells" if in_cells or types.is_struct(kind) else "paths"


def _images(array: "pa.Array", layout: str, cells: list[ParquetCell]) -> list:
    """The paths of each row, or as many cells as its list is long."""
    import pyarrow.compute as pc

    if layout == "paths":
        return _values(array)
    lengths = pc.call_function("list_value_length", [array]).to_pylist()
    return [
        [replace(cell, position=position) for position in range(length or 0)]
        for cell, length in zip(cells, lengths, strict=True)
    ]


def _values(array: "pa.Array") -> list:
    """What Python makes of each value; bytes for what it cannot, such as a text that is no UTF-8."""
    try:
        return array.to_pylist()
    except (ValueError, OverflowError):
        return [_value(scalar) for scalar in array]


def _value(scalar: "pa.Scalar") -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return b""
