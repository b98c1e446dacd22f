"""Supervision: work that a device or the system ends is begun again in a fresh process, lighter
where that may help, and given up where it gets nowhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from mlxprune.errors import one_line
from mlxprune.execution.children import ChildEnded
from mlxprune.execution.endings import Ending, device_error
from mlxprune.run.event_kinds import Restarted, Warned

T = TypeVar("T")
ATTEMPTS = 3  # in a row without progress
LIGHTER_MAY_HELP = (Ending.MEMORY, Ending.INTERACTIVITY, Ending.TIMEOUT, Ending.DIED)


def supervised(
    log: Any,
    stage: str,
    what: str,
    attempt: Callable[[], T],
    progress: Callable[[], object],
    lighter: Callable[[], str | None],
) -> T:
    """The result of ``attempt``, which is made again when it raises ChildEnded.

    ``progress`` is any value that changes when something more is safe; ``lighter`` makes the next
    attempt hold less at a time and says how, or None where it cannot. Raises DeviceError after
    ATTEMPTS without progress.
    """
    failures, count, before = 0, 0, progress()
    while True:
        try:
            return attempt()
        except ChildEnded as ended:
            now = progress()
            failures = failures + 1 if now == before else 1
            before = now
            count += 1
            if failures >= ATTEMPTS:
                raise device_error(ended.ending, ended.said, stage, failures) from None
            shape = lighter() if ended.ending in LIGHTER_MAY_HELP else None
            said = one_line(ended.said)[:200]
            restarted = Restarted(
                what=what, ending=ended.ending, said=said, count=count, shape=shape
            )
            log.emit(stage, restarted)
            then = f", now with {shape}" if shape else ""
            message = f"{what}: {ended.ending}; begun again in a fresh process{then} ({count})"
            log.emit(stage, Warned(message=message))
