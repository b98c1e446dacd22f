"""Phrases on a run that several screens use: its status line, its end, its pauses."""

from __future__ import annotations

import time

from mlxprune.run import forecast
from mlxprune.run.event_kinds import Device, Paused
from mlxprune.run.folder import STAGES
from mlxprune.run.state import StageState
from mlxprune.run.status import Standing
from mlxprune.units import ago, count, short_duration, size
from mlxprune_tui.drawing.cells import Glyphs, Line
from mlxprune_tui.drawing.text import fit, line_of, width
from mlxprune_tui.readers.run_view import View

STATE_STYLE = {
    "running": "good", "done": "good", "reused": "good", "failed": "bad", "crashed": "bad",
    "stopped": "warn", "paused": "warn", "slow": "warn", "stale": "warn", "elsewhere": "warn",
}  # fmt: skip
LAG_SHOWN = 30.0

# Standings in which what the log calls running is not at work.
BROKEN = (Standing.CRASHED, Standing.PAUSED, Standing.UNKNOWN)


def status_line(view: View | None, glyphs: Glyphs, cells: int, rows: int) -> Line:
    """Where the run stands, in one line; what matters least gives way first."""
    if view is None:
        return [("mlxprune", "bold"), ("  no run is open", "")]
    if cells < 60 or rows < 15:
        return tiny(view, glyphs)
    state, standing = view.state, view.standing
    if not view.loaded:
        read = 1 - view.reader.behind / max(1, view.reader.total)
        told = f"  reading {100 * read:.0f} % of {size(view.reader.total)}"
        return [(line_of(view.name), "bold"), (told, "")]
    name = fit(line_of(view.label), min(32, max(8, cells // 4))).rstrip()
    mark = glyphs.states.get(standing, "?")
    parts: Line = [
        (f"{name}", "bold"),
        (f"{mark} {line_of(standing).upper()}", STATE_STYLE.get(standing, "")),
    ]
    if view.frozen:
        parts.append(("HELD: space goes on", "select"))
    if view.troubles():
        parts.append(("trouble: see 1", "warn"))
    memorising = [m for m in state.memorising if view.is_present(m)]
    if memorising:
        parts.append((f"{glyphs.up_mark} {len(memorising)} memorising", "bad"))
    busy = forecast.running_stage(state)
    if busy:
        stage = state.stages[busy]
        done, total = stage.done or 0, stage.total or 0
        share = f" {100 * done / total:.0f}%" if total else ""
        number = f"{STAGES.index(busy) + 1}/{len(STAGES)} " if busy in STAGES else ""
        parts.append((f"{number}{line_of(busy)}{share}", ""))
    began = state.attempt_started or state.started
    if began is not None:
        until = view.now() if view.live else state.updated or began
        parts.append((short_duration(until - began), ""))
    works = view.live and standing != "paused"
    if works and busy:
        left = view.finish().likely
        parts.append((f"{short_duration(left)} left" if left is not None else "", ""))
    if works and view.lag is not None and view.lag > LAG_SHOWN:
        parts.append((f"silent for {ago(view.lag)}", "warn"))
    if works and busy and state.stages[busy].rate:
        stage = state.stages[busy]
        unit = line_of(str(stage.unit or ""))
        parts.append((f"{count(stage.rate)} {unit}/s", ""))
    memory = (state.machine or Device()).memory_bytes
    parts.append((f"{size(memory)}" if memory and view.live else "", ""))
    if state.attempts > 1:
        parts.append((f"start {state.attempts}", "dim"))
    parts.append((f"{state.events:,} events", "dim"))
    return _fitted([p for p in parts if p[0]], cells - 2)


def _fitted(parts: Line, cells: int) -> Line:
    used = 0
    line: Line = []
    for text, style in parts:
        if line and used + width(text) + 2 > cells:
            break
        if line:
            line.append(("  ", ""))
        line.append((text, style))
        used += width(text) + 2
    return line


def tiny(view: View | None, glyphs: Glyphs) -> Line:
    """All that fits where there is no room for a screen."""
    if view is None:
        return [("no run", "")]
    busy = forecast.running_stage(view.state)
    stage = view.state.stages.get(busy or "", StageState())
    done, total = stage.done or 0, stage.total or 0
    share = f" {100 * done / total:.0f}%" if total else ""
    left = view.finish().likely
    told = f"{glyphs.states.get(view.standing, '?')} {line_of(view.name)} {view.standing}"
    told += f" {busy or ''}{share}"
    told += f" {short_duration(left)} left" if busy and left is not None and view.live else ""
    return [(told, ""), ("  (screens from 60 x 15)", "dim")]


def finish_words(view: View) -> str:
    """When a run that is at work is expected to end, with its range."""
    left = view.finish()
    if left.likely is None or left.early is None or left.late is None:
        return "its end is not known yet: too little has run to tell the pace"
    spans = [short_duration(s) for s in (left.likely, left.early, left.late)]
    told = f"it ends in about {spans[0]} ({spans[1]} to {spans[2]})"
    if left.likely >= 600:
        form = "%H:%M" if left.late < 20 * 3600 else "%a %H:%M"
        told += time.strftime(f", at {form}", time.localtime(view.now() + left.likely))
    return told


def paused_since(view: View) -> float | None:
    """When a paused run was paused."""
    told = [event.t for event in view.state.recent if isinstance(event, Paused)]
    return told[-1] if told else None
