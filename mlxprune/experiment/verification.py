"""Verification: every byte of a run folder held against its checksum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlxprune.checksums import WHOLE, Share, read_sealed, read_sealed_array
from mlxprune.experiment.arms import keys_identity
from mlxprune.experiment.records import read_arms
from mlxprune.files import PARTIAL, read_array
from mlxprune.records import Record
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import (
    CHECKPOINTS,
    damaged_files,
    marked_places,
    marker_files,
    marker_path,
    read_marker,
)
from mlxprune.run.segments import CLOSED, OPEN, damaged_records
from mlxprune.scoring.units import JOINED
from mlxprune.training.checkpoints import STATE, finished_checkpoints, state_of_checkpoint

SEALED = (
    "run.json", "arms.json", "test-reads.json", ".test-reads.json", "rollbacks.json",
    "report.json", "device.json",
)  # fmt: skip
PARTS = ".parts"  # the end of the names of folders whose arrays hold their own checksums


class DamagedFile(Record):
    """A file of a run that is not what it was, and what a start makes of that."""

    file: str
    then: str


class Verified(Record):
    """What ``verify`` found. ``without``: files that have no checksum, since they are written anew
    by every start, or are of before there were checksums."""

    run: str
    ok: bool
    share: str  # of the pieces of 64 MiB of every file that were read: 1/1 is all
    files: int  # that have a checksum
    bytes: int
    damaged: list[DamagedFile]
    without: list[str]


@dataclass
class _Look:
    """What has been seen so far."""

    run: RunFolder
    share: Share
    said: Callable[[int, int], None]
    total: int = 0
    done: int = 0
    seen: set[Path] = field(default_factory=set)
    damaged: dict[Path, str] = field(default_factory=dict)

    def note(self, files: Iterator[Path] | list[Path], damaged: list[Path], then: str) -> None:
        for path in files:
            if path not in self.seen:
                self.seen.add(path)
                self.done += _size(path)
        for path in damaged:
            self.damaged.setdefault(path, then)
        self.said(self.done, self.total)


def verify_run(
    run: RunFolder, share: Share = WHOLE, said: Callable[[int, int], None] = lambda done, of: None
) -> Verified:
    """Read the ``share`` of every file that has a checksum; ``said`` gets bytes done and in all."""
    files = [p for p in run.path.rglob("*") if p.is_file() and not p.is_symlink()]
    look = _Look(run, share, said, sum(map(_size, files)))
    for place in marked_places(run.path):
        _verify_marked(look, place)
    for folder in sorted({p.parent for p in run.path.rglob(CHECKPOINTS)}):
        for checkpoint in finished_checkpoints(folder):
            is_damaged = state_of_checkpoint(checkpoint) is None
            held = [p for p in checkpoint.iterdir() if p.is_file()]
            done = read_marker(folder) is not None
            then = "nothing needs it: remove it" if done else "the one before it is used"
            look.note(held, [checkpoint / STATE] if is_damaged else [], then)
    _verify_sealed(look, files)
    _verify_arm_documents(look)
    for path in sorted(p for p in run.events.glob("*") if p.name.endswith((OPEN, CLOSED))):
        bad = damaged_records(path) > 0
        look.note([path], [path] if bad else [], "what is damaged in it is left out")
    base = run.path
    without = sorted(p.relative_to(base).as_posix() for p in files if p not in look.seen)
    return Verified(
        run=str(base),
        ok=not look.damaged,
        share=f"{share.part}/{share.parts}",
        files=len(look.seen),
        bytes=sum(map(_size, look.seen)),
        damaged=[
            DamagedFile(file=path.relative_to(base).as_posix(), then=then)
            for path, then in sorted(look.damaged.items())
        ],
        without=without,
    )


def _verify_marked(look: _Look, place: Path) -> None:
    again = "the next start makes it again"
    if read_marker(place) is None:
        look.note([marker_path(place)], [marker_path(place)] if place.exists() else [], again)
        return
    damaged = damaged_files(place, look.share, again=True)
    look.note([marker_path(place), *marker_files(place)], damaged, again)


def _verify_sealed(look: _Look, files: list[Path]) -> None:
    for path in files:
        if path in look.seen or path.name.endswith(PARTIAL):
            continue
        is_array = path.suffix == ".npy" and path.parent.name.endswith(PARTS)
        spare = is_array and path.name in JOINED
        if path.name not in SEALED and not is_array:
            continue
        try:
            if is_array:
                read_sealed_array(path)
            else:
                read_sealed(path)
        except (OSError, ValueError):
            then = "nothing needs it: remove it" if spare else "the next start makes it again"
            look.note([path], [path], then)
        else:
            look.note([path], [], "")


def _verify_arm_documents(look: _Look) -> None:
    """Against what arms.json says of them."""
    try:
        records = read_arms(look.run).arms
    except Exception:  # it is named already
        return
    for name, record in records.items():
        path = look.run.arm_documents(name)
        if record.documents_sum is None or not path.exists():
            continue
        try:
            same = keys_identity(read_array(path)) == record.documents_sum
        except (OSError, ValueError):
            same = False
        look.note([path], [] if same else [path], "the next start writes it anew")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
