"""Progress: functions that work calls between batches, and that report it as events."""

from __future__ import annotations

import time
from collections.abc import Callable

from mlxprune.execution.context import Execution
from mlxprune.run.event_kinds import Progress


def stage_progress(
    execution: Execution,
    stage: str,
    unit: str,
    what: str | None = None,
    obeys: bool = True,
    before: int = 0,
) -> Callable[[int, int], None]:
    """A function of (done, total) that reports, with what is left at the rate so far. It ``obeys``
    the control, too, unless the work is a child's: whoever waits for that obeys and holds it.
    What was done ``before`` is in ``done`` and not in the rate."""
    began = time.monotonic()

    def report(done: int, total: int) -> None:
        if obeys:
            execution.control.check()
        elapsed = time.monotonic() - began
        rate = (done - before) / elapsed if elapsed > 0 else 0.0
        left = (total - done) / rate if rate else None
        event = Progress(done=done, total=total, unit=unit, what=what, rate=rate, eta_seconds=left)
        execution.log.emit(stage, event)

    return report


def adding_progress(report: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """A function of what has been done since the last call, in place of (done, total)."""
    done = 0

    def more(amount: int) -> None:
        nonlocal done
        done = min(total, done + amount)
        report(done, total)

    return more


def progress_between(
    report: Callable[[int, int], None], before: int, total: int
) -> Callable[[int, int, float], None]:
    """Progress of a piece of ``total``, ``before`` which so much was done, called between
    batches."""
    done = before

    def between(scored: int, slots: int, waited: float) -> None:
        nonlocal done
        done += scored
        report(done, total)

    return between
