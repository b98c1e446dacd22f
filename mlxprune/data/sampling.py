"""Sampling: some rows from several places of a file, and how many rows it has, about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mlxprune.data.containers import jsonl_values, values_of
from mlxprune.data.decompression import HEAD_BYTES, codec_of, decompressed_chunks
from mlxprune.data.rows import BadLine
from mlxprune.data.sources import Source

PLACES = 8  # of a file that are looked at
HEAD = 32 << 20  # bytes that are read of a file in which one cannot jump
SMALL = 1 << 19  # bytes of a file that is read whole


@dataclass(frozen=True)
class FileSample:
    """``values``: of rows from several places, in order. ``rows``: how many the file has; exactly,
    or about."""

    values: list[Any]
    rows: float
    exact: bool


def sample_file(source: Source, count: int) -> FileSample:
    """Of a file that is no plain text. Raises DataError where it cannot be read."""
    if source.form == "parquet":
        return _of_parquet(source, count)
    if source.form == "jsonl" and not is_packed(source):
        size = source.path.stat().st_size
        if size > SMALL:
            return _of_places(source, size, count)
    return _of_stream(source, count)


def _of_places(source: Source, size: int, count: int) -> FileSample:
    """Some lines at every place of a plain file."""
    values: list[Any] = []
    rows = read = 0
    for place in range(PLACES):
        part = (place * size // PLACES, (place + 1) * size // PLACES)
        first = None
        for number, offset, value in jsonl_values(source.path, source.keys.id, part=part):
            first = offset if first is None else first
            if number == max(1, count // PLACES):
                read += offset - first
                break
            values.append(value)
            rows += 1
        else:  # all lines that begin in this stretch, which are as long as it on the whole
            read += part[1] - part[0]
    return FileSample(values, max(rows, rows * size / max(read, 1)), False)


def _of_parquet(source: Source, count: int) -> FileSample:
    values: list[Any] = []
    try:
        meta = pq.ParquetFile(source.path).metadata
    except (pa.ArrowException, OSError, ValueError):
        return FileSample([*_first(values_of(source, whole=True), 1)], 0, True)  # raises
    groups = sorted({i * meta.num_row_groups // PLACES for i in range(PLACES)})
    each = max(1, count // max(len(groups), 1))
    for group in groups:
        if meta.num_row_groups:
            values += _first(values_of(source, (group, group + 1), whole=True), each)
    return FileSample(values, meta.num_rows, True)


def _of_stream(source: Source, count: int) -> FileSample:
    """Evenly spaced rows of the beginning, which is all of a small file."""
    kept: list[Any] = []
    step, rows, size = 1, 0, 0
    whole = True
    for number, _, value in values_of(source, whole=True):
        if size > HEAD:
            whole = False
            break
        size += _bytes_of(value)
        rows += 1
        if number % step == 0:
            kept.append(value)
            if len(kept) == 2 * count:  # every other one stays
                kept, step = kept[::2], 2 * step
    values = kept[:: max(1, len(kept) // count)][:count] if kept else []
    if whole:
        return FileSample(values, rows, True)
    stored = source.path.stat().st_size * expansion(source)
    return FileSample(values, rows * stored / max(size, 1), False)


def _bytes_of(value: Any) -> int:
    """About what a row takes in a file."""
    if isinstance(value, BadLine):
        return 80
    try:
        return len(orjson.dumps(value, default=str)) + 1
    except (TypeError, ValueError):
        return len(str(value))


def _first(values: Iterator[tuple[int, int, Any]], count: int) -> list[Any]:
    found = []
    for _, _, value in values:
        found.append(value)
        if len(found) == count:
            break
    return found


def is_packed(source: Source) -> bool:
    """Whether the file is compressed as a whole."""
    with source.path.open("rb") as file:
        return codec_of(file.read(HEAD_BYTES)) != "plain"


def expansion(source: Source) -> float:
    """Decompressed bytes a stored one, measured on the first MiB that is stored."""
    if not is_packed(source):
        return 1.0
    out, position = 0, [0]
    for chunk in decompressed_chunks(source.path, position=position):
        out += len(chunk)
        if position[0] >= 1 << 20:
            break
    return out / max(position[0], 1)
