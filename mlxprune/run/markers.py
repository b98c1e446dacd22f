"""Markers: what says that a piece of work is finished, and which fingerprint it answers to.

Everything is written to a temporary name, flushed and renamed; a folder's ``stage.json`` comes last
and says which fingerprint its content answers to.
"""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

from mlxprune.files import PARTIAL, folder_in_the_making, read_json, write_atomic
from mlxprune.records import Json, SparseRecord, plain, record_of, write_record
from mlxprune.run.folder import RunFolder

MARKER = "stage.json"
FILE_SUFFIXES = (".parquet", ".json", ".html")  # a place so named is a file, any other a folder


def marker_path(place: Path) -> Path:
    """Inside a folder, or hidden beside a file."""
    if place.suffix in FILE_SUFFIXES:
        return place.with_name(f".{place.name}.{MARKER}")
    return place / MARKER


class Marker(SparseRecord):
    """What a finished thing says of itself."""

    stage: str = ""
    fingerprint: str = ""
    summary: Json | None = None  # of scores
    same_as: str | None = None  # the name of an equal one, whose files these are
    documents: int | None = None  # of those that hold items of the tasks


def mark_done(
    place: Path,
    stage: str,
    fingerprint: str,
    summary: object = None,
    same_as: str | None = None,
    documents: int | None = None,
) -> None:
    """Say that a thing is finished, and which fingerprint it answers to. The last write of all."""
    marker = Marker(
        stage=stage,
        fingerprint=fingerprint,
        summary=plain(summary),
        same_as=same_as,
        documents=documents,
    )
    write_record(marker_path(place), marker)


def read_marker(place: Path) -> Marker | None:
    """What a finished thing says of itself; None when it is not there or not finished."""
    try:
        told = read_json(marker_path(place))
    except (OSError, ValueError):
        return None
    if not isinstance(told, dict) or not place.exists():
        return None
    try:
        return record_of(told, Marker)
    except ValueError:  # another version says more of it; what it answers to is what counts
        return Marker(stage=str(told.get("stage")), fingerprint=str(told.get("fingerprint")))


def is_done(place: Path, wanted: str) -> bool:
    marker = read_marker(place)
    return marker is not None and marker.fingerprint == wanted


def set_aside(folder: Path, wanted: str) -> bool:
    """Make room for work of another fingerprint without losing what is finished.

    Finished content of another fingerprint moves to ``<name>@<fingerprint>``; if the wanted one
    was moved there before, it comes back. Returns whether the wanted content is in place now.
    """
    if is_done(folder, wanted):
        return True
    marker = read_marker(folder)
    if marker is not None:
        _move(folder, _aside(folder, marker.fingerprint))
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
        return (folder / "towards").read_text(encoding="utf-8") == wanted
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
    originals: dict[str, Path] = {}
    copies: dict[str, Path] = {}
    for path in sorted(folder.glob(f"*/{part}/*/{MARKER}")):
        marker = read_marker(path.parent)
        if marker is not None and (path.parents[2] / "run.json").exists():
            kind = originals if marker.same_as is None else copies
            kind.setdefault(marker.fingerprint, path.parent)
    return copies | originals


def link_folder(source: Path, target: Path) -> None:
    """The same files under another name, without a second copy where the disk can do that. Nothing
    is ever written into a finished file, so neither can change the other."""
    with folder_in_the_making(target) as partial:
        for file in sorted(p for p in source.rglob("*") if p.is_file() and p.name != MARKER):
            place = partial / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            link_file(file, place)


def link_file(source: Path, target: Path) -> None:
    """The same file under a new name, or a copy of it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


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


@functools.lru_cache(maxsize=8)
def _pieces(path: Path, written: int, size: int) -> Json:
    """What run.json calls current; a report asks hundreds of times."""
    found: Json = read_json(path).get("pieces", {})
    return found


def is_current(run: RunFolder, place: Path) -> bool:
    """Whether a finished thing belongs to the configuration that the run has now."""
    try:
        told = run.run_json.stat()
        pieces = _pieces(run.run_json, told.st_mtime_ns, told.st_size)
    except (OSError, ValueError):
        return False
    wanted = pieces.get(str(place.relative_to(run.path)))
    return wanted is not None and is_done(place, wanted)
