"""Checksums: whatever byte changes is found, in files, in objects and in arrays."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import xxhash

from mlxprune import checksums
from mlxprune.checksums import (
    FileSum,
    Share,
    file_sum,
    is_whole,
    read_sealed,
    read_sealed_array,
    read_sealed_list,
    write_sealed,
    write_sealed_array,
    write_sealed_list,
)

PIECE = 64


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(checksums, "CHUNK_BYTES", 7)


def flipped(data: bytes, generator: np.random.Generator) -> bytes:
    changed = bytearray(data)
    changed[int(generator.integers(len(data)))] ^= 1 << int(generator.integers(8))
    return bytes(changed)


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 3])
def test_a_file_is_known_by_its_pieces(
    size: int, tmp_path: Path, generator: np.random.Generator
) -> None:
    path, data = tmp_path / "x", generator.bytes(size)
    path.write_bytes(data)
    found = file_sum(path)
    pieces = [data[i : i + PIECE] for i in range(0, max(size, 1), PIECE)]
    assert found == FileSum(size, [xxhash.xxh3_128(p).hexdigest() for p in pieces])
    assert is_whole(path, found, again=True)
    for _ in range(20 if size else 0):
        path.write_bytes(flipped(data, generator))
        assert not is_whole(path, found, again=True)
    for other in (data[:-1], data + b"\0"):
        path.write_bytes(other)
        assert is_whole(path, found) == (other == data)
    path.unlink()
    assert not is_whole(path, found)


def test_a_share_reads_its_pieces_and_all_shares_read_all(
    tmp_path: Path, generator: np.random.Generator
) -> None:
    path, data = tmp_path / "x", generator.bytes(9 * PIECE)
    path.write_bytes(data)
    wanted = file_sum(path)
    for piece in range(9):
        changed = bytearray(data)
        changed[piece * PIECE + 5] ^= 4
        path.write_bytes(changed)
        found = [is_whole(path, wanted, Share(n, 4)) for n in (1, 2, 3, 4)]
        assert found.count(False) == 1
        assert found.index(False) == piece % 4


def test_a_file_is_read_once_and_again_when_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"before")
    wanted, told = file_sum(path), path.stat()
    path.write_bytes(b"behind")
    assert not is_whole(path, wanted)
    path.write_bytes(b"before")
    assert is_whole(path, wanted)
    # What changes without a new time is found by a start, which has read nothing before.
    with path.open("r+b") as file:
        file.write(b"BEFORE")
    os.utime(path, ns=(told.st_atime_ns, path.stat().st_mtime_ns))
    assert not is_whole(path, wanted, again=True)


def test_an_object_knows_its_own_bytes(tmp_path: Path, generator: np.random.Generator) -> None:
    tree = {"a": [1.5, None, "é\n", {"b": 2**60}], "c": {}, "d": float("nan"), "e": -0.0}
    path = tmp_path / "x.json"
    write_sealed(path, tree)
    kept = {**tree, "d": None}
    assert read_sealed(path) == kept
    data = path.read_bytes()
    for _ in range(200):
        changed = flipped(data, generator)
        path.write_bytes(changed)
        try:
            found = read_sealed(path)
        except ValueError:
            continue
        assert found == kept  # a space for a line end is the same object
    write_sealed_list(path, [{"a": 1}, {"b": 2}])
    assert read_sealed_list(path) == [{"a": 1}, {"b": 2}]
    path.write_text("[1, 2]")  # as it was before there were checksums
    assert read_sealed_list(path) == [1, 2]


def test_the_name_of_a_checksum_is_held_too(tmp_path: Path) -> None:
    """An object of old has none; a changed bit in the name does not make it one of old."""
    path = tmp_path / "a.json"
    write_sealed(path, {"stage": "split", "count": 3})
    data = path.read_bytes()
    at = data.index(b'"sum"') + 1
    for place in range(at, at + 3):
        for bit in range(8):
            path.write_bytes(data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :])
            with pytest.raises(ValueError):
                read_sealed(path)


def test_an_array_knows_its_own_bytes(tmp_path: Path, generator: np.random.Generator) -> None:
    array = generator.integers(0, 2**60, (7, 3))
    path = tmp_path / "x.npy"
    write_sealed_array(path, array)
    assert np.array_equal(read_sealed_array(path), array)
    assert np.array_equal(np.load(path, mmap_mode="r"), array), "NumPy reads it, too"
    data = path.read_bytes()
    for _ in range(100):
        path.write_bytes(flipped(data, generator))
        with pytest.raises(ValueError):
            read_sealed_array(path)
    for kept in (0, 5, 16, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:kept])
        with pytest.raises(ValueError):
            read_sealed_array(path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]
