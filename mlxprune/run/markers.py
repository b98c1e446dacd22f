"""Markers: what says that a piece of work is finished, and which fingerprint it answers to.

Everything is written to a temporary name, flushed and renamed; a folder's ``stage.json`` comes last
and says which fingerprint its content answers to, and the checksum of every file in it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from pathlib import Path

import msgspec

from mlxprune.checksums import (
    WHOLE,
    FileSum,
    Share,
    is_whole,
    read_sealed,
    sums_of,
    write_sealed,
)
from mlxprune.errors import DataError
from mlxprune.files import PARTIAL, folder_in_the_making, write_atomic
from mlxprune.records import Json, SparseRecord, plain, record_of
from mlxprune.run.folder import RunFolder, known_of

MARKER = "stage.json"
TOWARDS = "towards"  # which fingerprint the unfinished work in a folder is for
FILE_SUFFIXES = (".parquet", ".json", ".html")  # a place so named is a file, any other a folder
# What of a finished folder has no checksum: what a later start or a person may write anew, and
# checkpoints, which have their own.
CHANGING = (
    MARKER,
    TOWARDS,
    f".{TOWARDS}",
    "sources.json",
    "shapes.json",
    "rollbacks.json",
    "README.md",
)
CHECKPOINTS = "checkpoints"


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
    files: dict[str, FileSum] | None = None  # by name; None: of before there were checksums


def mark_done(
    place: Path,
    stage: str,
    fingerprint: str,
    summary: object = None,
    same_as: str | None = None,
    documents: int | None = None,
    besides: tuple[Path, ...] = (),
) -> None:
    """Say that a thing is finished, which fingerprint it answers to, and what its bytes are, with
    those of files ``besides`` it. The last write of all."""
    marker = Marker(
        files=sums_of([*kept_files(place), *besides], _base(place)),
        stage=stage,
        fingerprint=fingerprint,
        summary=plain(summary),
        same_as=same_as,
        documents=documents,
    )
    write_sealed(marker_path(place), marker)


def _base(place: Path) -> Path:
    """The folder in which the names of a marker's files are."""
    return place.parent if place.suffix in FILE_SUFFIXES else place


def kept_files(place: Path) -> list[Path]:
    """What has a checksum of a finished thing."""
    if place.suffix in FILE_SUFFIXES:
        return [place]
    found = (p for p in place.rglob("*") if p.is_file() and not p.name.endswith(PARTIAL))
    return [
        p for p in found if p.name not in CHANGING and p.relative_to(place).parts[0] != CHECKPOINTS
    ]


def marked_places(folder: Path) -> list[Path]:
    """Every thing under a folder that has a marker, readable or not."""
    found = []
    for path in sorted(folder.rglob(f"*{MARKER}")):
        hidden = path.name.startswith(".") and path.name != MARKER
        found.append(
            path.with_name(path.name[1:].removesuffix(f".{MARKER}")) if hidden else path.parent
        )
    return found


def marker_files(place: Path) -> list[Path]:
    """The files of a finished thing that have a checksum in its marker."""
    marker = read_marker(place)
    names = (marker.files or {}) if marker is not None else {}
    return [_file_of(place, name) for name in names]


def _file_of(place: Path, name: str) -> Path:
    """A file that is set aside has another name than its own marker knows."""
    alone = place.suffix in FILE_SUFFIXES and "@" in place.name
    return place if alone and name == _unparked(place.name) else _base(place) / name


def damaged_files(
    place: Path, share: Share = WHOLE, again: bool = False, most_bytes: int | None = None
) -> list[Path]:
    """The files of a finished thing that are missing, or whose bytes are not those that they were;
    with ``most_bytes`` of those that are no larger."""
    marker = read_marker(place)
    if marker is None or marker.files is None:
        return []
    found = []
    for name, wanted in marker.files.items():
        path = _file_of(place, name)
        if most_bytes is not None and wanted.size > most_bytes:
            continue
        if not is_whole(path, wanted, share, again):
            found.append(path)
    return found


def _unparked(name: str) -> str:
    stem, _, rest = name.rpartition("@")
    return stem + Path(rest).suffix


SMALL_BYTES = 1 << 20


def refuse_damaged(run: RunFolder, place: Path, most_bytes: int | None = None) -> None:
    """Raises DataError where a finished thing is damaged, for whoever only reads."""
    damaged = damaged_files(place, most_bytes=most_bytes)
    if not damaged or not all(path in damaged_files(place) for path in damaged):
        return  # the second look: a run may have set it aside in between
    fix = f"mlxprune run {run.config} --dir {run.path} makes it again"
    raise DataError("the file is damaged: its checksum differs", str(damaged[0]), fix)


def refuse_damaged_records(run: RunFolder) -> None:
    """The same of all small files that are current: figures, manifests, histories."""
    for name in known_of(run).get("pieces") or {}:
        place = run.path / str(name)
        if is_current(run, place):
            refuse_damaged(run, place, SMALL_BYTES)


def discard(place: Path, damaged: list[Path]) -> None:
    """Call a thing with damaged files unfinished. What its work can go on from stays."""
    for path in damaged:
        path.unlink(missing_ok=True)
    marker = read_marker(place)
    if marker is not None and _belongs(place, marker.fingerprint):
        marker_path(place).unlink(missing_ok=True)
    else:
        forget(place)


def read_marker(place: Path) -> Marker | None:
    """What a finished thing says of itself; None when it is not there or not finished."""
    try:
        told = read_sealed(marker_path(place))
    except (OSError, ValueError):
        return None
    if not place.exists():
        return None
    try:
        return record_of(told, Marker)
    except ValueError:  # another version says more of it; what it answers to is what counts
        return Marker(stage=str(told.get("stage")), fingerprint=str(told.get("fingerprint")))


def marker_identity(place: Path) -> Json:
    """What a finished thing says of itself, without its bytes: for the fingerprint of what rests
    on it."""
    marker = read_marker(place) or Marker()
    return plain(msgspec.structs.replace(marker, files=None))  # type: ignore[no-any-return]


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
    """By either of two copies: one damaged byte must not cost a training."""
    for name in (TOWARDS, f".{TOWARDS}"):
        with contextlib.suppress(OSError, ValueError):
            if (folder / name).read_text(encoding="utf-8") == wanted:
                return True
    return False


def claim(folder: Path, wanted: str) -> None:
    """Note which fingerprint the unfinished work in a folder is for."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (TOWARDS, f".{TOWARDS}"):
        try:
            same = (folder / name).read_text(encoding="utf-8") == wanted
        except (OSError, ValueError):
            same = False
        if not same:
            write_atomic(folder / name, wanted)


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
    found = read_sealed(path).get("pieces")
    return found if isinstance(found, dict) else {}


def is_current(run: RunFolder, place: Path) -> bool:
    """Whether a finished thing belongs to the configuration that the run has now."""
    try:
        told = run.run_json.stat()
        pieces = _pieces(run.run_json, told.st_mtime_ns, told.st_size)
    except (OSError, ValueError):
        return False
    wanted = pieces.get(str(place.relative_to(run.path)))
    return wanted is not None and is_done(place, wanted)
