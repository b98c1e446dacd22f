"""Decompression: the same bytes whatever the codec, and never more of them held than is told."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import random
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from mlxprune.config.data import Data
from mlxprune.data import decompression
from mlxprune.data.decompression import LongLine, decompressed_chunks, decompressed_lines
from mlxprune.data.readers import read_rows
from mlxprune.data.rows import Row, Skip
from mlxprune.data.sources import find_sources

CODECS = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress, "plain": bytes,
}  # fmt: skip


def lines_of(data: bytes, most: int) -> list[tuple[int, object]]:
    found: list[tuple[int, object]] = []
    at = 0
    for line in data.split(b"\n"):
        if line:
            found.append((at, line if len(line) <= most else (len(line), line[:80])))
        at += len(line) + 1
    return found


def told(path: Path, most: int, part: tuple[int, int] | None = None) -> list[tuple[int, object]]:
    return [
        (at, (line.size, line.start) if isinstance(line, LongLine) else line)
        for at, line in decompressed_lines(path, part=part, most=most)
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_lines_are_those_of_the_whole_however_it_is_cut(
    codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decompression, "CHUNK_BYTES", 28)
    monkeypatch.setattr(decompression, "UNPACKED_BYTES", 11)
    draw, path = random.Random(), tmp_path / "x"
    for _ in range(300):
        data = bytes(draw.choice(b"ab\n\n\r") for _ in range(draw.randint(0, 90)))
        most = draw.choice([3, 8, 1000])
        parts = [CODECS[codec](data[:30]), CODECS[codec](data[30:])]
        path.write_bytes(b"".join(parts))  # streams may follow each other
        chunks = [*decompressed_chunks(path)]
        assert b"".join(chunks) == data
        assert codec == "plain" or all(len(chunk) <= 11 for chunk in chunks)
        assert told(path, most) == lines_of(data, most)
        if codec == "plain":
            cuts = sorted({0, len(data), *(draw.randrange(len(data) + 1) for _ in range(3))})
            found = [x for pair in itertools.pairwise(cuts) for x in told(path, most, pair)]
            assert found == lines_of(data, most)


def run_lengths(size: int, byte: int) -> bytes:
    """A Zstandard frame of so many equal bytes: 4 bytes for each 128 kB (RFC 8878, RLE_Block)."""
    count = size // 131_072
    blocks = (
        ((131_072 << 3) | (1 << 1) | (n == count - 1)).to_bytes(3, "little") + bytes([byte])
        for n in range(count)
    )
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(blocks)


READ = """
import resource, sys
from mlxprune.config.data import Data
from mlxprune.data.readers import read_rows
from mlxprune.data.sources import find_sources
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source = find_sources(Data(paths=[sys.argv[1]], max_document=1 << 20)).sources[0]
notes = []
kinds = [getattr(row, "reason", "row") for row in read_rows(source, told=notes.append)]
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(kinds.count("row"), kinds.count("too_long"), (after - before) // 1024, notes)
"""


@pytest.mark.parametrize(
    ("codec", "byte"),
    [
        ("zst", ord("A")),
        pytest.param("gz", ord("A"), marks=pytest.mark.slow),
        pytest.param("zst", ord("\n"), marks=pytest.mark.slow),
        pytest.param("gz", ord("\n"), marks=pytest.mark.slow),
        pytest.param("bz2", ord("A"), marks=pytest.mark.slow),
    ],
)
def test_a_bomb_is_read_in_the_memory_of_some_chunks(codec: str, byte: int, tmp_path: Path) -> None:
    """Of a gigabyte, between two rows that are good, in a file of some kilobytes."""
    size = 1 << 30 if codec == "zst" else 1 << 28
    row = json.dumps({"text": "a good row"}).encode() + b"\n"
    bomb = run_lengths(size, byte) if codec == "zst" else CODECS[codec](bytes([byte]) * size)
    path = tmp_path / f"x.jsonl.{codec}"
    pack = CODECS[codec]
    path.write_bytes(pack(row) + bomb + pack(b"\n" + row))
    assert path.stat().st_size < size / 200
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True
    )
    rows, long, megabytes, notes = done.stdout.split(maxsplit=3)
    assert (int(rows), int(long)) == (2, 0 if byte == ord("\n") else 1)
    assert int(megabytes) < 64
    assert "times its size" in notes


def test_rows_above_the_limit_are_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    texts = ["short", "é" * 700, "x" * 1500, "after"]
    path.write_text("".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts))
    (tmp_path / "y.txt").write_text("long " * 500)
    data = Data(paths=[str(path), str(tmp_path / "y.txt")], max_document=1200)
    rows = [row for source in find_sources(data).sources for row in read_rows(source)]
    assert [row.text for row in rows if isinstance(row, Row)] == ["short", "after"]
    assert [row.reason for row in rows if isinstance(row, Skip)] == ["too_long"] * 3
    assert [row.number for row in rows] == [0, 1, 2, 3, 0]


def test_a_limit_that_nobody_set_changes_no_identity() -> None:
    assert "max_document" not in Data(paths=["x"]).identity()
    assert Data(paths=["x"], max_document="2M").identity()["max_document"] == 2 << 20
