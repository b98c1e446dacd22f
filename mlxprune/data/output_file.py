"""Output file: lines, Parquet or CSV, written under a temporary name and flushed before it has its
own."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from mlxprune.files import PARTIAL, finish_file

ZSTD_LEVEL, GZIP_LEVEL = 3, 6
SUFFIXES = {"zstd": ".zst", "gzip": ".gz", "none": ""}
GROUP_BYTES, GROUP_ROWS = 32 << 20, 65_536  # of a row group of Parquet


class OutputFile(Protocol):
    """What takes record batches until it is closed, or given up without a name."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...

    def give_up(self) -> None: ...


class CompressedFile:
    """A file of bytes, compressed or not."""

    def __init__(self, path: Path, codec: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.partial = path, path.with_name(path.name + PARTIAL)
        self._file: IO[bytes] = self.partial.open("wb")
        self._out: Any = self._file
        if codec == "zstd":
            compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
            self._out = compressor.stream_writer(self._file, closefd=False)
        elif codec == "gzip":  # no name, no time: equal bytes for equal rows
            self._out = gzip.GzipFile("", "wb", GZIP_LEVEL, self._file, mtime=0)

    def write(self, data: Any) -> None:
        self._out.write(data)

    def close(self) -> None:
        self.give_up()
        finish_file(self.partial, self.path)

    def give_up(self) -> None:
        if self._out is not self._file:
            self._out.close()
        self._file.close()


class LinesFiles:
    """Columns of lines, binary with their ends, each into a file of its own."""

    def __init__(self, paths: Sequence[Path], codec: str) -> None:
        self.files = [CompressedFile(path, codec) for path in paths]

    def write(self, batch: pa.RecordBatch) -> None:
        for file, column in zip(self.files, batch.columns, strict=True):
            file.write(joined_bytes(column))

    def close(self) -> None:
        for file in self.files:
            file.close()

    def give_up(self) -> None:
        for file in self.files:
            file.give_up()


def joined_bytes(column: pa.Array) -> memoryview:
    """All values of a column of large binary without nulls, one after the other; not copied."""
    _, offsets, data = column.buffers()
    places = memoryview(offsets).cast("q")
    first, stop = places[column.offset], places[column.offset + len(column)]
    return memoryview(data or b"")[first:stop]


class ParquetFile:
    """One Parquet file, compressed by zstd."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.partial = path, path.with_name(path.name + PARTIAL)
        self._out = pq.ParquetWriter(self.partial, schema, compression="zstd")
        self._waiting: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:  # a group without rows is more than some readers bear
            return
        self._waiting.append(batch)
        rows = sum(one.num_rows for one in self._waiting)
        if rows >= GROUP_ROWS or sum(one.nbytes for one in self._waiting) >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._out.write_table(pa.Table.from_batches(self._waiting))
            self._waiting.clear()

    def close(self) -> None:
        self._flush()
        self.give_up()
        finish_file(self.partial, self.path)

    def give_up(self) -> None:
        self._out.close()


class CsvFile:
    """A table with a header; every text in quotes, since some hold ends of lines."""

    def __init__(self, path: Path, names: Sequence[str], codec: str) -> None:
        self._file = CompressedFile(path, codec)
        self._write([names])

    def _write(self, rows: Any) -> None:
        text = io.StringIO()
        csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode("utf-8", "backslashreplace"))

    def write(self, batch: pa.RecordBatch) -> None:
        self._write(zip(*(column.to_pylist() for column in batch.columns), strict=True))

    def close(self) -> None:
        self._file.close()

    def give_up(self) -> None:
        self._file.give_up()
