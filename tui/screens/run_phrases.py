"""Phrases on a run that several screens use: its end, its pauses, its events."""

from __future__ import annotations

import time
from typing import Any

from mlxprune_tui.drawing.text import ago, clock, line_of
from mlxprune_tui.readers import run_view

STATE_STYLE = {
    "running": "good", "done": "good", "reused": "good", "failed": "bad", "crashed": "bad",
    "stopped": "warn", "paused": "warn", "slow": "warn", "stale": "warn", "elsewhere": "warn",
}  # fmt: skip


def finish_words(view: run_view.View) -> tuple[str, str]:
    """When a run is expected to end, with its range, and the style of that."""
    state = view.state
    if view.standing == "paused":
        since = paused_since(view)
        told = f"{ago(view.now() - since)} ago" if since is not None else ""
        return f"paused {told}: R lets it go on", "warn"
    if not view.live:
        ended = state["updated"]
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
    told = [e.get("t") for e in view.state["recent"] if e.get("kind") == "paused"]
    return float(told[-1]) if told and told[-1] is not None else None


def event_words(event: dict[str, Any]) -> str:
    """One event as a phrase."""
    kind, stage = str(event.get("kind")), event.get("stage") or ""
    if kind == "warning":
        return line_of(f"{stage}: {event.get('message')}")
    if kind == "stage.start":
        return line_of(f"{stage} begins: {event.get('why')}")
    if kind == "stage.end":
        took = event.get("seconds")
        return line_of(f"{stage} {event.get('state')}" + (f", {clock(took)}" if took else ""))
    if kind == "evaluation":
        bits = event.get("bits_per_byte")
        return line_of(f"validation {bits:.4f} of {event.get('model')}" if bits else "validation")
    if kind == "assessed":
        macro = event.get("macro")
        return line_of(f"test {macro:.4f} of {event.get('model')}" if macro else "assessed")
    if kind == "checkpoint":
        return line_of(f"checkpoint of {event.get('model')}, step {event.get('step')}")
    if kind == "command":
        return line_of(f"asked to {event.get('verb')}")
    if kind == "run.end":
        return line_of(f"the run ended: {event.get('status')}")
    return line_of({"run.start": "the run starts"}.get(kind, kind))
