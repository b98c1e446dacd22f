"""Decompression: the decompressed bytes and lines of a file, whatever its name says it is.

A compressed file that ends early is an error that names it; bytes after its end are left out, and
told.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from mlxprune.errors import DataError, one_line

CHUNK_BYTES = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
HEAD_BYTES = 10  # by which a codec is known
Told = Callable[[str], None]


def codec_of(head: bytes) -> str:
    """gz, zst, xz, bz2 or plain, by the first bytes of a file."""
    if head.startswith(b"\x1f\x8b"):
        return "gz"
    if head.startswith(b"\x28\xb5\x2f\xfd") or re.match(rb"[\x50-\x5f]\x2a\x4d\x18", head):
        return "zst"
    if re.match(rb"BZh[1-9](\x31\x41\x59\x26\x53\x59|\x17\x72\x45\x38\x50\x90)", head):
        return "bz2"
    return "xz" if head.startswith(b"\xfd7zXZ\x00") else "plain"


def _decompressor(codec: str) -> Any:
    if codec == "gz":
        return zlib.decompressobj(wbits=31)
    if codec == "bz2":
        return bz2.BZ2Decompressor()
    return (
        lzma.LZMADecompressor() if codec == "xz" else zstandard.ZstdDecompressor().decompressobj()
    )


def decompressed_chunks(
    path: Path, told: Told = lambda what: None, position: list[int] | None = None
) -> Iterator[bytes]:
    """The decompressed bytes of a file; ``told`` hears of bytes that are left out, and ``position``
    holds the stored bytes that have been read. A broken or early end is a DataError that names
    it."""
    try:
        with path.open("rb") as file:
            codec = codec_of(file.read(HEAD_BYTES))
            file.seek(0)
            if codec == "plain":
                while chunk := file.read(CHUNK_BYTES):
                    if position is not None:
                        position[0] = file.tell()
                    yield chunk
            else:
                for chunk in _members(file, codec, path, told):
                    if position is not None:
                        position[0] = file.tell()
                    yield chunk
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        problem = f"cannot read it: {one_line(error)}"
        raise DataError(problem, str(path), "check the file, or leave it out") from None


def _members(file: BinaryIO, codec: str, path: Path, told: Told) -> Iterator[bytes]:
    """Stream by stream, as one after another in one file is allowed: the libraries' own readers
    end silently when the last stream is cut, or refuse what stands after it."""
    stream = _decompressor(codec)
    while data := file.read(CHUNK_BYTES // 4):
        while data:
            if stream is None and not data.strip(b"\0"):
                break  # padding, after which another stream may come
            if stream is None:
                data += file.read(HEAD_BYTES - len(data)) if len(data) < HEAD_BYTES else b""
                if codec_of(data) != codec:
                    _tell_of_rest(file, data, codec, told)
                    return
                stream = _decompressor(codec)
            out = stream.decompress(data)
            if out:
                yield out
            if not stream.eof:
                break
            data, stream = stream.unused_data, None
    if stream is not None:
        raise DataError(
            "the compressed file ends early", str(path), "fetch it again, or leave it out"
        )


def _tell_of_rest(file: BinaryIO, data: bytes, codec: str, told: Told) -> None:
    """What stands after the last stream; zeros alone are padding."""
    size, plain = 0, False
    while data:
        size, plain = size + len(data), plain or bool(data.strip(b"\0"))
        data = file.read(CHUNK_BYTES)
    if plain:
        told(f"{size:,} bytes after the end of its {codec} data are not read")


def decompressed_lines(
    path: Path, told: Told = lambda what: None, part: tuple[int, int] | None = None
) -> Iterator[tuple[int, bytes]]:
    """(offset in the decompressed stream, line without its end). Only LF ends a line.

    ``part``: of a file that is not compressed, the lines that begin in these bytes [from, to).
    """
    offset, pending = 0, bytearray()
    chunks = decompressed_chunks(path, told) if part is None else _plain_from(path, part[0])
    if part is not None and part[0] > 0:  # a line that began before belongs to the part before
        offset, chunks = _after_line_end(part[0] - 1, chunks)
    for chunk in chunks:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            if part is not None and offset >= part[1]:
                return
            line = bytes(pending) + chunk[start:end] if pending else chunk[start:end]
            yield offset, line
            offset += len(line) + 1
            pending.clear()
            start = end + 1
        pending += chunk[start:]
    if pending and (part is None or offset < part[1]):
        yield offset, bytes(pending)


def _plain_from(path: Path, first: int) -> Iterator[bytes]:
    """The bytes of a plain file from the one before ``first``."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, first - 1))
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        problem = f"cannot read it: {one_line(error)}"
        raise DataError(problem, str(path), "check the file, or leave it out") from None


def _after_line_end(offset: int, chunks: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:
    """Where the first line begins after a line end, and the bytes from there."""
    for chunk in chunks:
        end = chunk.find(b"\n")
        if end >= 0:
            return offset + end + 1, _with(chunk[end + 1 :], chunks)
        offset += len(chunk)
    return offset, iter(())


def _with(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
