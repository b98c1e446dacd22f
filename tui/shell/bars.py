"""Bars: the status line, the tabs and the key line around every screen."""

from __future__ import annotations

from mlxprune.run import forecast
from mlxprune.run.event_kinds import Device
from mlxprune.run.folder import STAGES
from mlxprune.run.state import StageState
from mlxprune.units import ago, clock, count, size
from mlxprune_tui.drawing.cells import Glyphs, Line, pad
from mlxprune_tui.drawing.text import fit, line_of, width
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.screens import run_phrases
from mlxprune_tui.shell.keys import SCREENS, Key

LAG_SHOWN = 5.0


def status(view: View | None, glyphs: Glyphs, cells: int) -> Line:
    """Where the run stands, in one line; what matters least gives way first."""
    if view is None:
        return pad([(" mlxprune ", "bar_bold"), ("no run is open", "bar")], cells)
    state, standing = view.state, view.standing
    if not view.loaded:
        read = 1 - view.reader.behind / max(1, view.reader.total)
        told = f"reading {100 * read:.0f} % of {size(view.reader.total)}"
        return _bar([(f" {line_of(view.name)} ", "bar_bold"), (told, "bar")], cells)
    mark = glyphs.states.get(standing, "?")
    name = fit(line_of(view.name), min(24, max(8, cells // 4))).rstrip()
    parts: list[tuple[str, str]] = [
        (f" {name} ", "bar_bold"),
        (f"{mark} {line_of(standing).upper()} ", run_phrases.STATE_STYLE.get(standing, "bar")),
    ]
    if view.frozen:
        parts.append((" HELD: space goes on ", "tab"))
    if view.troubles():
        parts.append((" trouble: see 1 ", "warn"))
    busy = forecast.running_stage(state)
    if busy:
        stage = state.stages[busy]
        done, total = stage.done or 0, stage.total or 0
        share = f" {100 * done / total:.0f}%" if total else ""
        number = f"{STAGES.index(busy) + 1}/{len(STAGES)} " if busy in STAGES else ""
        parts.append((f" {number}{line_of(busy)}{share} ", "bar"))
    began = state.attempt_started or state.started
    if began is not None:
        until = view.now() if view.live else state.updated or began
        parts.append((f" {clock(until - began)} ", "bar"))
    works = view.live and standing != "paused"
    if works and busy:
        left = view.finish().likely
        parts.append((f" {clock(left)} left " if left is not None else "", "bar"))
    if state.attempts > 1:
        parts.append((f" attempt {state.attempts} ", "bar_dim"))
    if works and view.lag is not None:
        style = "warn" if view.lag > LAG_SHOWN * 6 else "bar"
        parts.append((f" lag {ago(view.lag)} ", style))
    if works and busy and state.stages[busy].rate:
        stage = state.stages[busy]
        unit = line_of(str(stage.unit or ""))
        parts.append((f" {count(stage.rate)} {unit}/s ", "bar"))
    memory = (state.machine or Device()).memory_bytes
    parts.append((f" {size(memory)} " if memory and view.live else "", "bar"))
    parts.append((f" {state.events:,} events ", "bar_dim"))
    return _bar([p for p in parts if p[0]], cells)


def _bar(parts: list[tuple[str, str]], cells: int) -> Line:
    used = 0
    line: Line = []
    for text, style in parts:
        if used + width(text) > cells and line:
            break
        line.append((text, style))
        used += width(text)
    return pad([*line, (" " * max(0, cells - used), "bar")], cells)


def tabs(screen: str, cells: int) -> tuple[Line, list[tuple[int, int, str]]]:
    """The line of screens, and where each stands: (first cell, one past its last, name)."""
    long = cells >= sum(len(s) + 4 for s in SCREENS)
    line: Line = []
    places = []
    at = 0
    for number, name in enumerate(SCREENS, 1):
        word = name.capitalize() if long else name[:4].capitalize()
        text = f" {number} {word} "
        line.append((text, "tab" if name == screen else "head"))
        places.append((at, at + len(text), name))
        at += len(text)
    return pad(line, cells), places


def keys(shown: list[tuple[Key, bool]], cells: int) -> Line:
    """The key line; a key that can do nothing now is faint."""
    line: Line = [(" ", "bar")]
    for key, able in shown:
        line.append((key.shown, "bar_bold" if able else "bar_dim"))
        line.append((f" {key.short}  ", "bar" if able else "bar_dim"))
    used = sum(width(t) for t, _ in line)
    return pad([*line, (" " * max(0, cells - used), "bar")], cells)


def tiny(view: View | None, glyphs: Glyphs, cells: int) -> Line:
    """All that fits where there is no room for a screen."""
    if view is None:
        return pad([("no run", "")], cells)
    busy = forecast.running_stage(view.state)
    stage = view.state.stages.get(busy or "", StageState())
    done, total = stage.done or 0, stage.total or 0
    share = f" {100 * done / total:.0f}%" if total else ""
    left = forecast.left(stage)
    told = f"{glyphs.states.get(view.standing, '?')} {line_of(view.name)} {view.standing}"
    told += f" {busy or ''}{share}"
    told += f" {clock(left)} left" if busy and left is not None and view.live else ""
    return pad([(f"{told}  (screens from 60 x 15)", "")], cells)
