"""Files: whole or not at all, flushed to the disk, and known again by a hash."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from mlxprune.errors import SpaceError, UsageError

PARTIAL = ".partial"
EDGE_BYTES = 1 << 20
LEAST_FREE_BYTES = 16 << 20  # under this a failed write is taken for a full disk


def fingerprint_of(*parts: Any) -> str:
    """A short hash of plain values; equal values, equal hash, whatever the order of keys."""
    data = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def edges_hash(path: Path) -> str:
    """A hash of the first and last MiB of a file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.blake2b(file.read(EDGE_BYTES), digest_size=16)
        file.seek(max(EDGE_BYTES, size - EDGE_BYTES))
        digest.update(file.read(EDGE_BYTES))
    return digest.hexdigest()


def full_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def files_identity(folder: Path, patterns: tuple[str, ...]) -> list[list[Any]]:
    """Name, size and edges of the files of a folder that match: what a fingerprint hashes."""
    files = sorted({p for pattern in patterns for p in folder.glob(pattern) if p.is_file()})
    return [[p.name, p.stat().st_size, edges_hash(p)] for p in files]


def flush(fd: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):  # not every file system offers it
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def flush_folder(folder: Path) -> None:
    """Where a file system cannot flush a folder (some of networks, exFAT), it is left at that."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        flush(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF):
            raise
    finally:
        os.close(fd)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Whole or not at all, and on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        flush(file.fileno())
    os.replace(partial, path)
    flush_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
    return orjson.dumps(value, option=options, default=_plain) + b"\n"


def _plain(value: Any) -> Any:
    return str(value)


def read_json(path: Path) -> Any:
    return orjson.loads(path.read_bytes())


def finish_file(partial: Path, path: Path) -> None:
    """Give a completely written file its name."""
    with partial.open("rb") as file:
        flush(file.fileno())
    os.replace(partial, path)
    flush_folder(path.parent)


@contextlib.contextmanager
def folder_in_the_making(path: Path) -> Iterator[Path]:
    """Build a folder under a temporary name; it appears whole, or not at all."""
    partial = path.with_name(path.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for file in partial.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                flush(opened.fileno())
    flush_folder(partial)
    os.replace(partial, path)
    flush_folder(path.parent)


def write_array(path: Path, array: Any) -> None:
    """An .npy that is there whole or not at all."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb") as file:
        np.save(file, array)
    finish_file(partial, path)


def refuse_taken(out: Path) -> None:
    """Raises UsageError where something stands in a folder that is to be made."""
    fix = "choose another --out"
    if out.exists() and not out.is_dir():
        raise UsageError("this is a file, not a folder", str(out), fix)
    if out.exists() and any(out.iterdir()):
        raise UsageError("the folder is not empty", str(out), fix)


def tree_bytes(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


@contextlib.contextmanager
def no_space_is_an_error(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fix = "free some space and run again: finished work is kept"
            raise SpaceError("no space left on the disk", str(where), fix) from None
        raise


@contextlib.contextmanager
def no_space_behind_runtime_errors(where: Path) -> Iterator[None]:
    """MLX reports a failed write as a RuntimeError; on a full disk it is the disk's."""
    try:
        yield
    except RuntimeError as error:
        if shutil.disk_usage(where).free < LEAST_FREE_BYTES:
            raise OSError(errno.ENOSPC, str(error)) from error
        raise
