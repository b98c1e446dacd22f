"""Containers: the values in a file of each format, one after another, in constant memory.

Every reader yields (row, offset, value): the number of the row, where its line begins in the
decompressed stream (0 where there are no lines), and an object, or a ``BadLine``.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from mlxprune.data.decompression import (
    BYTE_ORDER_MARK,
    MOST_LINE_BYTES,
    LongLine,
    Told,
    decompressed_chunks,
    decompressed_lines,
)
from mlxprune.data.formats import csv_delimiter, tsv_is_quoted
from mlxprune.data.json_reader import JsonReader
from mlxprune.data.rows import AUTO_DOMAIN_KEYS, TOO_LONG, BadLine, value_at
from mlxprune.data.sources import Source
from mlxprune.errors import DataError, one_line

Values = Iterator[tuple[int, int, Any]]
Part = tuple[int, int]  # bytes of a JSON Lines file, row groups of a Parquet file: [from, to)
BATCH_ROWS = 256
HEAD_LINES = 50  # of a table, by which its quotes are known
CHECK = "check the file, or leave it out"


def quiet(what: str) -> None:
    """Told nothing."""


def values_of(
    source: Source, part: Part | None = None, told: Told = quiet, whole: bool = False
) -> Values:
    """The values of a file that is not of plain text; ``part`` of it, numbered from 0. Of columns,
    those that its keys name, or with ``whole`` all.

    Raises DataError where the file cannot be read on.
    """
    if source.form == "jsonl":
        return jsonl_values(source.path, source.keys.id, told, part, source.keys.most_bytes)
    if source.form == "json":
        return _json_values(source, told)
    if source.form in ("csv", "tsv"):
        return _csv_values(source, told)
    if source.form == "warc":
        return _warc_values(source, told)
    return _column_values(source, part, whole)


def jsonl_values(
    path: Path,
    id_key: str = "id",
    told: Told = quiet,
    part: Part | None = None,
    most: int = MOST_LINE_BYTES,
) -> Values:
    """(row, offset, JSON value) of every line that is not blank."""
    for number, (offset, line) in enumerate(jsonl_lines(path, told, part, most)):
        value = line if isinstance(line, BadLine) else line_value(line, id_key)
        del line  # one of hundreds of megabytes is not held beside its value
        yield number, offset, value


def jsonl_lines(
    path: Path, told: Told = quiet, part: Part | None = None, most: int = MOST_LINE_BYTES
) -> Iterator[tuple[int, bytes | BadLine]]:
    """(offset, line without its end) of every line that is not blank: the rows of the file."""
    for offset, line in decompressed_lines(path, told, part, most):
        if isinstance(line, LongLine):
            yield offset, long_line(line)
            continue
        if offset == 0:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if line and not line.isspace():
            yield offset, line


def long_line(line: LongLine) -> BadLine:
    return BadLine(TOO_LONG, line.start.decode("utf-8", "replace"))


def line_value(line: bytes, id_key: str = "id") -> Any:
    """The JSON value of a line, or a ``BadLine``."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        value = _second_look(line)
    if type(value) is dict and isinstance(value_at(value, id_key), float):
        value = json.loads(line)  # the fast parser rounds integers above 64 bits
    return value


def _second_look(line: bytes) -> Any:
    """A line that the fast parser refuses. Bytes are checked before JSON."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return BadLine("invalid_utf8", ascii(line[:80]))
    # It also refuses NaN and lone surrogates, which are not broken JSON to everyone.
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return BadLine("bad_json", line[:80].decode("utf-8", "replace"))


def _json_values(source: Source, told: Told) -> Values:
    reader = JsonReader(decompressed_chunks(source.path, told), source.keys.most_bytes)
    number = 0
    try:
        for value in reader.rows(source.inside):
            yield number, 0, value
            number += 1
    except (ValueError, RecursionError) as error:  # those of JSON and of UTF-8 among them
        problem = f"its JSON is broken after {number:,} rows: {one_line(error)}"
        raise DataError(problem, str(source.path), "mend it, or write one object a line") from None


class _Chunks(io.RawIOBase):
    """Chunks of bytes as a file to read from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks, self.rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.rest:
            chunk = next(self.chunks, None)
            if chunk is None:
                return 0
            self.rest = chunk
        size = min(len(buffer), len(self.rest))
        buffer[:size], self.rest = self.rest[:size], self.rest[size:]
        return size


def _lines(source: Source, told: Told) -> Iterator[str]:
    """Lines with their ends, of whatever kind; bytes that are no UTF-8 as surrogates."""
    raw = io.BufferedReader(_Chunks(decompressed_chunks(source.path, told)), 1 << 16)
    most = source.keys.most_bytes
    with io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", newline="") as text:
        while line := text.readline(most):
            if len(line) == most:
                fix = "raise data.max_document, or check the file"
                raise DataError(f"a line is longer than {most:,} bytes", str(source.path), fix)
            yield line


def _csv_values(source: Source, told: Told) -> Values:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1, source.keys.most_bytes))
    lines = itertools.dropwhile(lambda line: not line.strip(), _lines(source, told))
    head = [*itertools.islice(lines, HEAD_LINES)]
    if not head:
        return
    delimiter = "\t" if source.form == "tsv" else csv_delimiter(head[0])
    if named := re.fullmatch(r"sep=(.)\s*", head[0]):  # as spreadsheets write it
        delimiter, head = named[1], head[1:]
    quoted = source.form == "csv" or tsv_is_quoted(head)
    rows = itertools.chain(head, lines)
    if quoted:
        reader = csv.reader(rows, delimiter=delimiter, strict=True)
    else:
        reader = csv.reader(rows, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    number = 0
    try:
        header = [name.strip() for name in next(reader, [])]
        _refuse_twice(source, header)
        for fields in reader:
            if fields:
                yield number, 0, _csv_row(header, fields)
                number += 1
    except csv.Error as error:
        problem = f"its quotes or delimiters are broken after {number:,} rows: {one_line(error)}"
        raise DataError(problem, str(source.path), "mend it there, or write JSON Lines") from None


def _csv_row(header: list[str], fields: list[str]) -> Any:
    if len(fields) > len(header) and any(field.strip() for field in fields[len(header) :]):
        return BadLine("too_many_fields", " ".join(fields)[:80])
    for field in fields:
        if not field.isascii() and any("\udc80" <= c <= "\udcff" for c in field):
            return BadLine("invalid_utf8", ascii(field[:80]))
    row: dict[str, Any] = dict(zip(header, fields, strict=False))
    if len(fields) < len(header):
        row |= dict.fromkeys(header[len(fields) :])
    return row


def _refuse_twice(source: Source, names: list[str], wanted: list[str] | None = None) -> None:
    """Raises DataError where a column that is needed is there twice."""
    needed = wanted if wanted is not None else [*_text_columns(source), source.keys.id]
    for name in needed:
        if names.count(name) > 1:
            fix = "give one of them another name"
            raise DataError(f"two columns are called {one_line(name)!r}", str(source.path), fix)


def _warc_values(source: Source, told: Told) -> Values:
    """The texts of WET records, and other records of plain text; pages are not text yet."""
    try:
        from warcio.archiveiterator import ArchiveIterator
    except ImportError:
        fix = "pip install 'mlxprune[warc]'"
        raise DataError("reading WARC files needs warcio", str(source.path), fix) from None
    number = 0
    # Unpacked here, so that a file that ends early is told.
    file = io.BufferedReader(_Chunks(decompressed_chunks(source.path, told)), 1 << 16)
    try:
        for record in ArchiveIterator(file):
            headers = record.rec_headers
            if record.rec_type not in ("conversion", "response", "resource"):
                continue
            kind = str(headers.get_header("Content-Type") or "")
            if record.http_headers is not None:
                kind = str(record.http_headers.get_header("Content-Type") or "")
            address = headers.get_header("WARC-Target-URI")
            body = record.content_stream().read(source.keys.most_bytes + 1)
            is_long = len(body) > source.keys.most_bytes
            if record.http_headers is None and not is_long and len(body) < int(record.length or 0):
                fix = "fetch it again, or leave it out"
                raise DataError("the file ends inside a record", str(source.path), fix)
            if is_long:
                value: Any = BadLine(TOO_LONG, body[:80].decode("utf-8", "replace"))
            elif not kind.startswith("text/plain"):
                value = BadLine("not_text", f"{kind or 'of no type'}: {address}")
            else:
                value = {
                    "text": body,
                    "id": headers.get_header("WARC-Record-ID"),
                    "url": address,
                    "date": headers.get_header("WARC-Date"),
                }
            yield number, 0, value
            number += 1
    except DataError:
        raise
    except Exception as error:  # warcio takes headers as they come
        problem = f"cannot read it: {one_line(error)}"
        raise DataError(problem, str(source.path), CHECK) from None


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


def _column_values(source: Source, part: Part | None, whole: bool) -> Values:
    """The rows of a Parquet or Arrow file. Of one without a column of text only the first rows are
    read, so that what there is can be told; the others are counted."""
    import pyarrow

    try:
        number = 0
        for batch in column_batches(source, part, whole):
            for value in batch_values(batch):
                yield number, 0, value
                number += 1
    except (pyarrow.ArrowException, OSError) as error:
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
        _refuse_twice(source, names)
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
        _refuse_twice(source, names)
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


def _text_columns(source: Source) -> list[str]:
    return [part for key in source.keys.text for part in (key, *key.split("+"))]


def wanted_columns(source: Source, names: list[str]) -> list[str]:
    """The columns that the keys of a source name, dotted keys where they are no plain columns; none
    where none of them is the text's."""
    keys = source.keys
    text = _text_columns(source)

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
