"""Original rows: the rows of a file as they stand there, with all their fields.

A row of JSON Lines is its line, byte for byte; one of Parquet or Arrow a row of a record batch with
the file's own columns and types; one of another format the JSON object of its fields. Rows are
numbered as the index numbers them.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import orjson
import pyarrow as pa

from mlxprune.data.containers import line_value, long_line, quiet, values_of
from mlxprune.data.decompression import (
    BYTE_ORDER_MARK,
    LineInPieces,
    LongLine,
    Told,
    decompressed_chunks,
)
from mlxprune.data.hashing import hash_text
from mlxprune.data.index import Corpus, changed_input
from mlxprune.data.readers import head_of, read_rows, text_domain
from mlxprune.data.rows import (
    BadLine,
    Row,
    RowKeys,
    Skip,
    auto_domain,
    found_text,
    row_of,
)
from mlxprune.data.sources import Source
from mlxprune.data.tables import BATCH_ROWS, CHECK, batch_values, column_batches, wanted_columns
from mlxprune.errors import DataError, one_line

LINES_TOGETHER = 8192  # where whoever takes them works in a thread: few hand-overs cost little
MANY_DIGITS = re.compile(rb"[0-9]{19}")
T = TypeVar("T")
BATCH_BYTES = 4 << 20  # of lines that are held together


@dataclass(frozen=True)
class RawRows:
    """Rows of one file that follow each other, from the number ``first`` on.

    ``table`` of a file of columns; else ``lines`` as JSON without their ends, or ``values`` where
    they are known already. A row that is no JSON object is a ``BadLine`` among them.
    """

    first: int
    table: pa.RecordBatch | None = None
    lines: list[bytes | BadLine] | None = None
    values: list[Any] | None = None

    def __len__(self) -> int:
        if self.table is not None:
            return int(self.table.num_rows)
        return len(self.lines or self.values or ())

    def take(self, at: np.ndarray) -> RawRows:
        """The rows at these places; their numbers are then the caller's to know."""
        if len(at) == len(self):
            return self
        if self.table is not None:
            return replace(self, table=self.table.take(pa.array(at)))
        lines, values = (
            None if some is None else [some[i] for i in at.tolist()]  # type: ignore[index]
            for some in (self.lines, self.values)
        )
        return replace(self, lines=lines, values=values)

    def as_lines(self) -> list[bytes | BadLine]:
        """Every row as one line of JSON, with its end."""
        return [x if isinstance(x, BadLine) else x + b"\n" for x in self.bare_lines()]

    def bare_lines(self) -> list[bytes | BadLine]:
        """The same without its end."""
        if self.lines is not None:
            return self.lines
        return [v if isinstance(v, BadLine) else json_line(v)[:-1] for v in self.all_values()]

    def all_values(self) -> list[Any]:
        """Every row as the object that it is, with all fields."""
        if self.values is not None:
            return self.values
        if self.table is not None:
            return _whole_rows(self.table)
        return [v if isinstance(v, BadLine) else _whole_value(v) for v in self.lines or ()]


def raw_rows(
    source: Source,
    told: Told = quiet,
    position: list[int] | None = None,
    lines: int = BATCH_ROWS,
) -> Iterator[RawRows]:
    """The rows of a file, some at a time, in constant memory; ``position`` holds the stored bytes
    that have been read, of files of lines, of which so many ``lines`` come together at most. Raises
    DataError where the file cannot be read on."""
    if source.form == "jsonl":
        yield from _of_lines(source, told, position, lines)
    elif source.form in ("parquet", "arrow"):
        yield from _of_columns(source)
    elif source.form == "text":
        row = next(iter(read_rows(source, told=told)))
        value: Any = BadLine(row.reason, row.start) if isinstance(row, Skip) else None
        yield RawRows(0, values=[value or {"id": source.name, "text": row.text}])  # type: ignore[union-attr]
    else:
        values = values_of(source, told=told, whole=True)
        first = 0
        while some := [value for _, _, value in itertools.islice(values, BATCH_ROWS)]:
            yield RawRows(first, values=some)
            first += len(some)


def _of_lines(
    source: Source, told: Told, position: list[int] | None, most: int
) -> Iterator[RawRows]:
    """Lines are cut chunk by chunk: one by one would take longer than all else that is done to
    those that are left out."""
    waiting: list[bytes | BadLine] = []
    first = 0
    for lines in _line_lists(source, told, position):
        waiting += lines
        whole = len(waiting) - len(waiting) % most
        for at in range(0, whole, most):
            yield RawRows(first + at, lines=waiting[at : at + most])
        first, waiting = first + whole, waiting[whole:]
        if sum(len(line) for line in waiting if isinstance(line, bytes)) >= BATCH_BYTES:
            yield RawRows(first, lines=waiting)
            first, waiting = first + len(waiting), []
    if waiting:
        yield RawRows(first, lines=waiting)


def _line_lists(
    source: Source, told: Told, position: list[int] | None
) -> Iterator[list[bytes | BadLine]]:
    """The lines that are not blank, those of a chunk together; ``jsonl_lines`` has the rules."""
    begun = LineInPieces(source.keys.most_bytes)  # of a line that no chunk has ended yet
    is_first = True
    for chunk in decompressed_chunks(source.path, told, position):
        lines: list[bytes] = chunk.split(b"\n")
        begun.add(lines[0])
        if len(lines) > 1:
            joined = _without_mark(begun.take(), is_first)
            is_first = False
            begun.add(lines.pop())
            rest = [line for line in lines[1:] if line and not line.isspace()]
            yield [joined, *rest] if joined is not None else [*rest]
    last = _without_mark(begun.take(), is_first)
    if last is not None:
        yield [last]


def _without_mark(line: bytes | LongLine, is_first: bool) -> bytes | BadLine | None:
    """A line as a row has it; None of a blank one."""
    if isinstance(line, LongLine):
        return long_line(line)
    line = line.removeprefix(BYTE_ORDER_MARK) if is_first else line
    return line if line and not line.isspace() else None


def _of_columns(source: Source) -> Iterator[RawRows]:
    try:
        first = 0
        for batch in column_batches(source, whole=True):
            yield RawRows(first, table=batch)
            first += batch.num_rows
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        problem = f"cannot read it: {one_line(error)}"
        raise DataError(problem, str(source.path), CHECK) from None


def _whole_value(line: bytes) -> Any:
    """The object of a line; the fast parser rounds integers above 64 bits."""
    if MANY_DIGITS.search(line):
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            pass
    return line_value(line)


def _whole_rows(table: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows with all columns; what Python has no values for is told as text."""
    columns = [_cells(column) for column in table.columns]
    names = table.schema.names
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _cells(column: pa.Array) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        cells = column.cast(pa.large_binary()).to_pylist()
        return [None if x is None else x.decode("utf-8", "backslashreplace") for x in cells]
    except (ValueError, OverflowError, LookupError):  # dates far away, unknown zones
        return list(column.cast(pa.string()).to_pylist())


def json_line(value: Any) -> bytes:
    """A row as one line of JSON: dates as ISO 8601, bytes as text where they are UTF-8."""
    try:
        return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE, default=_plain)
    except (TypeError, orjson.JSONEncodeError):  # integers above 64 bits, lone surrogates
        return json.dumps(value, default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def keys_for(source: Source) -> RowKeys:
    """The keys of a source's rows as they are here: a file of plain text has an id and a text."""
    if source.form == "text":
        return RowKeys(fixed=text_domain(source))
    return source.keys


def domain_key_of(source: Source) -> str:
    """What names the domains of a file: its key, or what `auto` means for its first rows."""
    keys = keys_for(source)
    if keys.domain != "auto" or keys.fixed is not None:
        return keys.domain
    return auto_domain(source.top, head_of(source))[0]


def judged(source: Source, domain_key: str, raw: RawRows) -> list[Row | Skip]:
    """What every row is: a document, or why it is none."""
    keys = keys_for(source)
    return [
        row_of(source.top, source.name, keys, domain_key, raw.first + i, 0, value)
        for i, value in enumerate(_wanted_values(source, keys, raw))
    ]


def _wanted_values(source: Source, keys: RowKeys, raw: RawRows) -> list[Any]:
    """Every row with at least the fields that its keys name."""
    if raw.values is not None:
        return raw.values
    if raw.table is not None:
        names = raw.table.schema.names
        wanted = wanted_columns(source, names)
        roots = {key if key in names else key.split(".")[0] for key in wanted}
        table = raw.table.select([i for i, name in enumerate(names) if name in roots])
        return [*batch_values(table)] if roots else [{}] * len(raw)
    return [v if isinstance(v, BadLine) else line_value(v, keys.id) for v in raw.lines or ()]


def _texts_of(source: Source, raw: RawRows) -> list[str] | None:
    """The texts of rows that were documents; None where one of them is none any more."""
    keys, texts = keys_for(source), []
    for value in _wanted_values(source, keys, raw):
        text = found_text(value, keys) if type(value) is dict else None
        if isinstance(text, bytes):
            try:
                text = text.decode()
            except UnicodeDecodeError:
                return None
        if type(text) is not str:
            return None
        texts.append(text)
    return texts


def _are_those(texts: list[str], hashes: np.ndarray) -> bool:
    """Whether the texts have these hashes; one that is no UTF-8 any more has none."""
    try:
        found = np.fromiter(map(hash_text, texts), np.uint64, len(texts))
    except UnicodeEncodeError:
        return False
    return bool(np.array_equal(found, hashes))


@dataclass(frozen=True)
class DocumentRows:
    """Documents of a corpus, ascending, with the rows that they came from and their texts."""

    source: Source
    documents: np.ndarray
    raw: RawRows
    texts: list[str]


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, of which the next is made in a thread while one is used."""
    end: Any = object()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = thread.submit(next, items, end)
            yield item


def document_rows(
    corpus: Corpus, documents: np.ndarray, together: int = LINES_TOGETHER
) -> Iterator[DocumentRows]:
    """The rows of documents, which are ascending, file by file; of files of lines at most so many
    ``together``.

    Raises DataError where a text is no longer what the index saw.
    """
    bounds = np.searchsorted(corpus.index["file"][documents], np.arange(len(corpus.sources) + 1))
    for code, source in enumerate(corpus.sources):
        here = documents[bounds[code] : bounds[code + 1]]
        if not len(here):
            continue
        rows = corpus.index["row"][here].astype(np.int64)
        at = 0
        for raw in raw_rows(source, lines=together):
            stop = int(np.searchsorted(rows, raw.first + len(raw)))
            if stop > at:
                chosen = raw.take(rows[at:stop] - raw.first)
                texts = _texts_of(source, chosen)
                if texts is None or not _are_those(texts, corpus.index["text"][here[at:stop]]):
                    raise changed_input(source)
                yield DocumentRows(source, here[at:stop], chosen, texts)
                at = stop
            if at == len(here):
                break
        if at < len(here):
            raise changed_input(source)
