"""Intervals: differences with their intervals on one axis, and a difference as a sum of parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlxprune_tui.drawing.cells import Glyphs, Grid, Line, nice, pad
from mlxprune_tui.drawing.text import fit, width


@dataclass(frozen=True)
class Interval:
    """A difference with its interval; ``style`` of its line, ``said`` at its right end."""

    name: str
    difference: float
    low: float
    high: float
    mark: str
    style: str
    said: str
    said_style: str


@dataclass(frozen=True)
class PartOf:
    """What one part adds to a sum."""

    name: str
    adds: float


NAME_SHARE = 0.34
AXIS_LEAST = 12


def forest(
    rows: Sequence[Interval],
    noise: float | None,
    cells: int,
    height: int,
    glyphs: Glyphs,
    chosen: int | None = None,
) -> list[Line]:
    """A row each: the name, the interval around its difference, what it shows; zero is a line, and
    ``noise`` to both sides of it the band that chance alone fills. Exactly ``height`` lines."""
    said = max((width(r.said) for r in rows), default=0)
    name = min(max((width(r.name) for r in rows), default=0) + 2, int(cells * NAME_SHARE))
    room = cells - name - said - 4
    if room < AXIS_LEAST:
        room, said = cells - name - 2, 0
    if room < AXIS_LEAST or not rows:
        said_only: list[Line] = [[(fit(f"{r.name} {r.said}", cells), r.said_style)] for r in rows]
        return [pad(line, cells) for line in (said_only + [[]] * height)[:height]]
    low = min(0.0, *(r.low for r in rows), -(noise or 0.0))
    high = max(0.0, *(r.high for r in rows), noise or 0.0)
    margin = 0.04 * (high - low) or 1.0
    low, high = low - margin, high + margin

    def place(value: float) -> int:
        return min(room - 1, max(0, round((value - low) / (high - low) * (room - 1))))

    lines: list[Line] = [[(" " * (name + 2), ""), *_sides(place(0.0), room)]]
    for number, row in enumerate(rows[: height - 2]):
        drawn = _interval(row, noise, place, room, glyphs)
        here = number == chosen
        line: Line = [
            (glyphs.arrow if here else " ", "focus"),
            (fit(row.name, name), "select" if here else row.style),
            (" ", ""),
            *drawn,
            (f" {row.said}" if said else "", row.said_style),
        ]
        lines.append(line)
    lines.append([(" " * (name + 2), ""), *_axis(low, high, place, room)])
    return [pad(line, cells) for line in (lines + [[]] * height)[:height]]


def _sides(zero: int, room: int) -> Line:
    """Which side is better, around zero."""
    grid = Grid(room, 1)
    left, right = "better", "worse"
    if zero > len(left) + 2:
        grid.put(zero - len(left) - 2, 0, f"{left} ", "good")
    if room - zero > len(right) + 3:
        grid.put(zero + 2, 0, right, "bad")
    grid.put(zero, 0, "0", "dim")
    return grid.lines()[0]


def _interval(
    row: Interval, noise: float | None, place: Callable[[float], int], room: int, glyphs: Glyphs
) -> Line:
    grid = Grid(room, 1)
    if noise:
        for x in range(place(-noise), place(noise) + 1):
            grid.put(x, 0, "." if glyphs.name == "ascii" else "┈", "noise")
    grid.put(place(0.0), 0, glyphs.zero, "dim")
    first, last = place(row.low), place(row.high)
    for x in range(first, last + 1):
        grid.put(x, 0, glyphs.interval[1], row.style)
    grid.put(first, 0, glyphs.interval[0], row.style)
    grid.put(last, 0, glyphs.interval[2], row.style)
    grid.put(place(row.difference), 0, row.mark, row.style)
    return grid.lines()[0]


def _axis(low: float, high: float, place: Callable[[float], int], room: int) -> Line:
    grid = Grid(room, 1)
    ticks = nice(low, high, max(2, room // 9))
    digits = max((len(f"{t:+.6f}".rstrip("0").partition(".")[2]) for t in ticks), default=2)
    for value in ticks:
        text = f"{value:+.{max(1, min(digits, 4))}f}" if value else "0"
        at = min(max(0, place(value) - len(text) // 2), room - len(text))
        if grid.free(at, 0, len(text)):
            grid.put(at, 0, text, "dim")
    return grid.lines()[0]


def waterfall(
    parts: Sequence[PartOf], cells: int, height: int, glyphs: Glyphs, unit: str = ""
) -> list[Line]:
    """What every part adds, the largest first, each bar where the one before ends, and the whole at
    the bottom; parts for which there is no row are one. Exactly ``height`` lines."""
    ordered = sorted(parts, key=lambda p: -abs(p.adds))
    most = max(1, height - 1)
    if len(ordered) > most:
        rest = ordered[most - 1 :]
        ordered = [
            *ordered[: most - 1],
            PartOf(f"{len(rest)} more", sum(p.adds for p in rest)),
        ]
    whole = sum(p.adds for p in parts)
    longest = max(len("together"), *(width(p.name) for p in ordered), 0)
    name = min(longest + 1, int(cells * NAME_SHARE))
    room = cells - name - 9
    if room < AXIS_LEAST:
        said: list[Line] = [
            [(fit(p.name, max(1, cells - 9)), ""), (f" {p.adds:+.3f}", "")] for p in ordered
        ]
        return [pad(line, cells) for line in (said + [[]] * height)[:height]]
    running, at = [0.0], 0.0
    for part in ordered:
        at += part.adds
        running.append(at)
    low, high = min(running), max(running)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return (value - low) / span * (room - 1)

    lines: list[Line] = []
    for number, part in enumerate(ordered):
        style = "good" if part.adds < 0 else "bad"
        bar = _bar(
            place(running[number]), place(running[number + 1]), place(0.0), room, style, glyphs
        )
        lines.append([(fit(part.name, name), ""), *bar, (f" {part.adds:+.3f}", style)])
    total = _bar(place(0.0), place(whole), place(0.0), room, "bold", glyphs)
    lines.append([(fit("together", name), "bold"), *total, (f" {whole:+.3f} {unit}", "bold")])
    return [pad(line, cells) for line in (lines + [[]] * height)[:height]]


def _bar(begin: float, end: float, zero: float, room: int, style: str, glyphs: Glyphs) -> Line:
    grid = Grid(room, 1)
    grid.put(round(zero), 0, glyphs.zero, "dim")
    first, last = sorted((begin, end))
    fill = glyphs.kept if end >= begin else glyphs.dropped  # the sign is seen without colour
    for x in range(round(first), max(round(last), round(first) + 1)):
        grid.put(x, 0, fill, style)
    return grid.lines()[0]
