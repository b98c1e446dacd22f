"""Blocks: any input cut into pieces of some megabytes, each of which is filtered for itself.

Where the cuts lie depends on the files alone, so that a later start, with another number of
workers, does the same blocks. A block is put down as an Arrow file for whoever filters it: lines
with the file and row that they come from, or rows of one file of columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlxprune.data.original_rows import RawRows, raw_rows
from mlxprune.data.rows import BadLine
from mlxprune.data.sources import Source
from mlxprune.files import read_json, write_json

LEAST_BYTES, MOST_BYTES = 1 << 20, 24 << 20  # of a block's rows
LINES_TOGETHER = 256
BLOCKS_WANTED = 64  # of input that is small
LINES = pa.schema(
    [
        ("source", pa.int32()),
        ("row", pa.int64()),
        ("line", pa.large_binary()),
        ("reason", pa.string()),
        ("start", pa.string()),
    ]
)
SOURCE, FIRST = b"mlxprune.source", b"mlxprune.first"


def block_bytes(sources: list[Source]) -> int:
    """The size of a block of this input: small input has many, so that all workers have some."""
    stored = sum(source.path.stat().st_size for source in sources)
    return max(LEAST_BYTES, min(MOST_BYTES, stored // BLOCKS_WANTED))


@dataclass
class BlockRows:
    """Rows of one file in a block: ``first`` is the number of the first of them, and ``table`` or
    ``lines`` what they are."""

    source: int
    raw: RawRows


@dataclass
class Block:
    """``stored``: bytes of the input files, about, that have been read for it."""

    number: int
    pieces: list[BlockRows] = field(default_factory=list)
    size: int = 0
    stored: int = 0


class BlockReader:
    """Cuts the input into blocks. A file that is larger than a block begins with one of its own,
    so that a later start can leave out files of which every block is done."""

    def __init__(self, sources: list[Source], wanted: int, folder: Path, done: set[int]) -> None:
        self.sources, self.wanted, self.done = sources, wanted, done
        self.notes = folder / "files"
        self.number = 0
        self.told: dict[int, list[str]] = {}  # by file: what its reader says of it

    def blocks(self) -> Iterator[Block]:
        """All blocks, in order; of files that are done altogether none."""
        block = Block(0)
        for code, source in enumerate(self.sources):
            size = source.path.stat().st_size
            is_large = size > self.wanted
            if is_large and block.pieces:
                yield self._closed(block)
                block = Block(self.number)
            if is_large and self._skip(code):
                block = Block(self.number, stored=block.stored + size)
                continue
            first, seen, position = self.number, 0, [0]
            told = self.told.setdefault(code, [])
            for raw in raw_rows(source, told.append, position, LINES_TOGETHER):
                if not len(raw):
                    continue
                if raw.values is not None:  # written as JSON once, not for its size and again
                    raw = RawRows(raw.first, lines=raw.bare_lines())
                block.stored, seen = block.stored + position[0] - seen, position[0]
                one_kind = not block.pieces or _fits(block.pieces[-1], raw, code)
                if not one_kind:
                    yield self._closed(block)
                    block = Block(self.number)
                block.pieces.append(BlockRows(code, raw))
                block.size += _size(raw)
                if block.size >= self.wanted:
                    yield self._closed(block)
                    block = Block(self.number)
            block.stored += size - seen
            if is_large:
                if block.pieces:
                    yield self._closed(block)
                    block = Block(self.number)
                write_json(self.notes / f"{code}.json", [first, self.number, told])
        if block.pieces:
            yield self._closed(block)

    def _closed(self, block: Block) -> Block:
        self.number += 1
        return block

    def _skip(self, code: int) -> bool:
        """Whether all blocks of a file are done; the next block is then the one behind them."""
        try:
            first, stop, told = read_json(self.notes / f"{code}.json")
        except (OSError, ValueError):
            return False
        if first != self.number or not all(n in self.done for n in range(first, stop)):
            return False
        self.number, self.told[code] = stop, told
        return True


def _fits(last: BlockRows, raw: RawRows, code: int) -> bool:
    """Lines join lines of any file; columns only those of their own."""
    if (last.raw.table is None) != (raw.table is None):
        return False
    return raw.table is None or last.source == code


def _size(raw: RawRows) -> int:
    if raw.table is not None:
        return int(raw.table.nbytes)
    return sum(len(line) for line in raw.bare_lines() if isinstance(line, bytes))


def write_block(block: Block, path: Path) -> None:
    """Put a block down for whoever filters it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = block.pieces[0] if block.pieces else None
    if first is not None and first.raw.table is not None:
        told = {SOURCE: str(first.source).encode(), FIRST: str(first.raw.first).encode()}
        schema = first.raw.table.schema
        with pa.ipc.new_stream(
            str(path), schema.with_metadata({**(schema.metadata or {}), **told})
        ) as out:
            for piece in block.pieces:
                out.write_batch(piece.raw.table)
        return
    with pa.ipc.new_stream(str(path), LINES) as out:
        for piece in block.pieces:
            lines = piece.raw.bare_lines()
            numbers = np.arange(piece.raw.first, piece.raw.first + len(lines))
            out.write_batch(
                pa.record_batch(
                    [
                        pa.array(np.full(len(lines), piece.source, np.int32)),
                        pa.array(numbers),
                        pa.array(
                            [b"" if isinstance(x, BadLine) else x for x in lines],
                            LINES.field("line").type,
                        ),
                        pa.array(
                            [x.reason if isinstance(x, BadLine) else None for x in lines],
                            pa.string(),
                        ),
                        pa.array(
                            [_start(x) for x in lines],
                            pa.string(),
                        ),
                    ],
                    schema=LINES,
                )
            )


def _start(line: bytes | BadLine) -> str | None:
    if not isinstance(line, BadLine):
        return None
    return line.start.encode("utf-8", "backslashreplace").decode("utf-8")


def read_block(path: Path) -> list[BlockRows]:
    """What was put down, piece by piece."""
    with pa.memory_map(str(path)) as mapped:
        stored = pa.ipc.open_stream(mapped)  # whose dictionaries may change on the way
        batches = [*stored]
        told = stored.schema.metadata or {}
    if SOURCE not in told:
        return [_lines_of(batch) for batch in batches]
    code, at = int(told[SOURCE]), int(told[FIRST])
    own = {k: v for k, v in told.items() if k not in (SOURCE, FIRST)}
    pieces = []
    for batch in batches:
        pieces.append(
            BlockRows(code, RawRows(at, table=batch.replace_schema_metadata(own or None)))
        )
        at += batch.num_rows
    return pieces


def _lines_of(batch: pa.RecordBatch) -> BlockRows:
    lines: list[bytes | BadLine] = batch.column("line").to_pylist()
    reasons, starts = batch.column("reason"), batch.column("start")
    if reasons.null_count < len(lines):
        for at, reason in enumerate(reasons.to_pylist()):
            if reason is not None:
                lines[at] = BadLine(reason, starts[at].as_py())
    return BlockRows(
        batch.column("source")[0].as_py(), RawRows(batch.column("row")[0].as_py(), lines=lines)
    )
