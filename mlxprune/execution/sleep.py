"""Sleep: how long the machine was asleep while a run was at work, and what keeps it awake."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CAFFEINATE = Path("/usr/bin/caffeinate")
LEAST_SECONDS = 5.0  # what clocks differ by otherwise is far less
KEPT_AWAKE = (
    "the Mac is kept awake while this runs (caffeinate); with its lid closed it sleeps anyway"
)


def clock_through_sleep() -> float:
    """Seconds that go on while the machine sleeps: ``time.monotonic`` stands still then."""
    through = getattr(time, "CLOCK_BOOTTIME", None)  # Linux
    return time.clock_gettime(time.CLOCK_MONOTONIC if through is None else through)


class SleepWatch:
    """Compares a clock that stops in sleep with one that does not."""

    def __init__(
        self,
        awake: Callable[[], float] = time.monotonic,
        through: Callable[[], float] = clock_through_sleep,
    ) -> None:
        self.awake, self.through = awake, through
        self.apart = through() - awake()

    def slept(self) -> float:
        """Seconds asleep since the last time that this was more than nothing; 0 for less than
        LEAST_SECONDS."""
        apart = self.through() - self.awake()
        if apart - self.apart < LEAST_SECONDS:
            return 0.0
        seconds, self.apart = apart - self.apart, apart
        return seconds


@contextlib.contextmanager
def kept_awake(wanted: bool = True, caffeinate: Path = CAFFEINATE) -> Iterator[bool]:
    """Whether a Mac is kept from sleeping by itself until the end of the context, or of this
    process. It needs no rights."""
    if not wanted or not caffeinate.exists():  # macOS alone has it there
        yield False
        return
    keeper = subprocess.Popen(
        [str(caffeinate), "-i", "-w", str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield True
    finally:
        keeper.terminate()
        keeper.wait(timeout=10)
