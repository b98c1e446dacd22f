"""Track: follow the log of a run from outside, and tell a tracker what is new in it.

What has been told stands in a file beside the tracker's, so that a second time tells no point
twice. A run is never touched: nothing is written into what it writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from mlxprune.config.loading import load_config
from mlxprune.errors import UsageError, closest, one_line
from mlxprune.records import Json, Record, read_record, write_record
from mlxprune.run.events import EventReader, read_records
from mlxprune.run.folder import RunFolder
from mlxprune.run.following import at_end, new_records
from mlxprune.run.wire import event_of
from mlxprune.tracking.points import Point, PointMaker
from mlxprune.tracking.trackers import KINDS, Tracker, open_tracker

FILE = "told.json"
SECONDS = 5.0  # between two writes while a run works


class Told(Record):
    """told.json: the last step of every series and group of figures."""

    last: dict[str, int] = msgspec.field(default_factory=dict)


class TrackResult(Record):
    """What ``mlxprune track --json`` prints: points that were told now, by series."""

    folder: str
    points: dict[str, int]


def track_run(
    run: RunFolder,
    to: str,
    out: Path | None = None,
    project: str = "mlxprune",
    offline: bool = False,
    follow: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> TrackResult:
    """Tell the tracker ``to`` all that the log of a run holds and has not been told; with
    ``follow`` also what comes until the run ends. Raises UsageError: no such tracker, or one that
    is not installed."""
    if to not in KINDS:
        raise UsageError(f"unknown tracker {one_line(to)!r}", "--to", closest(to, KINDS))
    folder = (out or run.path / "tracking" / to).absolute()
    path = folder / FILE
    try:
        told = read_record(path, Told) if path.exists() else Told()
    except (OSError, ValueError) as error:
        fix = "remove the folder: all points are then told anew"
        raise UsageError(f"it cannot be read: {one_line(error)}", str(path), fix) from None
    config = load_config(run.config)
    settings: Json = config.model_dump(mode="json")
    tracker = open_tracker(to, folder, config.name, project, settings, offline)
    feed = _Feed(tracker, told, path)
    reader = at_end(run)  # what comes while the rest is read comes twice, and is told once
    try:
        for record in read_records(run.events):
            feed.add(record)
        feed.flush()
        say(f"{sum(feed.counts.values()):,} points told")
        if follow:
            _follow(run, reader, feed)
    finally:
        feed.flush()
        tracker.close()
    return TrackResult(folder=str(folder), points=dict(sorted(feed.counts.items())))


class _Feed:
    """Points that wait, and how many were told."""

    def __init__(self, tracker: Tracker, told: Told, path: Path) -> None:
        self.tracker, self.told, self.path = tracker, told, path
        self.maker = PointMaker(told.last)
        self.waiting: dict[str, list[Point]] = {}
        self.counts: dict[str, int] = {}

    def add(self, record: Json) -> None:
        point = self.maker.of(event_of(record))
        if point is not None:
            self.waiting.setdefault(point.series, []).append(point)

    def flush(self) -> None:
        for series, points in self.waiting.items():
            self.tracker.write(series, points)
            self.counts[series] = self.counts.get(series, 0) + len(points)
        if self.waiting:
            self.tracker.flush()
            write_record(self.path, self.told)
        self.waiting.clear()


def _follow(run: RunFolder, reader: EventReader, feed: _Feed) -> None:
    written = time.monotonic()
    for records in new_records(run, reader):
        for record in records:
            feed.add(record)
        if time.monotonic() - written >= SECONDS:
            feed.flush()
            written = time.monotonic()
