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
    Told,
    decompressed_chunks,
    decompressed_lines,
)
from mlxprune.data.formats import csv_delimiter, tsv_is_quoted
from mlxprune.data.json_reader import JsonReader
from mlxprune.data.rows import AUTO_DOMAIN_KEYS, BadLine, value_at
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
        return jsonl_values(source.path, source.keys.id, told, part)
    if source.form == "json":
        return _json_values(source, told)
    if source.form in ("csv", "tsv"):
        return _csv_values(source, told)
    if source.form == "warc":
        return _warc_values(source, told)
    return _column_values(source, part, whole)


def jsonl_values(
    path: Path, id_key: str = "id", told: Told = quiet, part: Part | None = None
) -> Values:
    """(row, offset, JSON value) of every line that is not blank."""
    for number, (offset, line) in enumerate(jsonl_lines(path, told, part)):
        yield number, offset, line_value(line, id_key)


def jsonl_lines(
    path: Path, told: Told = quiet, part: Part | None = None
) -> Iterator[tuple[int, bytes]]:
    """(offset, line without its end) of every line that is not blank: the rows of the file."""
    for offset, line in decompressed_lines(path, told, part):
        if offset == 0:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if line and not line.isspace():
            yield offset, line


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
    reader = JsonReader(decompressed_chunks(source.path, told))
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
    with io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", newline="") as text:
        yield from text


def _csv_values(source: Source, told: Told) -> Values:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
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
        from warcio.exceptions import ArchiveLoadFailed
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
            body = record.content_stream().read()
            if record.http_headers is None and len(body) < int(record.length or 0):
                fix = "fetch it again, or leave it out"
                raise DataError("the file ends inside a record", str(source.path), fix)
            if not kind.startswith("text/plain"):
                value: Any = BadLine("not_text", f"{kind or 'of no type'}: {address}")
            else:
                value = {
                    "text": body,
                    "id": headers.get_header("WARC-Record-ID"),
                    "url": address,
                    "date": headers.get_header("WARC-Date"),
                }
            yield number, 0, value
            number += 1
    except (ArchiveLoadFailed, OSError, EOFError, ValueError) as error:
        problem = f"cannot read it: {one_line(error)}"
        raise DataError(problem, str(source.path), CHECK) from None


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
        batches = file.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns or names)
        if columns:
            yield from batches
            return
        yield from itertools.islice(batches, 1)
        ours = range(file.metadata.num_row_groups) if groups is None else groups
        rows = sum(file.metadata.row_group(group).num_rows for group in ours)
        yield from _counted(rows - BATCH_ROWS)
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


def _has_values(column: Any) -> bool:
    try:
        column.to_pylist()
    except UnicodeDecodeError:
        return True
    except (ValueError, OverflowError, LookupError):
        return False
    return True
