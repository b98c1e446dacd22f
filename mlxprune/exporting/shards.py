"""Shards: the folder of an export, shard by shard, so that a kill costs at most one.

The folder is written under ``<name>.partial``, with what is done in its .export.json, and has its
own name when all of it is there. A later start with the same order goes on behind the last shard.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlxprune.data.output_file import OutputFile
from mlxprune.errors import UsageError
from mlxprune.files import PARTIAL, flush_folder, full_hash, refuse_taken
from mlxprune.records import Json, SparseRecord, read_record, write_record
from mlxprune.version import __version__

RECORD = ".export.json"  # which readers of a folder of data leave alone


class Shard(SparseRecord):
    """Files that were written together, and the blake2b hash (16 bytes) of each."""

    files: dict[str, str]
    documents: int
    portion: str = ""  # train, valid or test, where an export has several


class ExportRecord(SparseRecord):
    """.export.json: what an export holds, and what made it."""

    version: str
    identity: str  # equal for equal content
    what: Json  # run, slice, part, format and the options that change the content
    documents: int
    shards: list[Shard]
    columns: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)


class ShardFolder:
    """The folder in the making."""

    def __init__(self, out: Path, identity: str, what: Json) -> None:
        refuse_taken(out)
        self.out, self.partial = out, out.with_name(out.name + PARTIAL)
        fresh = ExportRecord(
            version=__version__, identity=identity, what=what, documents=0, shards=[]
        )
        self.record = self._known(fresh) or fresh
        self.partial.mkdir(parents=True, exist_ok=True)
        self._save()

    def _known(self, fresh: ExportRecord) -> ExportRecord | None:
        """What an earlier start has finished of the same export; another's work makes room."""
        if not self.partial.exists():
            return None
        try:
            known = read_record(self.partial / RECORD, ExportRecord)
        except (OSError, ValueError):
            # A kill may leave a start that has not written its record yet.
            if {path.name for path in self.partial.iterdir()} - {f"{RECORD}{PARTIAL}"}:
                fix = "remove it, or choose another --out"
                raise UsageError("this is no unfinished export", str(self.partial), fix) from None
            return None
        if known.identity == fresh.identity and known.version == fresh.version:
            whole = itertools.takewhile(self._is_whole, known.shards)
            return msgspec.structs.replace(known, shards=[*whole])
        shutil.rmtree(self.partial)
        return None

    def _is_whole(self, shard: Shard) -> bool:
        try:
            return all(full_hash(self.partial / n) == told for n, told in shard.files.items())
        except OSError:
            return False

    def _save(self) -> None:
        write_record(self.partial / RECORD, self.record)

    def finished(self, portion: str = "") -> list[Shard]:
        """The shards of a portion that are whole."""
        return [shard for shard in self.record.shards if shard.portion == portion]

    def begun(self, portion: str = "") -> int:
        """The documents in them: those that a later start need not write."""
        return sum(shard.documents for shard in self.finished(portion))

    def write(
        self,
        batches: Iterable[pa.RecordBatch],
        names: tuple[str, ...],
        opened: Callable[[list[Path]], OutputFile],
        shard_bytes: int,
        portion: str = "",
    ) -> None:
        """Batches into shards of at least so many bytes of rows each; ``names`` of the files of a
        shard hold ``{shard}`` for its number. Lines are cut at the row that fills a shard, tables
        behind the batch: so a later start cuts as this one."""
        file: OutputFile | None = None
        size = documents = 0
        paths: list[Path] = []

        def close() -> None:
            nonlocal file, size, documents
            if file is None:
                return
            file.close()
            files = {p.relative_to(self.partial).as_posix(): full_hash(p) for p in paths}
            self.record.shards.append(Shard(files=files, documents=documents, portion=portion))
            self._save()
            file, size, documents = None, 0, 0

        try:
            for batch in batches:
                left = batch
                while left.num_rows:
                    if file is None:
                        number = f"{len(self.finished(portion)):05d}"
                        paths = [self.partial / name.format(shard=number) for name in names]
                        file = opened(paths)
                    rows, bytes_of = _rows_until(left, shard_bytes - size)
                    file.write(left.slice(0, rows))
                    size, documents = size + bytes_of, documents + rows
                    if size >= shard_bytes:
                        close()
                    left = left.slice(rows)
            close()
        finally:
            if file is not None:
                file.give_up()

    def finish(self, documents: int, columns: list[str], notes: list[str]) -> ExportRecord:
        """Give the folder its name."""
        self.record = msgspec.structs.replace(
            self.record, documents=documents, columns=columns, notes=notes
        )
        self._save()
        flush_folder(self.partial)
        if self.out.exists():
            self.out.rmdir()
        os.replace(self.partial, self.out)
        flush_folder(self.out.parent)
        return self.record


def _rows_until(batch: pa.RecordBatch, wanted: int) -> tuple[int, int]:
    """How many rows of a batch it takes to have so many bytes, and their bytes; all of a table."""
    if not all(pa.types.is_large_binary(column.type) for column in batch.columns):
        return batch.num_rows, batch.nbytes
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        sizes += pc.binary_length(column).to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes)
    rows = min(int(np.searchsorted(ends, wanted)) + 1, len(ends))
    return rows, int(ends[rows - 1])
