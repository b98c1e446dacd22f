"""Checksums: of every file that is kept, so that no changed byte passes for the old one.

They are XXH3-128 (https://xxhash.com) of pieces of 64 MiB: against faults of disks and memory, not
against an attacker, who could write new ones. What a process has read once is remembered by size,
time and inode.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash

from mlxprune.files import PARTIAL, finish_file, json_bytes, read_json, write_json
from mlxprune.records import Json, plain

PIECE_BYTES = 64 << 20
CHUNK_BYTES = 1 << 20
SUM_BYTES = 16
LIST = "list"  # where a file holds several records
KEY = "sum"  # of a JSON object that holds its own checksum


class FileSum(msgspec.Struct, array_like=True, frozen=True):
    """Of a file: its bytes, and a hexadecimal checksum of every piece of it."""

    size: int
    pieces: list[str]


@dataclass(frozen=True)
class Share:
    """The ``part``-th of ``parts`` of the pieces of every file, from 1 on."""

    part: int = 1
    parts: int = 1

    def has(self, piece: int) -> bool:
        return piece % self.parts == self.part - 1


WHOLE = Share()
_Stamp = tuple[int, int, int]
_seen: dict[str, tuple[_Stamp, FileSum]] = {}


def file_sum(path: Path) -> FileSum:
    """Of a file as it is now. Raises OSError."""
    with path.open("rb") as file:
        stamp = _stamp(file.fileno())
        known = _seen.get(str(path))
        if known is not None and known[0] == stamp:
            return known[1]
        found = FileSum(stamp[0], list(_piece_sums(file, stamp[0], WHOLE).values()))
        if _stamp(file.fileno()) == stamp:
            _seen[str(path)] = (stamp, found)
    return found


def is_whole(path: Path, wanted: FileSum, share: Share = WHOLE, again: bool = False) -> bool:
    """Whether a file is what its checksum says; ``again``: read it also where this process has
    before."""
    if again:
        _seen.pop(str(path), None)
    try:
        if share == WHOLE:
            return path.stat().st_size == wanted.size and file_sum(path) == wanted
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != wanted.size:
                return False
            found = _piece_sums(file, size, share)
    except OSError:
        return False
    return all(wanted.pieces[number : number + 1] == [one] for number, one in found.items())


def piece_count(size: int) -> int:
    """An empty file has one piece."""
    return max(1, -(-size // PIECE_BYTES))


def _piece_sums(file: io.BufferedReader, size: int, share: Share) -> dict[int, str]:
    found = {}
    for number in filter(share.has, range(piece_count(size))):
        file.seek(number * PIECE_BYTES)
        digest, left = xxhash.xxh3_128(), PIECE_BYTES
        while left and (chunk := file.read(min(left, CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
        found[number] = digest.hexdigest()
    return found


def _stamp(fd: int) -> _Stamp:
    status = os.fstat(fd)
    return status.st_size, status.st_mtime_ns, status.st_ino


def sums_of(files: Iterable[Path], folder: Path) -> dict[str, FileSum]:
    """Of each file by its path in ``folder``."""
    return {path.relative_to(folder).as_posix(): file_sum(path) for path in sorted(files)}


def write_sealed(path: Path, record: Any) -> None:
    """A record as a JSON object that holds its own checksum. Whole or not at all."""
    tree = plain(record)
    write_json(path, {**tree, KEY: _tree_sum(tree)})


def read_sealed(path: Path) -> Json:
    """The object without its checksum; one of old has none. Raises OSError, and ValueError where
    it is damaged."""
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise ValueError("it is no object")
    told = tree.pop(KEY, None)
    if told is None:
        _refuse_renamed(tree)
    elif told != _tree_sum(tree):
        raise ValueError("its checksum differs")
    return tree


def _refuse_renamed(tree: Json) -> None:
    """An object of old has no checksum; one whose key was damaged has it under another name."""
    for name, value in tree.items():
        rest = {key: other for key, other in tree.items() if key != name}
        if isinstance(value, str) and len(value) == 2 * SUM_BYTES and value == _tree_sum(rest):
            raise ValueError("the name of its checksum is damaged")


def write_sealed_list(path: Path, records: list[Any]) -> None:
    write_sealed(path, {LIST: plain(records)})


def read_sealed_list(path: Path) -> list[Any]:
    """One of old is a bare list. Raises OSError, and ValueError where it is damaged."""
    tree = read_json(path)
    found = tree if isinstance(tree, list) else read_sealed(path).get(LIST)
    if not isinstance(found, list):
        raise ValueError("it is no list")
    return found


def _tree_sum(tree: Json) -> str:
    return str(xxhash.xxh3_128(json_bytes(tree)).hexdigest())


def write_sealed_array(path: Path, array: np.ndarray) -> None:
    """An .npy with the checksum of its bytes behind it, which NumPy does not read. Whole or not at
    all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = io.BytesIO()
    np.save(held, array)
    data = held.getvalue()
    # Several processes may write at once, each for itself.
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    with partial.open("wb") as file:
        file.write(data + xxhash.xxh3_128(data).digest())
    finish_file(partial, path)


def read_sealed_array(path: Path) -> np.ndarray:
    """Raises OSError, and ValueError where it is damaged or has no checksum."""
    data = path.read_bytes()
    body, told = data[:-SUM_BYTES], data[-SUM_BYTES:]
    if xxhash.xxh3_128(body).digest() != told:
        raise ValueError("its checksum differs")
    found: np.ndarray = np.load(io.BytesIO(body), allow_pickle=False)
    return found
