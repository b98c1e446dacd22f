"""Following: the records of a log as they come, until the run that writes them has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator

from mlxprune.run import lock
from mlxprune.run.event_kinds import Wire
from mlxprune.run.events import EventReader
from mlxprune.run.folder import RunFolder

POLL_SECONDS = 0.25


def at_end(run: RunFolder) -> EventReader:
    """A reader of the log that has seen all that there is now."""
    reader = EventReader(run.events)
    reader.to_end()
    return reader


def new_records(run: RunFolder, reader: EventReader) -> Iterator[list[Wire]]:
    """What is written behind the ``reader``, some records at a time, none where nothing has come;
    ends with the run, or at once where nobody works on it."""
    while True:
        records = [r for r in reader.read_records(1.0) if r.get("kind") != "snapshot"]
        yield records
        if any(record.get("kind") == "run.end" for record in records):
            return
        holder = lock.owner(run)
        if holder is None or holder.alive() is False:
            return
        time.sleep(POLL_SECONDS)
