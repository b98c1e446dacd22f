"""The event log of a run: append-only msgpack segments, and how to read them.

A process writes its own segments, ``events/<n>-<writer>.msgpack``; each begins with a snapshot of
the folded state, so a torn tail is always the end of a file. ``docs/events.md`` has the kinds.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

from mlxprune.run.state import STATE_VERSION, State, fold_event, initial_state

EVENTS_VERSION = STATE_VERSION
SEGMENT_BYTES = 64 << 20
CHUNK_BYTES = 64 << 10  # that a reader takes at a time
UNREADABLE = (ValueError, TypeError, msgpack.UnpackException)  # TypeError: an odd key of a map
SECONDS_BETWEEN = 0.5  # at most two a second of a frequent kind
# Every kind, and what its fields mean beyond the envelope {v, seq, t, writer, stage, kind}.
KINDS: dict[str, str] = {
    "snapshot": "state: the folded state up to here; first record of a segment",
    "run.start": (
        "run, folder, device, config, versions, pid, disk_bytes (about what the whole run takes)"
    ),
    "stage.start": "why: why the stage runs (missing, or what made it out of date)",
    "progress": (
        "done, total, unit, what, rate (units a second), eta_seconds; of scoring also "
        "padding_share (of token slots), input_wait_share (of the time), utilisation (model FLOPs "
        "over those of the measured matrix product), peak_memory_bytes (of a process)"
    ),
    "forecast": "flops: by stage, of all that the run trains, scores and evaluates",
    "histogram": (
        "edges (mean negative log-likelihood, nats); by bin documents, tokens, bytes; domains "
        "{name: documents by bin, and the sums nll, tokens, bytes}, the largest"
    ),
    "train.step": (
        "model, step, targets, model_targets, new_targets, done and total (of all trainings of the "
        "stage), pass, loss (nats, mean since the last event), "
        "learning_rate, gradient_norm, rate (targets a second), eta_seconds, peak_memory_bytes, "
        "utilisation, input_wait_share"
    ),
    "evaluation": (
        "model, targets, bits_per_byte on the validation part, rank_correlation of its documents "
        "with the evaluation before"
    ),
    "assessed": (
        "model; macro and original_mix (bits per byte of the test part), target (of the target "
        "text), gold_bpb (of the right answers), accuracy (normalised, average or own), categories "
        "{name: normalised accuracy}"
    ),
    "checkpoint": "model, step",
    "command": "verb: the command that was taken",
    "paused": "",
    "resumed": "",
    "device": (
        "memory_bytes: resident size of the process and its children; of the machine memory_used, "
        "memory_total, swap_used, cpu_share, disk_free, disk_total (of the run folder); "
        "power (plugged, or battery), battery (share), heat (degrees Celsius); null: not known"
    ),
    "heartbeat": "",
    "warning": "message",
    "stage.end": "state (done, reused, failed, stopped), seconds, why, summary",
    "run.end": "status (done, failed, stopped), error {problem, where, fix}, result",
}
FREQUENT = ("progress", "histogram", "train.step", "device", "heartbeat")


class EventLog:
    """The writer of one process. ``listeners`` get every event as it is written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.writer = secrets.token_hex(4)
        self.listeners: list[Any] = []
        self.state = fold_log(folder)
        self._seq = 0
        self._last: dict[tuple[str, str], float] = {}
        self._fd = -1
        self._open_segment()

    def _open_segment(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        number = 1 + max((segment_number(p) for p in log_segments(self.folder)), default=0)
        path = self.folder / f"{number:06d}-{self.writer}.msgpack"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o644)
        self._bytes = 0
        self._write({"kind": "snapshot", "stage": None, "state": self.state})

    def _write(self, event: dict[str, Any]) -> dict[str, Any]:
        self._seq += 1
        record = {
            "v": EVENTS_VERSION,
            "seq": self._seq,
            "t": time.time(),
            "writer": self.writer,
            **event,
        }
        data = msgpack.packb(record)
        os.write(self._fd, data)
        self._bytes += len(data)
        return record

    def due(self, stage: str | None, kind: str) -> bool:
        """Whether a frequent kind may be written again."""
        last = self._last.get((str(stage), kind), 0.0)
        return kind not in FREQUENT or time.monotonic() - last >= SECONDS_BETWEEN

    def emit(self, stage: str | None, kind: str, **fields: Any) -> None:
        """Write one event. A frequent kind that is not due is dropped; ``force=True`` writes it."""
        assert kind in KINDS, kind
        force = fields.pop("force", False)
        if not force and not self.due(stage, kind):
            return
        self._last[(str(stage), kind)] = time.monotonic()
        if self._bytes > SEGMENT_BYTES:
            self._open_segment()
        record = self._write({"stage": stage, "kind": kind, **fields})
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
        found = [p for p in folder.iterdir() if p.suffix == ".msgpack"]
    except OSError:
        return []
    return sorted(found, key=lambda p: (segment_number(p), p.name))


def log_bytes(folder: Path) -> int:
    """How long a log is, all segments together."""
    return sum(_size(path) for path in log_segments(folder))


def segment_number(path: Path) -> int:
    digits = path.name.partition("-")[0]
    return int(digits) if digits.isdigit() else 0


def read_segment(path: Path) -> Iterator[dict[str, Any]]:
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


def read_events(folder: Path) -> Iterator[dict[str, Any]]:
    """Every event but the snapshots, in order."""
    for path in log_segments(folder):
        for record in read_segment(path):
            if record.get("kind") != "snapshot":
                yield record


def fold_log(folder: Path) -> State:
    """The state of a run: the newest readable snapshot and what follows it."""
    for path in reversed(log_segments(folder)):
        records = read_segment(path)
        first = next(records, None)
        if first is None or first.get("kind") != "snapshot":
            continue
        state = fold_event(initial_state(), first)
        for record in records:
            fold_event(state, record)
        return state
    return initial_state()


class EventReader:
    """The state of a run as its log grows: the newest readable snapshot and all that follows it.

    ``read`` works for about the time that it is given, so that who draws between calls stays
    quick; ``behind`` says how many bytes are left. ``trouble`` says what is wrong with the log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._begin()

    def _begin(self) -> None:
        self.state = initial_state()
        self.trouble: str | None = None
        self.behind = 0
        self.total = 0
        self._at: dict[Path, int] = {}
        self._bad: set[Path] = set()
        found = log_segments(self.folder)
        for index in range(len(found) - 1, -1, -1):
            first = next(read_segment(found[index]), None)
            if first is not None and first.get("kind") == "snapshot":
                self._at = {path: _size(path) for path in found[:index]}
                break

    def read(self, seconds: float) -> list[dict[str, Any]]:
        """Fold what is new, and return it. A log that shrank is read again from its snapshot."""
        until = time.monotonic() + seconds
        found = log_segments(self.folder)
        sizes = {path: _size(path) for path in found}
        if any(sizes.get(path, 0) < at for path, at in self._at.items()):
            self._begin()
            self.trouble = "the log was cut short: what is shown was read anew"
            sizes = {path: _size(path) for path in found}
        new: list[dict[str, Any]] = []
        for path in found:
            while self._at.get(path, 0) < sizes[path] and path not in self._bad:
                more = self._records(path, sizes[path])
                new += more
                if not more or time.monotonic() >= until:
                    break
            unread = self._at.get(path, 0) < sizes[path] and path not in self._bad
            if unread and time.monotonic() >= until:  # a later segment comes after the rest of this
                break
        self.total = sum(sizes.values())
        self.behind = sum(sizes[p] - self._at.get(p, 0) for p in found if p not in self._bad)
        return new

    def to_end(self) -> None:
        """Take in all that there is; a torn tail stays."""
        while self.read(1.0):
            pass

    def _records(self, path: Path, size: int) -> list[dict[str, Any]]:
        """Fold the next whole records of a segment; none when its tail is torn, so far."""
        at, length = self._at.get(path, 0), CHUNK_BYTES
        records: list[dict[str, Any]] = []
        while not records:
            try:
                with path.open("rb") as file:
                    file.seek(at)
                    unpacker = msgpack.Unpacker(strict_map_key=False)
                    unpacker.feed(file.read(length))
                for record in unpacker:
                    self._at[path] = at + unpacker.tell()
                    if isinstance(record, dict):
                        self._fold(record)
                        records.append(record)
            except (OSError, *UNREADABLE):
                self._bad.add(path)
                self.trouble = f"{path.name} cannot be read from byte {self._at.get(path, at)} on"
                break
            if at + length >= size:
                break
            length *= 4  # a record larger than a chunk
        return records

    def _fold(self, record: dict[str, Any]) -> None:
        """An event of another version, or a damaged one, must not end who reads."""
        try:
            fold_event(self.state, record)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError, IndexError):
            self.trouble = f"an event cannot be understood: {record.get('kind')}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
