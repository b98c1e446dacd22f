"""Columns: the rows of Parquet and Arrow files, a bounded number of bytes at a time.

A file of a kilobyte may hold a value of many megabytes in a dictionary, and rows that all name it:
how many rows are made at once follows from their bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlxprune.data.rows import AUTO_DOMAIN_KEYS, BadLine
from mlxprune.data.sources import Source
from mlxprune.errors import DataError, one_line

Values = Iterator[tuple[int, int, Any]]
Part = tuple[int, int]  # bytes of a JSON Lines file, row groups of a Parquet file: [from, to)
BATCH_ROWS = 256
CHECK = "check the file, or leave it out"
HELD_BYTES = 64 << 20  # of the rows of a table, about, that are made at a time


def _rows_together(path: Path, metadata: Any, group: int, columns: list[str]) -> int:
    """How many rows of a row group of a Parquet file are read at a time: BATCH_ROWS, and fewer
    where they may be large. A value is no larger than the dictionary of its column, or about as
    large as others of the column."""
    told = metadata.row_group(group)
    widest = 1.0
    for place in range(told.num_columns):
        chunk = told.column(place)
        if chunk.path_in_schema.split(".")[0] not in columns or not told.num_rows:
            continue
        widest = max(widest, chunk.total_uncompressed_size / told.num_rows)
        if chunk.has_dictionary_page and chunk.total_uncompressed_size > HELD_BYTES // BATCH_ROWS:
            widest = max(widest, _dictionary_bytes(path, chunk))
    return max(1, min(BATCH_ROWS, int(HELD_BYTES / widest)))


def _dictionary_bytes(path: Path, chunk: Any) -> int:
    """The size of a column's dictionary, as the header of its page says: the first three fields of
    a PageHeader in Thrift's compact protocol (https://parquet.apache.org/docs/file-format).
    Raises OSError where they are none."""
    with path.open("rb") as file:
        file.seek(chunk.dictionary_page_offset)
        head = file.read(16)
    found, at = [], 0
    for _ in range(2):  # type, uncompressed_page_size: fields of kind i32, each the next
        if head[at : at + 1] != b"\x15":
            raise OSError("a dictionary page has a broken header")
        value, shift, at = 0, 0, at + 1
        while at < len(head):
            byte = head[at]
            value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
            if byte < 0x80:
                break
        found.append((value >> 1) ^ -(value & 1))
    return found[1]


def column_values(source: Source, part: Part | None, whole: bool) -> Values:
    """The rows of a Parquet or Arrow file. Of one without a column of text only the first rows are
    read, so that what there is can be told; the others are counted."""
    import pyarrow

    try:
        number = 0
        for batch in column_batches(source, part, whole):
            for value in batch_values(batch):
                yield number, 0, value
                number += 1
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        problem = f"cannot read it: {one_line(error)}"
        raise DataError(problem, str(source.path), CHECK) from None


def column_batches(source: Source, part: Part | None = None, whole: bool = False) -> Iterator[Any]:
    """The record batches of a Parquet or Arrow file, at most BATCH_ROWS rows each; of its columns
    those that the keys name, or with ``whole`` all. Raises what pyarrow raises."""
    import pyarrow
    import pyarrow.parquet

    if source.form == "parquet":
        file = pyarrow.parquet.ParquetFile(source.path, pre_buffer=False)
        names = file.schema_arrow.names
        columns = names if whole else wanted_columns(source, names)
        groups = None if part is None else [*range(*part)]
        refuse_twice(source, names)
        if columns:
            tops = [name.split(".")[0] for name in columns]
            for group in range(file.metadata.num_row_groups) if groups is None else groups:
                rows = _rows_together(source.path, file.metadata, group, tops)
                yield from file.iter_batches(rows, row_groups=[group], columns=columns)
            return
        few = min(
            [BATCH_ROWS]
            + [
                _rows_together(source.path, file.metadata, group, names)
                for group in (range(file.metadata.num_row_groups) if groups is None else groups)
            ]
        )
        yield from itertools.islice(file.iter_batches(few, row_groups=groups), 1)
        ours = range(file.metadata.num_row_groups) if groups is None else groups
        rows = sum(file.metadata.row_group(group).num_rows for group in ours)
        yield from _counted(max(0, rows - few))
        return
    with pyarrow.memory_map(str(source.path)) as mapped:
        if mapped.read(6) == b"ARROW1":
            opened = pyarrow.ipc.open_file(mapped)
            stored = (opened.get_batch(i) for i in range(opened.num_record_batches))
        else:
            mapped.seek(0)
            stored = opened = pyarrow.ipc.open_stream(mapped)
        names = opened.schema.names
        refuse_twice(source, names)
        columns = names if whole else wanted_columns(source, names)
        for batch in stored:
            if not columns:
                yield batch.slice(0, BATCH_ROWS)
                yield from _counted(batch.num_rows - BATCH_ROWS)
                continue
            roots = {key if key in names else key.split(".")[0] for key in columns}
            chosen = batch.select([i for i, name in enumerate(names) if name in roots])
            for start in range(0, chosen.num_rows, BATCH_ROWS):
                yield chosen.slice(start, BATCH_ROWS)


def _counted(rows: int) -> Iterator[Any]:
    """So many rows of which nothing is read."""
    import pyarrow

    for start in range(0, rows, BATCH_ROWS):
        yield pyarrow.RecordBatch.from_struct_array(
            pyarrow.array([{}] * min(BATCH_ROWS, rows - start), pyarrow.struct([]))
        )


def text_columns(source: Source) -> list[str]:
    return [part for key in source.keys.text for part in (key, *key.split("+"))]


def wanted_columns(source: Source, names: list[str]) -> list[str]:
    """The columns that the keys of a source name, dotted keys where they are no plain columns; none
    where none of them is the text's."""
    keys = source.keys
    text = text_columns(source)

    def there(key: str) -> bool:
        return key in names or key.split(".")[0] in names

    if not any(map(there, text)):
        return []
    wanted = [*text, keys.id, *([keys.group] if keys.group else [])]
    wanted += AUTO_DOMAIN_KEYS if keys.domain == "auto" else [keys.domain]
    return [key for key in dict.fromkeys(wanted) if there(key)]


def batch_values(batch: Any) -> Iterator[Any]:
    """The rows of a batch; one that holds bytes which are no text costs only itself, and a column
    that Python has no values for (dates far away, unknown zones) only that column."""
    rows = batch.num_rows
    if rows > 1 and _python_bytes(batch) > HELD_BYTES:
        yield from batch_values(batch.slice(0, rows // 2))
        yield from batch_values(batch.slice(rows // 2))
        return
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        for number in range(batch.num_rows):
            try:
                yield batch.slice(number, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield BadLine("invalid_utf8", "")
        return
    except (ValueError, OverflowError, LookupError):
        able = [i for i in range(batch.num_columns) if _has_values(batch.column(i))]
    if len(able) == batch.num_columns:
        raise DataError("its columns cannot be read", batch.schema.names[0], CHECK)
    yield from batch_values(batch.select(able))


def _python_bytes(batch: Any) -> int:
    """About how large the values of a batch are: a dictionary holds one for many rows."""
    import pyarrow
    import pyarrow.compute

    size = 0
    for column in batch.columns:
        if pyarrow.types.is_dictionary(column.type):
            held = column.dictionary
            wide = held.type
            if (
                pyarrow.types.is_binary(wide)
                or pyarrow.types.is_string(wide)
                or (pyarrow.types.is_large_string(wide) or pyarrow.types.is_large_binary(wide))
            ):
                lengths = pyarrow.compute.binary_length(held).take(column.indices)
                size += pyarrow.compute.sum(lengths).as_py() or 0
            else:
                size += held.nbytes * batch.num_rows
        else:
            size += column.nbytes
    return int(size)


def _has_values(column: Any) -> bool:
    try:
        column.to_pylist()
    except UnicodeDecodeError:
        return True
    except (ValueError, OverflowError, LookupError):
        return False
    return True


def refuse_twice(source: Source, names: list[str], wanted: list[str] | None = None) -> None:
    """Raises DataError where a column that is needed is there twice."""
    needed = wanted if wanted is not None else [*text_columns(source), source.keys.id]
    for name in needed:
        if names.count(name) > 1:
            fix = "give one of them another name"
            raise DataError(f"two columns are called {one_line(name)!r}", str(source.path), fix)
