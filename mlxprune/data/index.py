"""Corpus: one pass over the input makes an index of its documents, never a copy of their text.

``corpus/`` holds ``index.npy`` (48 bytes a document, memory-mapped), ``documents.parquet`` (key,
id, source, row, domain: what people and tables need), ``summary.json`` and ``bad-rows.jsonl``.
Documents stand in canonical order: by source name, then row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlxprune.config.data import Data
from mlxprune.data.hashing import hash_text
from mlxprune.data.readers import read_rows
from mlxprune.data.rows import Row, row_keys_of
from mlxprune.data.sources import Source, source_from
from mlxprune.errors import DataError
from mlxprune.files import read_json
from mlxprune.records import Record, SparseRecord, read_record

CORPUS_VERSION = 1
INDEX = np.dtype(
    [
        ("key", "<u8"),  # hash of (id, text): stages join on it
        ("text", "<u8"),  # hash of the text as it is
        ("side", "<u8"),  # hash that decides the split: group, or the normalised text
        ("offset", "<u8"),
        ("row", "<u4"),
        ("bytes", "<u4"),  # of the text in UTF-8
        ("file", "<u4"),
        ("domain", "<u4"),
    ]
)
DOCUMENTS = pa.schema(
    [
        ("key", pa.uint64()),
        ("id", pa.string()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("row", pa.int64()),
        ("domain", pa.dictionary(pa.int32(), pa.string())),
        ("num_bytes", pa.int64()),
    ]
)
BATCH = 8192
Progress = Callable[[int, int], None]


class InputFile(SparseRecord):
    """A file of the input, as files.json notes it."""

    name: str
    size: int
    mtime_ns: int
    edges: str  # a hash of its first and last MiB
    full: str | None = None  # a hash of all of it
    rows: int = 0
    documents: int = 0
    skipped: dict[str, int] = msgspec.field(default_factory=dict)  # rows by reason


class CorpusCounts(Record):
    """What the index counted. ``exact`` is false where only heads of files were read."""

    files: int
    documents: int
    bytes: int
    domains: dict[str, int]  # documents
    skipped: dict[str, int]  # rows by reason
    duplicate_ids: int
    duplicate_texts: int
    exact: bool
    rows: int | None = None  # documents and skipped rows; corpora of old do not say
    files_left_out: dict[str, int] = msgspec.field(
        default_factory=dict
    )  # files of folders and patterns that are not read: why


class CorpusSummary(CorpusCounts, kw_only=True):
    """summary.json of a corpus."""

    domain_bytes: dict[str, int]
    left_out: list[str]  # some of the files that are not read
    notes: list[str] = msgspec.field(default_factory=list)  # what a reader should know of the files


@dataclass(frozen=True)
class Corpus:
    """A finished index, memory-mapped; ``domains`` and ``sources`` name its codes."""

    folder: Path
    index: np.ndarray
    domains: list[str]
    sources: list[Source]
    summary: CorpusSummary

    def __len__(self) -> int:
        return len(self.index)

    def documents(self, batch: int = BATCH) -> Iterator[pa.RecordBatch]:
        file = pq.ParquetFile(self.folder / "documents.parquet")
        yield from file.iter_batches(batch_size=batch)

    def texts(self, wanted: np.ndarray | None = None) -> Iterator[tuple[int, str]]:
        """(document, text) in canonical order; ``wanted`` is a mask or None for all.

        Raises DataError when a text is no longer what the index saw.
        """
        bounds = np.searchsorted(self.index["file"], np.arange(len(self.sources) + 1))
        for code, source in enumerate(self.sources):
            first, last = int(bounds[code]), int(bounds[code + 1])
            if wanted is None:
                here = np.arange(first, last)
            else:
                here = first + np.flatnonzero(wanted[first:last])
            if len(here) == 0:
                continue
            rows = self.index["row"][here]
            at = 0
            for row in read_rows(source):
                if row.number < rows[at]:
                    continue
                document = int(here[at])
                is_same = isinstance(row, Row) and row.number == rows[at]
                if not is_same or hash_text(row.text) != int(self.index["text"][document]):  # type: ignore[union-attr]
                    raise changed_input(source)
                assert isinstance(row, Row)
                yield document, row.text
                at += 1
                if at == len(here):
                    break
            if at < len(here):
                raise changed_input(source)


def changed_input(source: Source) -> DataError:
    fix = "put the old file back, or start a new run with another --dir, or --accept-changed-input"
    return DataError("the input file changed since it was indexed", str(source.path), fix)


def open_corpus(folder: Path, data: Data) -> Corpus:
    index = np.load(folder / "index.npy", mmap_mode="r")
    summary = read_record(folder / "summary.json", CorpusSummary)
    usual = row_keys_of(data)
    sources = [source_from(place, usual) for place in read_json(folder / "sources.json")]
    return Corpus(folder, index, list(summary.domains), sources, summary)
