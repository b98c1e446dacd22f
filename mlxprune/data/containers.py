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
from mlxprune.data.rows import TOO_LONG, BadLine, value_at
from mlxprune.data.sources import Source
from mlxprune.data.tables import CHECK, Part, Values, column_values, refuse_twice
from mlxprune.errors import DataError, one_line

HEAD_LINES = 50  # of a table, by which its quotes are known


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
    return column_values(source, part, whole)


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
        refuse_twice(source, header)
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
