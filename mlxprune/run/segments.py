"""Segments: the files of an event log. One is written to, those before it are compressed.

``<n>-<writer>.msgpack`` is a stream of msgpack maps, ``<n>-<writer>.msgpack.zst`` the same
compressed. Every map holds the CRC-32 of the others of its fields under ``sum``.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import zstandard

from mlxprune.files import PARTIAL, finish_file
from mlxprune.run.event_kinds import Wire

OPEN, CLOSED = ".msgpack", ".msgpack.zst"
MOST_BYTES = 256 << 20  # of a segment, uncompressed, that a reader believes
UNREADABLE = (ValueError, TypeError, msgpack.UnpackException)  # TypeError: an odd key of a map
KEY = "sum"
LEVEL = 9


def packed(wire: Wire) -> bytes:
    """A record with its checksum."""
    data: bytes = msgpack.packb({**wire, KEY: zlib.crc32(msgpack.packb(wire))})
    return data


def checked(record: Any) -> Wire | None:
    """A record without its checksum; None where it is damaged or no map. One of old has none."""
    if not isinstance(record, dict):
        return None
    told = record.pop(KEY, None)
    if told is None:
        return record if record.get("v") in (None, 1) else None
    try:
        same = zlib.crc32(msgpack.packb(record)) == told
    except (ValueError, TypeError, OverflowError):
        return None
    return record if same else None


def unpacker() -> msgpack.Unpacker:
    """For records, of bytes that anyone may have written."""
    return msgpack.Unpacker(strict_map_key=False, max_buffer_size=MOST_BYTES)


def log_segments(folder: Path) -> list[Path]:
    """The segments in the order of their numbers, each once."""
    try:
        found = [p for p in folder.iterdir() if p.name.endswith((OPEN, CLOSED)) and p.is_file()]
    except OSError:
        return []
    by_stem: dict[str, Path] = {}
    for path in sorted(found, key=lambda p: p.name):  # the compressed one last: it is whole
        by_stem[stem_of(path)] = path
    return sorted(by_stem.values(), key=lambda p: (segment_number(p), p.name))


def stem_of(path: Path) -> str:
    """What a segment is called, compressed or not."""
    return path.name.removesuffix(".zst").removesuffix(OPEN)


def segment_number(path: Path) -> int:
    digits = path.name.partition("-")[0]
    return int(digits) if digits.isdecimal() and len(digits) < 12 else 0


def segment_bytes(path: Path) -> int:
    """How long a segment is, uncompressed; 0 where it cannot be read."""
    try:
        if not path.name.endswith(CLOSED):
            return path.stat().st_size
        with path.open("rb") as file:
            size = zstandard.get_frame_parameters(file.read(64)).content_size
        return size if size <= MOST_BYTES else 0
    except (OSError, zstandard.ZstdError):
        return 0


def read_bytes(path: Path, at: int = 0, length: int = -1) -> bytes:
    """Of a segment, uncompressed. Raises OSError and ValueError."""
    if not path.name.endswith(CLOSED):
        with path.open("rb") as file:
            file.seek(at)
            return file.read(length)
    size = segment_bytes(path)
    try:
        data = zstandard.ZstdDecompressor().decompress(path.read_bytes(), max_output_size=size)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    return data[at:] if length < 0 else data[at : at + length]


def read_segment(path: Path) -> Iterator[Wire]:
    """The whole records of a segment; a damaged one is left out, a torn or foreign tail ends
    it."""
    try:
        records = unpacker()
        records.feed(read_bytes(path))
        for record in records:
            found = checked(record)
            if found is not None:
                yield found
    except (OSError, *UNREADABLE, msgpack.BufferFull):
        return


def damaged_records(path: Path) -> int:
    """How many records of a segment are not what they were; a torn tail, which a kill leaves, is
    none."""
    count = 0
    try:
        records = unpacker()
        records.feed(read_bytes(path))
        for record in records:
            count += checked(record) is None
    except (OSError, *UNREADABLE, msgpack.BufferFull):
        return count + 1
    return count


def compress_segment(path: Path) -> None:
    """In place of a segment that is not written to any more. A reader finds one of the two."""
    closed = path.with_name(f"{stem_of(path)}{CLOSED}")
    if not closed.exists():
        partial = path.with_name(closed.name + PARTIAL)
        data = path.read_bytes()
        partial.write_bytes(zstandard.ZstdCompressor(level=LEVEL).compress(data))
        finish_file(partial, closed)
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108
