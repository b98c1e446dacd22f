"""Indexing: the one pass over the input that makes the index of a corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mlxprune.config.data import Data
from mlxprune.data.accounts import Account, notes_on, refuse_bad_input
from mlxprune.data.hashing import final_id, hash_bytes, later_copies, number_copies
from mlxprune.data.index import (
    BATCH,
    DOCUMENTS,
    INDEX,
    CorpusSummary,
    InputFile,
    Progress,
    changed_input,
)
from mlxprune.data.scan import (
    BAD_ROWS_KEPT,
    SPOOL,
    Piece,
    PieceCounts,
    pieces_of,
    scan_all,
    spool_paths,
)
from mlxprune.data.sources import FoundFiles, Source, plain_source
from mlxprune.errors import DataError, one_line
from mlxprune.files import edges_hash, full_hash, read_json, write_json
from mlxprune.records import read_record, write_record

LEFT_OUT_KEPT = 1000


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


def changed_files(folder: Path, files: list[InputFile]) -> str:
    """Which files are not those that an index was made of, in words."""
    try:
        told = read_record(folder / "files.json", list[InputFile])
    except (OSError, ValueError):
        return "which files is not known any more"
    before, now = ({f.name: (f.size, f.edges) for f in some} for some in (told, files))
    words = []
    for what, names in (
        ("changed", [n for n in now if n in before and before[n] != now[n]]),
        ("new", [n for n in now if n not in before]),
        ("gone", [n for n in before if n not in now]),
    ):
        if names:
            more = ", ..." if len(names) > 3 else ""
            words.append(f"{what} {', '.join(map(one_line, names[:3]))}{more}")
    return "; ".join(words) or "how it is read (data.* in the configuration)"


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
    found: FoundFiles,
    folder: Path,
    progress: Progress = lambda done, total: None,
) -> CorpusSummary:
    """Index the files into ``folder`` (which exists and is empty); return the summary.

    Raises DataError with all that is wrong: files that cannot be read, sources and domains of which
    no row can be, more bad rows than ``data.max_bad``, no documents.
    """
    files = input_facts(found.sources)
    pieces = pieces_of(found.sources)
    counts, hashes = scan_all(folder, found.sources, pieces, progress)
    accounts = _accounts(found.sources, pieces, counts)
    refuse_bad_input(data, accounts, found.problems)
    size = sum(piece.size for piece in pieces)
    spool = _Spool(folder, pieces, counts, lambda: progress(size, max(size, 1)))
    summary = _finish(data, found, folder, spool, accounts)
    write_record(
        folder / "files.json",
        [
            msgspec.structs.replace(
                file, full=hash_of, rows=a.rows, documents=a.documents, skipped=dict(a.skipped)
            )
            for file, hash_of, a in zip(files, hashes, accounts, strict=True)
        ],
    )
    write_record(folder / "summary.json", summary)
    note_places(folder, found.sources)
    return summary


def note_places(folder: Path, sources: list[Source]) -> None:
    """Where the files lie now; a corpus may move as long as its names and bytes stay."""
    places = [plain_source(source) for source in sources]
    plain = orjson.loads(orjson.dumps(places))
    try:
        same = read_json(folder / "sources.json") == plain
    except (OSError, ValueError):
        same = False
    if not same:
        write_json(folder / "sources.json", plain)


def _accounts(
    sources: list[Source], pieces: list[Piece], counts: list[PieceCounts]
) -> list[Account]:
    accounts = [Account(source) for source in sources]
    read = (
        (code, part)
        for piece, whole in zip(pieces, counts, strict=True)
        for code, part in zip(range(piece.first, piece.stop), whole.files, strict=True)
    )
    for code, part in read:
        accounts[code].add(part)
    return accounts


@dataclass(frozen=True)
class _Spool:
    """What the scans wrote: rows and ids of all pieces in canonical order."""

    folder: Path
    pieces: list[Piece]
    counts: list[PieceCounts]
    look: Callable[[], None]  # whether the run is to stop, now and then

    @property
    def domains(self) -> list[str]:
        return sorted({name for part in self.counts for name in part.domains})

    def column(self, name: str) -> np.ndarray:
        """uint64 [documents]: never the whole spool, since 64 bytes a document are allowed."""
        column = np.empty(sum(part.documents for part in self.counts), np.uint64)
        at = 0
        for piece in self.pieces:
            self.look()
            with spool_paths(self.folder, piece.number)[0].open("rb") as file:
                while len(part := np.fromfile(file, SPOOL, BATCH)):
                    column[at : at + len(part)] = part[name]
                    at += len(part)
        return column

    def batches(self, domains: list[str]) -> Iterator[tuple[np.ndarray, pa.Array]]:
        """(rows, ids), BATCH at a time however the input was cut into pieces; domains by their
        place among ``domains``, rows by their number in the file."""
        rows: list[np.ndarray] = []
        ids: list[pa.Array] = []
        for more_rows, more_ids in self._batches(domains):
            rows.append(more_rows)
            ids.append(more_ids)
            if sum(map(len, rows)) >= BATCH:
                joined, names = np.concatenate(rows), pa.concat_arrays(ids)
                yield joined[:BATCH], names[:BATCH]
                rows, ids = [joined[BATCH:]], [names[BATCH:]]
        if rows:
            yield np.concatenate(rows), pa.concat_arrays(ids)

    def _batches(self, domains: list[str]) -> Iterator[tuple[np.ndarray, pa.Array]]:
        place = {name: i for i, name in enumerate(domains)}
        before = Counter[int]()  # rows of each file in the pieces before
        for piece, counts in zip(self.pieces, self.counts, strict=True):
            recode = np.array([place[name] for name in counts.domains], np.uint32)
            spool, ids, _ = spool_paths(self.folder, piece.number)
            with spool.open("rb") as file:
                self.look()
                for batch in pq.ParquetFile(ids).iter_batches(batch_size=BATCH):
                    rows = np.fromfile(file, SPOOL, batch.num_rows)
                    rows["domain"] = recode[rows["domain"]]
                    rows["row"] += before[piece.first]  # only pieces of one file have any
                    self.look()
                    yield rows, batch.column(0)
            before[piece.first] += counts.files[0].rows

    def write_bad_rows(self, sources: list[Source]) -> None:
        """bad-rows.jsonl of the whole."""
        before = Counter[int]()
        kept = 0
        with (self.folder / "bad-rows.jsonl").open("wb") as out:
            for piece, counts in zip(self.pieces, self.counts, strict=True):
                with spool_paths(self.folder, piece.number)[2].open("rb") as file:
                    for line in file:
                        if kept == BAD_ROWS_KEPT:
                            break
                        note = orjson.loads(line)
                        note["file"] = sources[note["file"]].name
                        note["row"] += before[piece.first]
                        out.write(orjson.dumps(note) + b"\n")
                        kept += 1
                before[piece.first] += counts.files[0].rows

    def remove(self) -> None:
        for piece in self.pieces:
            for path in spool_paths(self.folder, piece.number):
                path.unlink()


def _finish(
    data: Data, found: FoundFiles, folder: Path, spool: _Spool, accounts: list[Account]
) -> CorpusSummary:
    # Two columns of 8 bytes a document are held at once.
    ids, texts = spool.column("id"), spool.column("text")
    ordinal, variant, duplicate_ids = number_copies(ids, texts)
    repeats = later_copies(texts)
    del texts
    ids.sort()
    duplicate_texts = int(repeats.sum())
    drops = data.duplicates == "drop"
    keep = ~repeats if drops else np.ones(len(ids), bool)
    domains = spool.domains
    documents, sizes = _write(folder, found.sources, spool, ids, ordinal, variant, keep, domains)
    spool.write_bad_rows(found.sources)
    spool.remove()
    skipped: Counter[str] = sum((a.skipped for a in accounts), Counter())
    if drops and duplicate_texts:
        skipped["duplicate_text"] = duplicate_texts
    by_domain = {n: int(c) for n, c in zip(domains, documents, strict=True)}
    return CorpusSummary(
        files=len(found.sources),
        rows=sum(a.rows for a in accounts),
        documents=int(keep.sum()),
        bytes=int(sizes.sum()),
        domains=by_domain,
        domain_bytes={n: int(c) for n, c in zip(domains, sizes, strict=True)},
        skipped=dict(sorted(skipped.items())),
        duplicate_ids=duplicate_ids,
        duplicate_texts=duplicate_texts,
        exact=True,
        files_left_out=dict(Counter(left.why for left in found.left_out)),
        left_out=[left.path for left in found.left_out[:LEFT_OUT_KEPT]],
        notes=notes_on(accounts, by_domain),
    )


# Over 60 lines: one pass over the spool with all that it counts.
def _write(
    folder: Path,
    sources: list[Source],
    spool: _Spool,
    taken: np.ndarray,
    ordinal: np.ndarray,
    variant: np.ndarray,
    keep: np.ndarray,
    domains: list[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Give every document its final id and key; write the index and the table. Returns documents
    and bytes by domain.

    ``taken``: the hashes of all the ids that the data give, sorted.
    """
    given: set[int] = set()
    source_names = pa.array([s.name for s in sources], pa.string())
    domain_names = pa.array(domains, pa.string())
    documents, sizes = np.zeros(len(domains), np.int64), np.zeros(len(domains), np.int64)
    at = 0
    with (
        (folder / "index.npy").open("wb") as index,
        pq.ParquetWriter(folder / "documents.parquet", DOCUMENTS) as table,
    ):
        shape = (int(keep.sum()),)
        header = {"descr": INDEX.descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(index, header)  # type: ignore[no-untyped-call]
        for part, names in spool.batches(domains):
            rows = np.zeros(len(part), INDEX)
            for name in INDEX.names or ():
                rows[name] = part[name]
            here = slice(at, at + len(part))
            copies = np.flatnonzero((ordinal[here] > 0) | variant[here])
            if len(copies):
                texts = names.to_pylist()
                for i in copies.tolist():
                    text = int(part["text"][i])
                    n, v = int(ordinal[at + i]), bool(variant[at + i])
                    texts[i] = final_id(texts[i], text, n, v, taken, given)
                    named = texts[i].encode() + b"\0" + text.to_bytes(8, "little")
                    rows["key"][i] = hash_bytes(named)
                names = pa.array(texts, pa.string())
            kept = keep[here]
            if not kept.all():
                rows, names = rows[kept], names.filter(pa.array(kept))
            table.write_batch(
                pa.record_batch(
                    [
                        pa.array(rows["key"], pa.uint64()),
                        names,
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
            weights = rows["bytes"]
            sizes += np.bincount(rows["domain"], weights=weights, minlength=len(domains)).astype(
                np.int64
            )
            at += len(part)
    return documents, sizes


def _coded(codes: np.ndarray, names: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), names)
