"""Status: how a run stands, by its state and by the process that its lock names."""

from __future__ import annotations

from typing import Any

from mlxprune.run import lock
from mlxprune.run.folder import RunFolder

SLOW_SECONDS, STALE_SECONDS = 30.0, 180.0  # without a word, heartbeats being ten seconds apart


def standing_of(run: RunFolder, state: dict[str, Any], now: float) -> str:
    """How a run stands: its state, but what should be at work is looked after.

    crashed: the process that its lock names is dead; unknown: no process holds it, and the log does
    not say how it ended (it is damaged, or a copy of one that ran); elsewhere: it ran on another
    host, which nobody here can know; slow, stale: alive, and without a word for long.
    """
    told = str(state["state"])
    if told not in ("running", "paused"):
        return told
    holder = lock.owner(run)
    if holder is None:
        return "unknown"
    alive = holder.alive()
    if alive is None:
        return "elsewhere"
    if alive is False:
        return "crashed"
    silent = now - (state["updated"] or now)
    if silent > STALE_SECONDS:
        return "stale"
    return "slow" if silent > SLOW_SECONDS and told == "running" else told
