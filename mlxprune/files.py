"""Files: whole or not at all, flushed to the disk, and known again by a hash."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from mlxprune.errors import DamagedFile, DataError, SpaceError, UsageError, one_line

PARTIAL = ".partial"
EDGE_BYTES = 1 << 20
MOST_JSON_BYTES = 1 << 30
DAMAGED_FIX = "run the command that made it again: it writes it anew"
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
    """Name, size and hash of the files of a folder that match: what a fingerprint hashes."""
    files = sorted({p for pattern in patterns for p in folder.glob(pattern) if p.is_file()})
    return [[p.name, p.stat().st_size, full_hash(p)] for p in files]


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


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError of a descriptor names the file, too."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def write_atomic(path: Path, data: bytes | str) -> None:
    """Whole or not at all, and on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    with naming(path), partial.open("wb") as file:
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
    """Raises OSError, and DamagedFile where it is no JSON."""
    refuse_odd_file(path, MOST_JSON_BYTES)
    try:
        return orjson.loads(path.read_bytes())
    except ValueError as error:
        raise DamagedFile(f"it is no JSON: {one_line(error)}", str(path), DAMAGED_FIX) from None


def refuse_odd_file(path: Path, most: int = 16 << 20) -> None:
    """Raises OSError where a file is none that ends, and DataError where it is larger than one of
    its kind is."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise OSError(kind, "it is no regular file", str(path))
    if status.st_size > most:
        problem = f"it has {status.st_size:,} bytes, and no file of its kind has over {most:,}"
        raise DataError(problem, str(path), "check what it is")


def finish_file(partial: Path, path: Path) -> None:
    """Give a completely written file its name."""
    with naming(path), partial.open("rb") as file:
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
            with naming(file), file.open("rb") as opened:
                flush(opened.fileno())
    flush_folder(partial)
    os.replace(partial, path)
    flush_folder(path.parent)


def write_array(path: Path, array: Any) -> None:
    """An .npy that is there whole or not at all."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    with naming(path), partial.open("wb") as file:
        np.save(file, array)
    finish_file(partial, path)


def read_array(path: Path) -> Any:
    """An .npy. Raises OSError, and ValueError where it is damaged: of a damaged header NumPy raises
    what its parser does."""
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"the array is damaged: {error}") from error


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
        short = error.errno is None and "requested and" in str(error)  # NumPy's
        if error.errno == errno.EFBIG or short:
            fix = "raise the limit on file sizes (ulimit -f), or free space; finished work is kept"
            problem = f"a file could not be written whole: {one_line(error.strerror or error)}"
            raise SpaceError(problem, str(error.filename or where), fix) from None
        raise


@contextlib.contextmanager
def no_space_behind_runtime_errors(where: Path) -> Iterator[None]:
    """MLX reports a failed write as a RuntimeError; on a full disk it is the disk's."""
    try:
        yield
    except RuntimeError as error:
        if shutil.disk_usage(where).free < LEAST_FREE_BYTES:
            raise OSError(errno.ENOSPC, str(error)) from error
        if "Unable to write" in str(error):  # a limit on the size of files, or a broken disk
            raise OSError(errno.EFBIG, str(error), str(where)) from error
        raise
