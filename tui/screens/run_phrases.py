"""Phrases on a run that several screens use: its end, its pauses, its events."""

from __future__ import annotations

import time

from mlxprune.run.event_kinds import Paused
from mlxprune.run.status import Standing
from mlxprune.units import ago, clock
from mlxprune_tui.readers import run_view

STATE_STYLE = {
    "running": "good", "done": "good", "reused": "good", "failed": "bad", "crashed": "bad",
    "stopped": "warn", "paused": "warn", "slow": "warn", "stale": "warn", "elsewhere": "warn",
}  # fmt: skip


# Runs that a person may go on with.
ENDED_EARLY = (Standing.CRASHED, Standing.STOPPED, Standing.FAILED, Standing.UNKNOWN)


def finish_words(view: run_view.View) -> tuple[str, str]:
    """When a run is expected to end, with its range, and the style of that."""
    state = view.state
    if view.standing == "paused":
        since = paused_since(view)
        told = f"{ago(view.now() - since)} ago" if since is not None else ""
        return f"paused {told}: R lets it go on", "warn"
    if not view.live:
        ended = state.updated
        if ended is None:
            return "-", ""
        return time.strftime("ended %a %d %b, %H:%M", time.localtime(ended)), ""
    left = view.finish()
    if left.likely is None or left.early is None or left.late is None:
        return "not known yet: too little has run to tell the pace", "dim"
    now = view.now()
    if left.likely < 90:
        return f"in about {left.likely:.0f} s ({left.early:.0f} to {left.late:.0f} s)", "bold"
    form = "%H:%M" if left.late < 20 * 3600 else "%a %H:%M"
    at = [time.strftime(form, time.localtime(now + s)) for s in (left.early, left.likely,
                                                                 left.late)]  # fmt: skip
    return f"{at[1]}, between {at[0]} and {at[2]} ({clock(left.likely)} left)", "bold"


def paused_since(view: run_view.View) -> float | None:
    """When a paused run was paused."""
    told = [event.t for event in view.state.recent if isinstance(event, Paused)]
    return told[-1] if told else None
