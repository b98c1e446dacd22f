"""Decompression: the decompressed bytes and lines of a file, whatever its name says it is.

A compressed file that ends early is an error that names it; bytes after its end are left out, and
told. However far a file unpacks, only some megabytes of it are held at a time, and a line is given
up when it is longer than anybody wants.
"""

from __future__ import annotations

import bz2
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from mlxprune.errors import DataError, one_line

CHUNK_BYTES = 1 << 20
UNPACKED_BYTES = 4 << 20  # that one call of a codec gives at most
MOST_LINE_BYTES = 1 << 30
MUCH, MUCH_BYTES = 100, 64 << 20  # how far a file unpacks above which that is told
NOT_EMPTY = re.compile(rb"[^\n]+")
START_BYTES = 80  # of a line that is too long
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
HEAD_BYTES = 10  # by which a codec is known
Told = Callable[[str], None]


@dataclass(frozen=True)
class LongLine:
    """A line above the limit: so many bytes, of which the ``start`` is kept."""

    size: int
    start: bytes


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
    return lzma.LZMADecompressor() if codec == "xz" else zstd.ZstdDecompressor()


def _unpacked(stream: Any, data: bytes) -> Iterator[bytes]:
    """What a stream makes of some bytes, UNPACKED_BYTES at most at a time."""
    while True:
        out = stream.decompress(data, UNPACKED_BYTES)
        if out:
            yield out
        if stream.eof:
            return
        if isinstance(stream, bz2.BZ2Decompressor | lzma.LZMADecompressor | zstd.ZstdDecompressor):
            data = b""
            if stream.needs_input:
                return
        else:
            data = stream.unconsumed_tail
            if not data and len(out) < UNPACKED_BYTES:
                return


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
                unpacked = 0
                for chunk in _members(file, codec, path, told):
                    unpacked += len(chunk)
                    if position is not None:
                        position[0] = file.tell()
                    yield chunk
                stored = file.tell()
                if unpacked > max(MUCH_BYTES, MUCH * stored):
                    times = f"{unpacked / stored:,.0f} times its size"
                    told(f"it unpacks to {unpacked / 1e6:,.0f} MB, {times}")
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError) as error:
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
            yield from _unpacked(stream, data)
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
    path: Path,
    told: Told = lambda what: None,
    part: tuple[int, int] | None = None,
    most: int = MOST_LINE_BYTES,
) -> Iterator[tuple[int, bytes | LongLine]]:
    """(offset in the decompressed stream, line without its end) of every line that is not empty.
    Only LF ends a line.

    ``part``: of a file that is not compressed, the lines that begin in these bytes [from, to).
    ``most`` bytes of a line are held.
    """
    base, begun, line = 0, 0, LineInPieces(most)  # where the chunk and the line in pieces begin
    chunks = decompressed_chunks(path, told) if part is None else _plain_from(path, part[0])
    if part is not None and part[0] > 0:  # a line that began before belongs to the part before
        base, chunks = _after_line_end(part[0] - 1, chunks)
    end_of_part = sys.maxsize if part is None else part[1]
    for chunk in chunks:
        first, last = chunk.find(b"\n"), chunk.rfind(b"\n")
        begun = begun if line.size else base
        line.add(chunk[:first] if first >= 0 else chunk)
        if first >= 0:
            if line.size and begun < end_of_part:
                yield begun, line.take()
            for found in NOT_EMPTY.finditer(chunk, first + 1, last):
                if base + found.start() >= end_of_part:
                    return
                whole = found.group()
                long = len(whole) > most
                yield (
                    base + found.start(),
                    LongLine(len(whole), whole[:START_BYTES]) if long else whole,
                )
            begun = base + last + 1
            if begun >= end_of_part:
                return
            line.add(chunk[last + 1 :])
        base += len(chunk)
    if line.size and begun < end_of_part:
        yield begun, line.take()


class LineInPieces:
    """A line that is read piece by piece; of one above ``most`` bytes only the start is held."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.size, self.pieces, self.is_long = 0, list[bytes](), False

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size <= self.most:
            self.pieces.append(piece)
        elif not self.is_long or len(self.pieces[0]) < START_BYTES:
            self.is_long = True
            self.pieces = [b"".join([*self.pieces, piece[:START_BYTES]])[:START_BYTES]]

    def take(self) -> bytes | LongLine:
        """The whole line; the next one begins."""
        pieces, size = self.pieces, self.size
        self.size, self.pieces, self.is_long = 0, [], False
        whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return whole if size <= self.most else LongLine(size, whole[:START_BYTES])


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
