"""Scan: one piece of the input read once, into a spool on disk; many pieces in several processes.

A piece is a range of bytes of a large JSON Lines file, some row groups of a large Parquet file, a
file, or several small ones. Memory does not grow with the text, nor with a file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mlxprune import machine
from mlxprune.data.decompression import HEAD_BYTES, codec_of
from mlxprune.data.hashing import hash_bytes, hash_document, hash_text
from mlxprune.data.index import BATCH, INDEX
from mlxprune.data.readers import DomainChoice, read_rows
from mlxprune.data.row_counts import FileCounts, RowCounter, bad_row_note
from mlxprune.data.rows import Row, RowKeys, Skip
from mlxprune.data.sources import Source, plain_source, source_from
from mlxprune.errors import DataError, RunError, one_line
from mlxprune.files import full_hash
from mlxprune.records import Record, plain, record_of

SPOOL = np.dtype([*((n, INDEX[n]) for n in INDEX.names or ()), ("id", "<u8")])
IDS = pa.schema([("id", pa.string())])
PIECE_BYTES = 32 << 20  # of a large file
# Bytes of input. To start processes for less takes longer; one is started for less and for what may
# unpack to anything, since the run then hears a stop at once.
WORTH_PROCESSES = 48 << 20
WORTH_A_PROCESS = 4 << 20
MOST_PROCESSES = 8
SMALL_FILES = 1000  # of one piece
BAD_ROWS_KEPT = 10_000
WAIT_SECONDS = 0.2  # between looks at whether the run is to stop
COMMAND = (sys.executable, "-P", "-m", "mlxprune.data.scan")


class Piece(Record):
    """What one call reads: files by their codes [first, stop). ``part``: bytes or row groups
    [from, to) of the one file, None for the whole."""

    number: int  # below 0: only the hashes of the files are asked for
    first: int
    stop: int
    size: int  # bytes on disk, about
    part: tuple[int, int] | None = None


class ScanOrder(Record):
    """What a process is told of once: the sources as plain values, and where spools go."""

    folder: str
    sources: list[dict[str, Any]]


class PieceCounts(Record):
    """What a piece held. ``domains``: in the order of their codes in the spool; ``hashes``: of the
    files, where only they were asked for."""

    domains: list[str] = msgspec.field(default_factory=list)
    files: list[FileCounts] = msgspec.field(default_factory=list)
    hashes: list[str] = msgspec.field(default_factory=list)

    @property
    def documents(self) -> int:
        return sum(file.documents for file in self.files)


def pieces_of(sources: list[Source]) -> list[Piece]:
    """The whole input, in canonical order."""
    pieces: list[Piece] = []
    small, first = 0, 0  # bytes and first code of small files that are not yet in a piece

    def close(stop: int) -> None:
        nonlocal small, first
        if stop > first:
            pieces.append(Piece(number=len(pieces), first=first, stop=stop, size=small))
        small, first = 0, stop

    for code, source in enumerate(sources):
        size = source.path.stat().st_size
        parts = [*_parts(source, size)] if size >= 2 * PIECE_BYTES else []
        if parts:
            close(code)
            each = size // len(parts)
            for part in parts:
                number = len(pieces)
                pieces.append(Piece(number=number, first=code, stop=code + 1, size=each, part=part))
            first = code + 1
            continue
        if small + size > PIECE_BYTES // 4 or code - first == SMALL_FILES:
            close(code)
        small += size
    close(len(sources))
    return pieces


def _parts(source: Source, size: int) -> Iterator[tuple[int, int]]:
    if source.form == "jsonl":
        with source.path.open("rb") as file:
            if codec_of(file.read(HEAD_BYTES)) != "plain":
                return
        edges = [*range(0, size, PIECE_BYTES), size]
    elif source.form == "parquet":
        try:
            groups = pq.ParquetFile(source.path).metadata.num_row_groups
        except (pa.ArrowException, OSError, ValueError):
            return  # it is told when the file is read
        step = max(1, round(groups * PIECE_BYTES / size))
        edges = [*range(0, groups, step), groups]
    else:
        return
    yield from itertools.pairwise(edges)


def scan_piece(folder: Path, sources: list[Source], piece: Piece) -> PieceCounts:
    """Read a piece into ``spool-N.bin``, ``ids-N.parquet`` and ``bad-N.jsonl`` of the folder."""
    spool, ids, bad = spool_paths(folder, piece.number)
    codes: dict[str, int] = {}  # of domains
    files = []
    with spool.open("wb") as out, bad.open("wb") as notes, pq.ParquetWriter(ids, IDS) as names:
        for code in range(piece.first, piece.stop):
            scan = _Scan(sources[code], code, codes)
            try:
                scan.run(piece.part, out, names, notes)
            except DataError as error:
                scan.problem = (error.problem, error.fix)
            files.append(scan.finished())
    return PieceCounts(domains=[*codes], files=files)


def spool_paths(folder: Path, number: int) -> tuple[Path, Path, Path]:
    """Where a piece's rows, ids and bad rows lie."""
    return (
        folder / f"spool-{number}.bin", folder / f"ids-{number}.parquet",
        folder / f"bad-{number}.jsonl",
    )  # fmt: skip


class _Scan:
    def __init__(self, source: Source, code: int, codes: dict[str, int]) -> None:
        self.source, self.code, self.codes = source, code, codes
        self.counter = RowCounter()
        self.bad_kept = 0
        self.problem: tuple[str, str] | None = None
        self.choice = DomainChoice()
        self.entries: list[tuple[Any, ...]] = []
        self.names: list[str] = []

    def run(self, part: tuple[int, int] | None, spool: Any, ids: Any, bad: Any) -> None:
        rows = read_rows(self.source, part, self.counter.notes.append, self.choice)
        for row in rows:
            self.counter.add(row)
            if type(row) is Row:
                self.entries.append(self._entry(row))
                if len(self.entries) == BATCH:
                    self._flush(spool, ids)
            elif isinstance(row, Skip):
                self._skip(row, bad)
        self._flush(spool, ids)

    def _entry(self, row: Row) -> tuple[Any, ...]:
        text, side, size = hash_document(row.text)
        if row.group is not None:
            side = hash_text(f"group\0{row.group}")
        domain = self.codes.setdefault(row.domain, len(self.codes))
        name = row.id if row.id is not None else f"{text:016x}"
        self.names.append(name)
        named = name.encode("utf-8")
        key = hash_bytes(named + b"\0" + text.to_bytes(8, "little"))
        return (
            key, text, side, row.offset, row.number, size, self.code, domain,
            hash_bytes(named),
        )  # fmt: skip

    def _flush(self, spool: Any, ids: Any) -> None:
        np.array(self.entries, SPOOL).tofile(spool)
        ids.write_batch(pa.record_batch([pa.array(self.names, pa.string())], names=["id"]))
        self.entries.clear()
        self.names.clear()

    def _skip(self, skip: Skip, bad: Any) -> None:
        if self.bad_kept < BAD_ROWS_KEPT:
            self.bad_kept += 1
            bad.write(orjson.dumps(bad_row_note(self.code, skip)) + b"\n")

    def finished(self) -> FileCounts:
        counts = self.counter.finished()
        counts.refused_domains, counts.problem = self.choice.refused, self.problem
        return counts


# --- processes --------------------------------------------------------------------------------


def scan_all(
    folder: Path,
    sources: list[Source],
    pieces: list[Piece],
    progress: Callable[[int, int], None],
) -> tuple[list[PieceCounts], list[str]]:
    """Every piece, and the full hash of every file, in as many processes as there are cores."""
    total = sum(piece.size for piece in pieces)
    # A hash takes a small part of the time of a scan, which counts as the work.
    hashes = [
        Piece(number=-1 - piece.number, first=piece.first, stop=piece.stop, size=0)
        for piece in pieces
        if piece.part is None or piece.part[0] == 0
    ]
    count = min(machine.cores(), MOST_PROCESSES, len(pieces))
    found: dict[int, PieceCounts] = {}
    done = 0

    def add(piece: Piece, counts: PieceCounts) -> None:
        nonlocal done
        found[piece.number] = counts
        done += piece.size
        progress(done, max(total, 1))

    if total < WORTH_A_PROCESS and not any(map(_is_packed, sources)):
        for piece in (*pieces, *hashes):
            add(piece, _do(folder, sources, piece))
    else:
        count = count if total >= WORTH_PROCESSES else 1
        order = ScanOrder(folder=str(folder), sources=[plain_source(s) for s in sources])
        largest_first = sorted(pieces, key=lambda piece: -piece.size)
        _in_processes(order, [*largest_first, *hashes], count, add, lambda: progress(done, total))
    return [found[p.number] for p in pieces], [h for p in hashes for h in found[p.number].hashes]


def _do(folder: Path, sources: list[Source], piece: Piece) -> PieceCounts:
    if piece.number >= 0:
        return scan_piece(folder, sources, piece)
    return PieceCounts(hashes=[_hash(sources[code]) for code in range(piece.first, piece.stop)])


def _is_packed(source: Source) -> bool:
    if source.form in ("parquet", "arrow"):
        return True
    try:
        with source.path.open("rb") as file:
            return codec_of(file.read(HEAD_BYTES)) != "plain"
    except OSError:  # the scan tells
        return False


def _hash(source: Source) -> str:
    try:
        return full_hash(source.path)
    except OSError:  # the scan tells
        return ""


def _in_processes(
    order: ScanOrder,
    pieces: list[Piece],
    count: int,
    add: Callable[[Piece, PieceCounts], None],
    look: Callable[[], None],
) -> None:
    """``look`` is called while nothing ends; it may raise, and then all processes end."""
    workers: SimpleQueue[Worker] = SimpleQueue()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(count) as threads:
        for _ in range(count):
            worker = Worker(order)
            stack.callback(worker.close)
            workers.put(worker)

        def ask(piece: Piece) -> PieceCounts:
            worker = workers.get()
            try:
                return worker.ask(piece)
            finally:
                workers.put(worker)

        asked: dict[Future[PieceCounts], Piece] = {threads.submit(ask, p): p for p in pieces}
        try:
            while asked:
                ended, _ = wait(asked, WAIT_SECONDS, FIRST_COMPLETED)
                for future in ended:
                    add(asked.pop(future), future.result())
                if not ended:
                    look()
        except BaseException:
            for future in asked:
                future.cancel()
            while not workers.empty():
                workers.get().close()
            stack.close()  # threads that wait for an answer have none to wait for
            raise


class Worker:
    """A process that scans pieces, one after another."""

    def __init__(self, order: ScanOrder) -> None:
        self.process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": machine.import_path()},
            start_new_session=True,  # a Ctrl-C is for the run, which decides
        )
        with contextlib.suppress(OSError):  # it has ended: the first answer tells
            self._send(order)

    def _send(self, record: Record) -> None:
        assert self.process.stdin
        self.process.stdin.write(orjson.dumps(plain(record)) + b"\n")
        self.process.stdin.flush()

    def ask(self, piece: Piece) -> PieceCounts:
        assert self.process.stdout
        try:
            self._send(piece)
            line = self.process.stdout.readline()
        except (OSError, ValueError):  # it has ended
            line = b""
        if not line:
            fix = "run again; if it ends again, give more memory"
            raise RunError("a process that indexes files ended", f"exit {self.process.poll()}", fix)
        answer = orjson.loads(line)
        if answer.get("errno") is not None:
            raise OSError(answer["errno"], answer["error"], answer["file"])
        if "error" in answer:
            raise RunError(answer["error"], "indexing", "report this")
        return record_of(answer, PieceCounts)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


def serve() -> None:
    """Answer every line of stdin with one on stdout, until there are none."""
    order = record_of(orjson.loads(sys.stdin.buffer.readline()), ScanOrder)
    sources = [source_from(place, RowKeys()) for place in order.sources]
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin.buffer:
        try:
            counts = plain(_do(Path(order.folder), sources, record_of(orjson.loads(line), Piece)))
        except OSError as error:  # of what is written: readers tell of their own
            named = str(error.filename or order.folder)
            counts = {"error": one_line(error.strerror or error), "errno": error.errno}
            counts["file"] = named
        except Exception as error:  # the one who asked tells it, and the other processes end
            counts = {"error": f"{type(error).__name__}: {one_line(error)}"}
        answers.write(orjson.dumps(counts) + b"\n")
        answers.flush()


if __name__ == "__main__":
    serve()
