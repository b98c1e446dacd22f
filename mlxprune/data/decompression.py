"""Decompression: the decompressed bytes and lines of a file, whatever its name says it is.

A compressed file that ends early is an error that names it.
"""

from __future__ import annotations

import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from mlxprune.errors import DataError, one_line

CHUNK_BYTES = 1 << 20


def codec_of(head: bytes) -> str:
    if head.startswith(b"\x1f\x8b"):
        return "gz"
    if head.startswith(b"\x28\xb5\x2f\xfd") or re.match(rb"[\x50-\x5f]\x2a\x4d\x18", head):
        return "zst"
    return "xz" if head.startswith(b"\xfd7zXZ\x00") else "plain"


def decompressed_chunks(path: Path) -> Iterator[bytes]:
    """The decompressed bytes of a file. A broken or early end is a DataError that names it."""
    try:
        with path.open("rb") as file:
            codec = codec_of(file.read(6))
            file.seek(0)
            if codec == "zst":
                yield from _zstd_chunks(file, path)
                return
            stream: Any = file
            if codec == "gz":
                stream = gzip.GzipFile(fileobj=file)
            elif codec == "xz":
                stream = lzma.LZMAFile(file)  # noqa: SIM115 (the file is closed below)
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except EOFError:
        raise _cut_short(path) from None
    except (OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        problem = f"cannot read it: {one_line(error)}"
        raise DataError(problem, str(path), "check the file, or leave it out") from None


def _zstd_chunks(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Frame by frame: the library's stream readers end silently when the last frame is cut."""
    frame = None
    while data := file.read(CHUNK_BYTES // 4):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            out = frame.decompress(data)
            if out:
                yield out
            if not frame.eof:
                break
            data, frame = frame.unused_data, None
    if frame is not None:
        raise _cut_short(path)


def _cut_short(path: Path) -> DataError:
    return DataError("the compressed file ends early", str(path), "fetch it again, or leave it out")


def decompressed_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset in the decompressed stream, line without its end). Only LF ends a line."""
    offset, pending = 0, bytearray()
    for chunk in decompressed_chunks(path):
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            line = bytes(pending) + chunk[start:end]
            yield offset, line
            offset += len(line) + 1
            pending.clear()
            start = end + 1
        pending += chunk[start:]
    if pending:
        yield offset, bytes(pending)
