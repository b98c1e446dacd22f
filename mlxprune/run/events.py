"""The event log of a run: append-only msgpack segments, and how to read them.

A process writes its own segments, ``events/<n>-<writer>.msgpack``; each begins with a snapshot of
the folded state, so a torn tail is always the end of a file. ``docs/events.md`` has the kinds.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import msgspec

from mlxprune.run.event_kinds import EVENTS_VERSION, Event, Snapshot, Unknown, Wire, event_of
from mlxprune.run.fold import fold_event
from mlxprune.run.state import RunState

SEGMENT_BYTES = 64 << 20
CHUNK_BYTES = 64 << 10  # that a reader takes at a time
UNREADABLE = (ValueError, TypeError, msgpack.UnpackException)  # TypeError: an odd key of a map
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
        number = 1 + max((segment_number(p) for p in log_segments(self.folder)), default=0)
        path = self.folder / f"{number:06d}-{self.writer}.msgpack"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o644)
        self._bytes = 0
        self._write(Snapshot(state=self.state.as_json()))

    def _write(self, event: Event) -> Event:
        self._seq += 1
        record = msgspec.structs.replace(
            event, v=EVENTS_VERSION, seq=self._seq, t=time.time(), writer=self.writer
        )
        data = msgpack.packb(record.wire())
        os.write(self._fd, data)
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


def log_segments(folder: Path) -> list[Path]:
    """The segments in the order of their numbers."""
    try:
        segments = [p for p in folder.iterdir() if p.suffix == ".msgpack"]
    except OSError:
        return []
    return sorted(segments, key=lambda p: (segment_number(p), p.name))


def log_bytes(folder: Path) -> int:
    """How long a log is, all segments together."""
    return sum(_size(path) for path in log_segments(folder))


def segment_number(path: Path) -> int:
    digits = path.name.partition("-")[0]
    return int(digits) if digits.isdigit() else 0


def read_segment(path: Path) -> Iterator[Wire]:
    """The whole records of a segment; a torn or foreign tail ends it."""
    try:
        with path.open("rb") as file:
            yield from (
                record
                for record in msgpack.Unpacker(file, strict_map_key=False)
                if isinstance(record, dict)
            )
    except (OSError, *UNREADABLE):
        return


def read_records(folder: Path) -> Iterator[Wire]:
    """Every record but the snapshots, in order, as the log has it."""
    for path in log_segments(folder):
        for record in read_segment(path):
            if record.get("kind") != "snapshot":
                yield record


def read_events(folder: Path) -> Iterator[Event]:
    """The same as events."""
    return map(event_of, read_records(folder))


def fold_log(folder: Path) -> RunState:
    """The state of a run: the newest readable snapshot and what follows it."""
    for path in reversed(log_segments(folder)):
        records = read_segment(path)
        first = next(records, None)
        if first is None or first.get("kind") != "snapshot":
            continue
        state = fold_event(RunState(), event_of(first))
        for record in records:
            fold_event(state, event_of(record))
        return state
    return RunState()


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
        self._at: dict[Path, int] = {}
        self._bad: set[Path] = set()
        paths = log_segments(self.folder)
        for index in range(len(paths) - 1, -1, -1):
            first = next(read_segment(paths[index]), None)
            if first is not None and first.get("kind") == "snapshot":
                self._at = {path: _size(path) for path in paths[:index]}
                break

    def read(self, seconds: float) -> list[Event]:
        """Fold what is new, and return it. A log that shrank is read again from its snapshot."""
        return [event_of(record) for record in self.read_records(seconds)]

    def read_records(self, seconds: float) -> list[Wire]:
        """The same as the log has it."""
        until = time.monotonic() + seconds
        paths = log_segments(self.folder)
        sizes = {path: _size(path) for path in paths}
        if any(sizes.get(path, 0) < at for path, at in self._at.items()):
            self._begin()
            self.trouble = "the log was cut short: what is shown was read anew"
            sizes = {path: _size(path) for path in paths}
        new: list[Wire] = []
        for path in paths:
            while self._at.get(path, 0) < sizes[path] and path not in self._bad:
                more = self._records(path, sizes[path])
                new += more
                if not more or time.monotonic() >= until:
                    break
            unread = self._at.get(path, 0) < sizes[path] and path not in self._bad
            if unread and time.monotonic() >= until:  # a later segment comes after the rest of this
                break
        self.total = sum(sizes.values())
        self.behind = sum(sizes[p] - self._at.get(p, 0) for p in paths if p not in self._bad)
        return new

    def to_end(self) -> None:
        """Take in all that there is; a torn tail stays."""
        while self.read_records(1.0):
            pass

    def _records(self, path: Path, size: int) -> list[Wire]:
        """Fold the next whole records of a segment; none when its tail is torn, so far."""
        at, length = self._at.get(path, 0), CHUNK_BYTES
        records: list[Wire] = []
        while not records:
            try:
                with path.open("rb") as file:
                    file.seek(at)
                    unpacker = msgpack.Unpacker(strict_map_key=False)
                    unpacker.feed(file.read(length))
                for record in unpacker:
                    self._at[path] = at + unpacker.tell()
                    if isinstance(record, dict):
                        self._fold(event_of(record))
                        records.append(record)
            except (OSError, *UNREADABLE):
                self._bad.add(path)
                self.trouble = f"{path.name} cannot be read from byte {self._at.get(path, at)} on"
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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
