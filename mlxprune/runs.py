"""The run folder: where things lie, how they are written, who holds it.

Everything is written to a temporary name, flushed and renamed; a folder's ``stage.json`` comes last
and says which fingerprint its content answers to.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mlxprune.errors import ConfigError, SpaceError, UsageError

STAGES = (
    "corpus", "split", "tokenizer", "tokens", "reference",
    "score", "selection", "final", "evaluation", "report",
)  # fmt: skip
MARKER = "stage.json"
FILE_SUFFIXES = (".parquet", ".json", ".html")  # a place so named is a file, any other a folder
PARTIAL = ".partial"
EDGE_BYTES = 1 << 20
LEAST_FREE_BYTES = 16 << 20  # under this a failed write is taken for a full disk


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def run_json(self) -> Path:
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        return self.path / "events"

    @property
    def commands(self) -> Path:
        return self.path / "commands"

    @property
    def corpus(self) -> Path:
        return self.path / "corpus"

    @property
    def split(self) -> Path:
        return self.path / "split"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    def tokens(self, tokenizer: str = "main") -> Path:
        return self.path / "tokens" / tokenizer

    def reference(self, name: str = "main") -> Path:
        return self.path / "references" / name

    def scores(self, name: str = "main") -> Path:
        return self.path / "scores" / f"{name}.parquet"

    def selection(self, slice_name: str) -> Path:
        return self.path / "selection" / slice_name

    def final(self, arm_seed: str) -> Path:
        return self.path / "final" / arm_seed

    @property
    def arms(self) -> Path:
        """What every arm of the study is: its documents, U, T, and what was left out and why."""
        return self.path / "final" / "arms.json"

    def evaluation(self, arm_seed: str) -> Path:
        return self.path / "eval" / f"{arm_seed}.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"


def open_run(path: Path) -> RunFolder:
    """An existing run. Raises UsageError where there is none."""
    if not (path / "run.json").exists():
        raise UsageError("no run in this folder", str(path), "name a folder that holds run.json")
    return RunFolder(path)


def runs_under(folder: Path) -> list[RunFolder]:
    if (folder / "run.json").exists():
        return [RunFolder(folder)]
    return [RunFolder(p.parent) for p in sorted(folder.glob("*/run.json"))]


def fingerprint(*parts: Any) -> str:
    """A short hash of plain values; equal values, equal hash, whatever the order of keys."""
    data = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def edges(path: Path) -> str:
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
    found = sorted({p for pattern in patterns for p in folder.glob(pattern) if p.is_file()})
    return [[p.name, p.stat().st_size, edges(p)] for p in found]


def flush(fd: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):  # not every file system offers it
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def flush_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        flush(fd)
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


def marker_path(place: Path) -> Path:
    """Inside a folder, or hidden beside a file."""
    if place.suffix in FILE_SUFFIXES:
        return place.with_name(f".{place.name}.{MARKER}")
    return place / MARKER


def mark(place: Path, stage: str, fingerprint: str, **more: Any) -> None:
    """Say that a thing is finished, and which fingerprint it answers to. The last write of all."""
    write_json(marker_path(place), {"stage": stage, "fingerprint": fingerprint, **more})


def marker(place: Path) -> dict[str, Any] | None:
    """What a finished thing says of itself; None when it is not there or not finished."""
    try:
        found = read_json(marker_path(place))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and place.exists() else None


def is_done(place: Path, wanted: str) -> bool:
    found = marker(place)
    return found is not None and found.get("fingerprint") == wanted


def set_aside(folder: Path, wanted: str) -> bool:
    """Make room for work of another fingerprint without losing what is finished.

    Finished content of another fingerprint moves to ``<name>@<fingerprint>``; if the wanted one
    was moved there before, it comes back. Returns whether the wanted content is in place now.
    """
    if is_done(folder, wanted):
        return True
    found = marker(folder)
    if found is not None:
        _move(folder, _aside(folder, str(found.get("fingerprint"))))
    elif folder.exists() and not _belongs(folder, wanted):
        forget(folder)  # unfinished work towards something else
    parked = _aside(folder, wanted)
    if is_done(parked, wanted):
        _move(parked, folder)
        return True
    return False


def _aside(place: Path, fingerprint: str) -> Path:
    if place.suffix in FILE_SUFFIXES:
        return place.with_name(f"{place.stem}@{fingerprint[:8]}{place.suffix}")
    return place.with_name(f"{place.name}@{fingerprint[:8]}")


def _belongs(folder: Path, wanted: str) -> bool:
    try:
        return (folder / "towards").read_text() == wanted
    except OSError:
        return False


def claim(folder: Path, wanted: str) -> None:
    """Note which fingerprint the unfinished work in a folder is for."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _belongs(folder, wanted):
        write_atomic(folder / "towards", wanted)


def _move(source: Path, target: Path) -> None:
    forget(target)
    if marker_path(source).parent != source:
        os.replace(marker_path(source), marker_path(target))
    os.replace(source, target)


def finished_under(folder: Path, part: str) -> dict[str, Path]:
    """Finished folders of one part (final) of every run under a folder, by fingerprint."""
    found: dict[str, Path] = {}
    copies: dict[str, Path] = {}
    for path in sorted(folder.glob(f"*/{part}/*/{MARKER}")):
        told = marker(path.parent)
        if told is not None and (path.parents[2] / "run.json").exists():
            kind = copies if "same_as" in told else found
            kind.setdefault(str(told.get("fingerprint")), path.parent)
    return copies | found


def link_folder(source: Path, target: Path) -> None:
    """The same files under another name, without a second copy where the disk can do that. Nothing
    is ever written into a finished file, so neither can change the other."""
    with folder_in_the_making(target) as partial:
        for file in sorted(p for p in source.rglob("*") if p.is_file() and p.name != MARKER):
            place = partial / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, place)
            except OSError:
                shutil.copyfile(file, place)


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


COMMANDS = ("pause", "resume", "stop", "checkpoint")


def send_command(run: RunFolder, verb: str) -> Path:
    path = run.commands / f"{time.time_ns()}-{verb}.json"
    write_json(path, {"verb": verb, "time": time.time()})
    return path


def take_commands(run: RunFolder) -> list[str]:
    """The commands that wait, oldest first; taking removes them."""
    try:
        waiting = sorted(p for p in run.commands.iterdir() if p.suffix == ".json")
    except OSError:
        return []
    verbs = []
    for path in waiting:
        with contextlib.suppress(OSError):
            verb = path.stem.rpartition("-")[2]
            path.unlink()
            if verb in COMMANDS:
                verbs.append(verb)
    return verbs


def check_same_study(run: RunFolder, study: str) -> None:
    """A folder belongs to one corpus, seed and split for good."""
    try:
        known = read_json(run.run_json).get("study")
    except (OSError, ValueError):
        return
    if known != study:
        raise ConfigError(
            "this folder belongs to a run with other data, seed or split",
            str(run.path),
            "choose another --dir or name; settings below `split` may change",
        )


def forget(path: Path) -> None:
    """Remove a thing so that no half of it is ever taken for the whole."""
    if path.suffix in FILE_SUFFIXES:
        marker_path(path).unlink(missing_ok=True)
    if path.is_dir():
        doomed = path.with_name(path.name + PARTIAL)
        shutil.rmtree(doomed, ignore_errors=True)
        os.replace(path, doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


def is_current(run: RunFolder, place: Path) -> bool:
    """Whether a finished thing belongs to the configuration that the run has now."""
    try:
        pieces = read_json(run.run_json).get("pieces", {})
    except (OSError, ValueError):
        return False
    wanted = pieces.get(str(place.relative_to(run.path)))
    return wanted is not None and is_done(place, wanted)


def duration(seconds: float | None) -> str:
    """7 s, 3 min 20 s, 2 h 05 min."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
