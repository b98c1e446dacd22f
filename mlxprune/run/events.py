"""The event log of a run: append-only segments, and how to read them.

A process writes its own segments; each begins with a snapshot of the folded state, so a torn tail
is always the end of a file, and a reader needs the newest alone. ``docs/events.md`` has the kinds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import msgspec

from mlxprune.run.event_kinds import EVENTS_VERSION, Event, Snapshot, Unknown, Wire
from mlxprune.run.fold import fold_event
from mlxprune.run.segments import (
    CLOSED,
    OPEN,
    UNREADABLE,
    checked,
    compress_segment,
    log_segments,
    packed,
    read_bytes,
    read_segment,
    segment_bytes,
    segment_number,
    stem_of,
    unpacker,
)
from mlxprune.run.state import RunState
from mlxprune.run.wire import event_of

SEGMENT_BYTES = 4 << 20  # of events, after which a new segment and its snapshot begin
CHUNK_BYTES = 64 << 10  # that a reader takes at a time
SECONDS_BETWEEN = 0.5  # at most two a second of a frequent kind
Listener = Callable[[Event, RunState], None]


class EventLog:
    """The writer of one process. ``listeners`` get every event as it is written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.writer = secrets.token_hex(4)
        self.listeners: list[Listener] = []
        self.state = fold_log(folder)
        self._seq = 0
        self._last: dict[tuple[str | None, type[Event]], float] = {}
        self._fd = -1
        self._open_segment()

    def _open_segment(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        before = log_segments(self.folder)
        number = 1 + max((segment_number(p) for p in before), default=0)
        path = self.folder / f"{number:06d}-{self.writer}{OPEN}"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o644)
        self._bytes = 0
        self._write(Snapshot(state=self.state.as_json()))
        self._bytes = 0  # a large snapshot is no reason for the next segment
        for closed in self.folder.glob(f"*{OPEN}"):
            # Space is what is won: without it, on a full disk, the log is as good.
            with contextlib.suppress(OSError):
                if closed != path:
                    compress_segment(closed)

    def _write(self, event: Event) -> Event:
        self._seq += 1
        record = msgspec.structs.replace(
            event, v=EVENTS_VERSION, seq=self._seq, t=time.time(), writer=self.writer
        )
        data = packed(record.wire())
        append_whole(self._fd, data)
        self._bytes += len(data)
        return record

    def due(self, stage: str | None, kind: type[Event]) -> bool:
        """Whether a frequent kind may be written again."""
        last = self._last.get((stage, kind), 0.0)
        return not kind.frequent or time.monotonic() - last >= SECONDS_BETWEEN

    def emit(self, stage: str | None, event: Event, force: bool = False) -> None:
        """Write one event. A frequent kind that is not due is dropped, unless with ``force``."""
        kind = type(event)
        if not force and not self.due(stage, kind):
            return
        self._last[(stage, kind)] = time.monotonic()
        if self._bytes > SEGMENT_BYTES:
            self._open_segment()
        record = self._write(msgspec.structs.replace(event, stage=stage))
        fold_event(self.state, record)
        for listener in list(self.listeners):
            try:
                listener(record, self.state)
            except OSError:  # its terminal or pipe is gone: losing a reader never touches a run
                self.listeners.remove(listener)

    def close(self) -> None:
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1


def append_whole(fd: int, data: bytes) -> None:
    """All of it or nothing: half a record would hide what is written after it. Raises OSError."""
    before, view = os.fstat(fd).st_size, memoryview(data)
    try:
        while view:
            written = os.write(fd, view)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            view = view[written:]
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, before)
        raise


def log_bytes(folder: Path) -> int:
    """How long a log is, all segments together, uncompressed."""
    return sum(segment_bytes(path) for path in log_segments(folder))


def read_records(folder: Path) -> Iterator[Wire]:
    """Every record but the snapshots, in order, as the log has it."""
    for path in log_segments(folder):
        for record in read_segment(path):
            if record.get("kind") != "snapshot":
                yield record


def last_records(folder: Path, count: int) -> list[Wire]:
    """The last so many, in order; only the segments that hold them are read."""
    found: list[Wire] = []
    for path in reversed(log_segments(folder)):
        if len(found) >= count:
            break
        found = [r for r in read_segment(path) if r.get("kind") != "snapshot"] + found
    return found[-count:] if count else []


def read_events(folder: Path) -> Iterator[Event]:
    """The same as events."""
    return map(event_of, read_records(folder))


def fold_log(folder: Path) -> RunState:
    """The state of a run: the newest readable snapshot and what follows it."""
    paths, state = log_segments(folder), RunState()
    for path in paths[_newest_snapshot(paths) :]:
        for record in read_segment(path):
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                fold_event(state, event_of(record))
    return state


def _newest_snapshot(paths: list[Path]) -> int:
    """The place of the newest segment that begins with a readable one; 0 where none does."""
    for place in range(len(paths) - 1, 0, -1):
        first = next(read_segment(paths[place]), None)
        if first is not None and first.get("kind") == "snapshot":
            return place
    return 0


class EventReader:
    """The state of a run as its log grows: the newest readable snapshot and all that follows it.

    ``read`` works for about the time that it is given, so that who draws between calls stays
    quick; ``behind`` says how many bytes are left. ``trouble`` says what is wrong with the log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._begin()

    def _begin(self) -> None:
        self.state = RunState()
        self.trouble: str | None = None
        self.behind = 0
        self.total = 0
        self._at: dict[str, int] = {}  # by the stem of the segment: bytes that are read
        self._bad: set[str] = set()
        paths = log_segments(self.folder)
        skipped = paths[: _newest_snapshot(paths)]
        self._at = {stem_of(path): segment_bytes(path) for path in skipped}

    def read(self, seconds: float) -> list[Event]:
        """Fold what is new, and return it. A log that shrank is read again from its snapshot."""
        return [event_of(record) for record in self.read_records(seconds)]

    def read_records(self, seconds: float) -> list[Wire]:
        """The same as the log has it."""
        until = time.monotonic() + seconds
        paths = log_segments(self.folder)
        sizes = {stem_of(path): segment_bytes(path) for path in paths}
        if any(sizes.get(stem, 0) < at for stem, at in self._at.items()):
            paths = log_segments(self.folder)  # one may have been compressed in between
            sizes = {stem_of(path): segment_bytes(path) for path in paths}
        if any(sizes.get(stem, 0) < at for stem, at in self._at.items()):
            self._begin()
            self.trouble = "the log was cut short: what is shown was read anew"
            sizes = {stem_of(path): segment_bytes(path) for path in paths}
        new: list[Wire] = []
        for path in paths:
            stem = stem_of(path)
            while self._is_unread(stem, sizes):
                more = self._records(path, sizes[stem])
                new += more
                if not more or time.monotonic() >= until:
                    break
            # A later segment comes after the rest of this one.
            if self._is_unread(stem, sizes) and time.monotonic() >= until:
                break
        self.total = sum(sizes.values())
        self.behind = sum(
            size - self._at.get(stem, 0) for stem, size in sizes.items() if stem not in self._bad
        )
        return new

    def _is_unread(self, stem: str, sizes: dict[str, int]) -> bool:
        return self._at.get(stem, 0) < sizes[stem] and stem not in self._bad

    def to_end(self) -> None:
        """Take in all that there is; a torn tail stays."""
        while self.read_records(1.0):
            pass

    def _records(self, path: Path, size: int) -> list[Wire]:
        """Fold the next whole records of a segment; none when its tail is torn, so far."""
        stem = stem_of(path)
        at, length = self._at.get(stem, 0), CHUNK_BYTES
        if path.name.endswith(CLOSED):  # it is unpacked as a whole, and grows no more
            length = size
        records: list[Wire] = []
        while not records:
            try:
                told = unpacker()
                told.feed(read_bytes(path, at, length))
                for record in told:
                    self._at[stem] = at + told.tell()
                    found = checked(record)
                    if found is None:
                        self.trouble = f"{path.name}: an event is damaged and left out"
                        continue
                    self._fold(event_of(found))
                    records.append(found)
            except FileNotFoundError:  # it was compressed just now: the next look finds it
                break
            except (OSError, *UNREADABLE, msgpack.BufferFull):
                self._bad.add(stem)
                self.trouble = f"{path.name} cannot be read from byte {self._at.get(stem, at)} on"
                break
            if at + length >= size:
                break
            length *= 4  # a record larger than a chunk
        return records

    def _fold(self, event: Event) -> None:
        """An event of another version, or a damaged one, must not end who reads."""
        damaged = isinstance(event, Unknown) and event.damaged
        try:
            fold_event(self.state, event)
        except (TypeError, ValueError, OverflowError):
            damaged = True
        if damaged:
            self.trouble = f"an event cannot be understood: {event.kind}"
