"""Indexing: the one pass over the input that makes the index of a corpus."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mlxprune.config.schema import Data
from mlxprune.data.hashing import (
    final_id,
    hash_bytes,
    hash_text,
    later_copies,
    normalised,
    number_copies,
)
from mlxprune.data.index import (
    BATCH,
    DOCUMENTS,
    INDEX,
    CorpusSummary,
    InputFile,
    Progress,
    changed_input,
    row_keys_of,
)
from mlxprune.data.readers import HARMLESS_REASONS, Row, Skip, keys_there_are, read_rows
from mlxprune.data.sources import Source
from mlxprune.errors import DataError, one_line
from mlxprune.files import edges_hash, full_hash, read_json, write_json
from mlxprune.records import read_record, write_record

BAD_ROWS_KEPT = 10_000


def input_facts(sources: list[Source]) -> list[InputFile]:
    """Name, size, time and the hash of the first and last MiB of each file."""
    facts = []
    for source in sources:
        try:
            status, edges = source.path.stat(), edges_hash(source.path)
        except OSError as error:
            fix = "check its permissions"
            raise DataError(f"cannot read it: {one_line(error)}", str(source.path), fix) from None
        facts.append(
            InputFile(
                name=source.name,
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
                edges=edges,
            )
        )
    return facts


def verify_inputs(folder: Path, sources: list[Source], files: list[InputFile]) -> None:
    """A changed mtime leads to verification by the full hash noted in the first pass."""
    known = {file.name: file for file in read_record(folder / "files.json", list[InputFile])}
    for source, now in zip(sources, files, strict=True):
        before = known.get(now.name)
        if before is None or now.mtime_ns == before.mtime_ns:
            continue
        if full_hash(source.path) != before.full:
            raise changed_input(source)


def build_index(
    data: Data,
    sources: list[Source],
    left_out: list[str],
    folder: Path,
    progress: Progress = lambda done, total: None,
    rows_per_file: int | None = None,
) -> CorpusSummary:
    """Index the sources into ``folder`` (which exists and is empty); return the summary.

    ``rows_per_file`` reads only the head of each file, for estimates.
    Raises DataError: no documents, no row with the text key, more bad rows than ``data.max_bad``.
    """
    scan = _Scan(data, sources, folder, progress, rows_per_file)
    files = input_facts(sources)
    if rows_per_file is None:
        files = [
            msgspec.structs.replace(file, full=full_hash(source.path))
            for source, file in zip(sources, files, strict=True)
        ]
    scan.run()
    summary = scan.finish(left_out[:100])
    write_record(folder / "files.json", files)
    write_record(folder / "summary.json", summary)
    note_places(folder, sources)
    return summary


def note_places(folder: Path, sources: list[Source]) -> None:
    """Where the files lie now; a corpus may move as long as its names and bytes stay."""
    places = [{**asdict(s), "path": str(s.path)} for s in sources]
    if not (folder / "sources.json").exists() or read_json(folder / "sources.json") != places:
        write_json(folder / "sources.json", places)


class _Scan:
    """The one pass: rows go to a spool on disk, so memory does not grow with the text."""

    SPOOL = np.dtype([*((n, INDEX[n]) for n in INDEX.names or ()), ("id", "<u8")])

    def __init__(
        self,
        data: Data,
        sources: list[Source],
        folder: Path,
        progress: Progress,
        rows_per_file: int | None,
    ) -> None:
        self.data, self.sources, self.folder, self.progress = data, sources, folder, progress
        self.rows_per_file = rows_per_file
        self.domains: dict[str, int] = {}
        self.skipped: Counter[str] = Counter()
        self.keys_seen: Counter[str] = Counter()
        self.rows = 0
        self.bytes = 0
        self.bad_kept = 0
        self.has_domain = self.has_group = self.has_id = False  # in any row

    def run(self) -> None:
        keys = row_keys_of(self.data)
        ids_schema = pa.schema([("id", pa.string())])
        with (
            (self.folder / "spool.bin").open("wb") as spool,
            (self.folder / "bad-rows.jsonl").open("wb") as bad,
            pq.ParquetWriter(self.folder / "spool.parquet", ids_schema) as ids,
        ):
            entries: list[tuple[Any, ...]] = []
            names: list[str | None] = []
            for code, source in enumerate(self.sources):
                for row in read_rows(source, keys):
                    if self.rows_per_file is not None and row.number >= self.rows_per_file:
                        break
                    self.rows += 1
                    if isinstance(row, Skip):
                        self._skip(source, row, bad)
                        continue
                    names.append(row.id)
                    entries.append(self._entry(code, row))
                    if len(entries) == BATCH:
                        self._flush(entries, names, spool, ids)
                self.progress(code + 1, len(self.sources))
            self._flush(entries, names, spool, ids)

    def _entry(self, code: int, row: Row) -> tuple[Any, ...]:
        encoded = row.text.encode("utf-8")
        text = hash_bytes(encoded)
        if row.group is not None:
            side = hash_text(f"group\0{row.group}")
        else:
            side = hash_text(normalised(row.text))
        self.has_domain |= row.has_domain
        self.has_group |= row.has_group
        self.has_id |= row.has_id or is_default_key(self.data, "id_key")
        domain = self.domains.setdefault(row.domain, len(self.domains))
        identity = hash_text(row.id if row.id is not None else f"{text:016x}")
        self.bytes += len(encoded)
        return (0, text, side, row.offset, row.number, len(encoded), code, domain, identity)

    def _flush(
        self, entries: list[tuple[Any, ...]], names: list[str | None], spool: Any, ids: Any
    ) -> None:
        np.array(entries, self.SPOOL).tofile(spool)
        ids.write_batch(pa.record_batch([pa.array(names, pa.string())], names=["id"]))
        entries.clear()
        names.clear()

    def _skip(self, source: Source, skip: Skip, bad: Any) -> None:
        self.skipped[skip.reason] += 1
        self.keys_seen.update(skip.keys)
        if self.bad_kept < BAD_ROWS_KEPT:
            self.bad_kept += 1
            start = skip.start.encode("utf-8", "backslashreplace").decode("utf-8")
            note = {"file": source.name, "row": skip.number, "reason": skip.reason, "start": start}
            bad.write(orjson.dumps(note) + b"\n")

    def finish(self, left_out: list[str]) -> CorpusSummary:
        spool_path, ids_path = self.folder / "spool.bin", self.folder / "spool.parquet"
        self._refuse_bad_input(spool_path.stat().st_size // self.SPOOL.itemsize)
        # Two columns of 8 bytes a document are held at once, never the spool: 64 bytes are allowed.
        ids, texts = (self._column(name) for name in ("id", "text"))
        ordinal, variant, duplicate_ids = number_copies(ids, texts)
        repeats = later_copies(texts)
        del texts
        ids.sort()
        duplicate_texts = int(repeats.sum())
        keep = ~repeats if self.data.duplicates == "drop" else np.ones(len(ids), bool)
        if self.data.duplicates == "drop" and duplicate_texts:
            self.skipped["duplicate_text"] = duplicate_texts
        names = sorted(self.domains)
        recode = np.zeros(len(names), np.uint32)
        recode[[self.domains[n] for n in names]] = np.arange(len(names))
        counts = self._write(ids, ordinal, variant, keep, names, recode)
        spool_path.unlink()
        ids_path.unlink()
        return CorpusSummary(
            files=len(self.sources),
            documents=int(keep.sum()),
            bytes=int(counts[1].sum()),
            domains={n: int(c) for n, c in zip(names, counts[0], strict=True)},
            domain_bytes={n: int(c) for n, c in zip(names, counts[1], strict=True)},
            skipped=dict(sorted(self.skipped.items())),
            duplicate_ids=duplicate_ids,
            duplicate_texts=duplicate_texts,
            exact=self.rows_per_file is None,
            left_out=left_out,
        )

    def _column(self, name: str) -> np.ndarray:
        path = self.folder / "spool.bin"
        column = np.empty(path.stat().st_size // self.SPOOL.itemsize, np.uint64)
        at = 0
        with path.open("rb") as file:
            while len(part := np.fromfile(file, self.SPOOL, BATCH)):
                column[at : at + len(part)] = part[name]
                at += len(part)
        return column

    def _refuse_bad_input(self, documents: int) -> None:
        where = ", ".join(str(s.path) for s in self.sources[:3])
        where += ", ..." if len(self.sources) > 3 else ""
        if self.skipped["missing_text"] and not documents:
            seen = [k for k, _ in self.keys_seen.most_common(12)]
            have = ", ".join(map(one_line, seen or keys_there_are(self.sources)[:12]))
            problem = f"no row has the text key {self.data.text_key!r}"
            raise DataError(problem, where, f"set data.text_key to one of: {have}")
        bad = sum(n for r, n in self.skipped.items() if r not in HARMLESS_REASONS)
        if bad and bad > self.data.max_bad * self.rows:
            reasons = ", ".join(f"{r} {n}" for r, n in sorted(self.skipped.items()))
            raise DataError(
                f"{bad} of {self.rows} rows are bad, above data.max_bad = {self.data.max_bad:g}",
                f"{where} ({reasons})",
                "mend them, or raise data.max_bad; `mlxprune plan` counts them by reason",
            )
        asked = (
            ("domain_key", self.has_domain),
            ("group_key", self.has_group),
            ("id_key", self.has_id),
        )
        for name, found in asked:
            key = getattr(self.data, name)
            if documents and key and key != "auto" and not found:
                have = ", ".join(one_line(k) for k in keys_there_are(self.sources)[:12])
                problem = f"no row has the key {key!r}"
                raise DataError(problem, f"data.{name}", f"choose one of: {have or 'none'}")
        if not documents:
            raise DataError("no documents", where, "check data.paths and data.text_key")

    # Over 60 lines: one pass over the input with all that it counts.
    def _write(
        self,
        taken: np.ndarray,
        ordinal: np.ndarray,
        variant: np.ndarray,
        keep: np.ndarray,
        domains: list[str],
        recode: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give every document its final id and key; write the index and the table.

        ``taken``: the hashes of all the ids that the data give, sorted.
        """
        given: set[int] = set()
        source_names = pa.array([s.name for s in self.sources], pa.string())
        domain_names = pa.array(domains, pa.string())
        documents, sizes = np.zeros(len(domains), np.int64), np.zeros(len(domains), np.int64)
        at = 0
        with (
            (self.folder / "spool.bin").open("rb") as spool,
            (self.folder / "index.npy").open("wb") as index,
            pq.ParquetWriter(self.folder / "documents.parquet", DOCUMENTS) as table,
        ):
            shape = (int(keep.sum()),)
            header = {"descr": INDEX.descr, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(index, header)  # type: ignore[no-untyped-call]
            names = pq.ParquetFile(self.folder / "spool.parquet")
            for batch in names.iter_batches(batch_size=BATCH):
                part = np.fromfile(spool, self.SPOOL, batch.num_rows)
                rows = np.zeros(len(part), INDEX)
                for name in INDEX.names or ():
                    rows[name] = part[name]
                rows["domain"] = recode[part["domain"]]
                ids = []
                for i, raw in enumerate(batch.column(0).to_pylist()):
                    text = int(part["text"][i])
                    plain = raw if raw is not None else f"{text:016x}"
                    n, v = int(ordinal[at + i]), bool(variant[at + i])
                    ids.append(final_id(plain, text, n, v, taken, given))
                    rows["key"][i] = hash_bytes(
                        ids[-1].encode() + b"\0" + text.to_bytes(8, "little")
                    )
                kept = keep[at : at + len(part)]
                rows = rows[kept]
                table.write_batch(
                    pa.record_batch(
                        [
                            pa.array(rows["key"], pa.uint64()),
                            pa.array([d for d, k in zip(ids, kept, strict=True) if k], pa.string()),
                            _coded(rows["file"], source_names),
                            pa.array(rows["row"], pa.int64()),
                            _coded(rows["domain"], domain_names),
                            pa.array(rows["bytes"], pa.int64()),
                        ],
                        schema=DOCUMENTS,
                    )
                )
                rows.tofile(index)
                documents += np.bincount(rows["domain"], minlength=len(domains))
                sizes += np.bincount(
                    rows["domain"], weights=rows["bytes"], minlength=len(domains)
                ).astype(np.int64)
                at += len(part)
        return documents, sizes


def is_default_key(data: Data, name: str) -> bool:
    """Whether a key is the one that we look for unasked: then it need not be there."""
    return bool(getattr(data, name) == Data.model_fields[name].default)


def _coded(codes: np.ndarray, names: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), names)
