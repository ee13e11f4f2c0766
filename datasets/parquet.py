"""Rows of a Parquet file, and the images in its cells.

    file ─► read_rows ─► the wanted values of each row; an image's bytes stay where they are, as a
                         ParquetCell ─► read ─► the bytes, when they are wanted

Both go forward through a row group in small batches, for one that pandas wrote can be the whole file.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, islice, repeat
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROWS = 1024  # a batch
_INSIDE = object()
ROWS_WITH_BYTES = 32  # a batch of which images are read: a hundred megabytes of photographs


@dataclass(frozen=True, slots=True)
class ParquetCell:
    """An image in a cell of a Parquet file: bytes, Hugging Face's {bytes, path}, or one of a list of them."""

    path: str
    column: str
    row: int
    position: int | None = None  # in the list

    def read(self) -> bytes:
        value = _open_column(self.path, self.column).cell(self.row)
        if self.position is not None:
            value = value[self.position]
        return value["bytes"] if isinstance(value, dict) else value


@lru_cache(maxsize=4)
def _open_column(path: str, column: str) -> "_Column":
    return _Column(path, column)


class _Column:
    """A column whose cells are read in order, as builders do; going back costs the row group's beginning."""

    def __init__(self, path: str, name: str) -> None:
        self.file, self.name = open_parquet(Path(path)), name
        self.firsts = [0, *accumulate(_group_sizes(self.file))]  # the first row of each group, and the end
        self.start = self.stop = 0  # the rows of the batch, and of the batches behind it
        self.batch: Sequence = ()
        self.batches: Iterator[pa.RecordBatch] = iter(())
        self.lock = Lock()

    def cell(self, row: int) -> Any:
        with self.lock:
            if not self.start <= row < self.stop:
                group = bisect_right(self.firsts, row) - 1
                self.start, self.stop = self.firsts[group], self.firsts[group + 1]
                self.batch, self.batches = (), _batches(self.file, group, [self.name], ROWS_WITH_BYTES)
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
        rows = sum(_group_sizes(file)) if file.schema_arrow else 0
    except pa.ArrowException as error:
        raise OSError(f"{path}: {error}") from error
    if rows != file.metadata.num_rows:
        raise OSError(f"{path}: its row groups are not as long as it says")
    return file


def read_rows(
    file: "pq.ParquetFile", path: Path, columns: Sequence[str | None], image: str
) -> Iterator[tuple[Any, ...] | None]:
    """Yield the values of some columns of each row, and None for a row that is lost in a damaged group.

    Args:
        columns: their names; None gives None.
        image: the one of them with images: in it a ParquetCell stands for every image's bytes.

    What is no UTF-8 stays bytes.
    """
    first = 0
    for group, size in enumerate(_group_sizes(file)):
        done = 0
        stored = _is_stored(file, group, image)
        wanted = sorted({name for name in columns if name and not (stored and name == image)})
        rows = ROWS if stored or not _holds_bytes(file.schema_arrow.field(image).type) else ROWS_WITH_BYTES
        with suppress(OSError):  # what it lacks is told below
            for batch in _batches(file, group, wanted, rows):
                values = {name: _values(batch.column(name)) for name in wanted if name != image}
                images = [_INSIDE] * len(batch) if stored else _images(batch.column(image))
                values[image] = [
                    _placed(value, ParquetCell(str(path), image, row))
                    for row, value in enumerate(images, first + done)
                ]
                nothing = [None] * len(batch)
                yield from zip(*(values.get(name or "", nothing) for name in columns), strict=True)
                done += len(batch)
        yield from repeat(None, size - done)
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


def _is_stored(file: "pq.ParquetFile", group: int, image: str) -> bool:
    """Whether every row of a group has the bytes of one image: statistics tell it without reading them."""
    if not _holds_bytes(file.schema_arrow.field(image).type):
        return False
    chunks = file.metadata.row_group(group)
    for chunk in (chunks.column(number) for number in range(chunks.num_columns)):
        if chunk.path_in_schema in (image, f"{image}.bytes") and (statistics := chunk.statistics):
            return statistics.has_null_count and statistics.null_count == 0
    return False


def _holds_bytes(kind: "pa.DataType") -> bool:
    """Whether images lie in such a column, and not only their paths."""
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return _is_bytes(kind) or (hasattr(kind, "value_type") and _holds_bytes(kind.value_type))


def _is_bytes(kind: "pa.DataType") -> bool:
    import pyarrow.types as types

    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _images(array: "pa.Array") -> list:
    """Of each row: _INSIDE for an image's bytes, a path, or None; or a list of them."""
    import pyarrow.compute as pc
    import pyarrow.types as types

    kind = array.type
    if types.is_dictionary(kind):
        return _images(array.dictionary_decode())
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        each = iter(_images(array.flatten()))
        lengths = pc.call_function("list_value_length", [array]).to_pylist()
        return [None if length is None else list(islice(each, length)) for length in lengths]
    if types.is_struct(kind):
        fields = dict(zip([field.name for field in kind], array.flatten(), strict=True))
        nothing = [None] * len(array)
        inside = _images(fields["bytes"]) if "bytes" in fields else nothing
        paths = _values(fields["path"]) if "path" in fields else nothing
        return [there or path for there, path in zip(inside, paths, strict=True)]
    if _is_bytes(kind):
        return [_INSIDE if there else None for there in array.is_valid().to_pylist()]
    return _values(array)


def _placed(value: Any, cell: ParquetCell) -> Any:
    """Put the cell where the bytes were."""
    if isinstance(value, list):
        return [
            replace(cell, position=position) if each is _INSIDE else each
            for position, each in enumerate(value)
        ]
    return cell if value is _INSIDE else value


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
