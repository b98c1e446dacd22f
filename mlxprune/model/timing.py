"""Timing: how long a piece of work takes on a device that has to get up to its clock first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def median_seconds(work: Callable[[], Any], least: float) -> float:
    """The median of the second half of about ``least`` seconds of repeats after a warm-up."""
    work()
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < 4 or time.perf_counter() - began < least:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    late = sorted(taken[len(taken) // 2 :])
    return late[len(late) // 2]


def part_and_update(once: float, twice: float) -> tuple[float, float]:
    """Seconds of one micro-batch and of one update, from those of steps of one part and of two: a
    step is its parts and one update."""
    part = max(twice - once, 0.3 * once)
    return part, max(0.0, once - part)
