"""Curves: series over an axis, in dots, with every spike that a point of them has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlxprune_tui.drawing.cells import SERIES, Glyphs, Grid, Line, label, nice
from mlxprune_tui.drawing.text import fit


@dataclass(frozen=True)
class Series:
    """Points to join, float64 [n] each; NaN is a gap. ``dashed`` draws every other dot."""

    x: np.ndarray
    y: np.ndarray
    style: str
    mark: str = "*"
    dashed: bool = False


@dataclass(frozen=True)
class Frame:
    """What a chart shows: [left, right] x [bottom, top] in the units of its axes, which a
    logarithmic axis turns into logarithms."""

    left: float
    right: float
    bottom: float
    top: float
    log_x: bool = False
    log_y: bool = False


BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def frame_of(
    series: Sequence[Series], log_x: bool = False, log_y: bool = False, quantile: float = 0.0
) -> Frame:
    """The smallest frame around all finite points; ``quantile`` leaves out the highest."""
    xs = np.concatenate([_scaled(s.x, log_x)[np.isfinite(s.y)] for s in series] or [np.zeros(0)])
    ys = np.concatenate([_scaled(s.y, log_y) for s in series] or [np.zeros(0)])
    xs, ys = xs[np.isfinite(xs)], ys[np.isfinite(ys)]
    if not len(xs) or not len(ys):
        return Frame(0.0, 1.0, 0.0, 1.0, log_x, log_y)
    bottom, top = float(ys.min()), float(np.quantile(ys, 1 - quantile))
    room = 0.04 * (top - bottom) or max(abs(top) * 0.05, 1e-6)
    left, right = float(xs.min()), float(xs.max())
    return Frame(
        left, right if right > left else left + 1.0, bottom - room, top + room, log_x, log_y
    )


def _scaled(values: np.ndarray, log: bool) -> np.ndarray:
    if not log:
        return values
    with np.errstate(all="ignore"):
        result: np.ndarray = np.where(values > 0, np.log10(np.maximum(values, 1e-300)), np.nan)
    return result


@dataclass(frozen=True)
class Mark:
    """A sign at a point of the chart, with words beside it."""

    x: float
    y: float
    text: str
    style: str


@dataclass(frozen=True)
class Passes:
    """Where every pass but the first begins, and the number of the first one."""

    begins: Sequence[float] = ()
    first: int = 1


@dataclass(frozen=True)
class Extras:
    """What stands in a chart besides its curves. ``ends``: (height, words, style) at the right;
    ``unit`` of the axis below."""

    passes: Passes = Passes()
    cursor: float | None = None
    band: tuple[Series, Series] | None = None
    marks: Sequence[Mark] = ()
    ends: Sequence[tuple[float, str, str]] = ()
    unit: str = ""


def chart(
    series: Sequence[Series],
    frame: Frame,
    cells: int,
    rows: int,
    glyphs: Glyphs,
    extras: Extras = Extras(),
) -> list[Line]:
    """Curves with axes. Many points in one dot column show as the span from least to largest."""
    grid = Grid(cells, rows)
    columns, plot = columns_of(cells, extras), rows - 1
    if columns < 4 or plot < 1:
        return grid.lines()
    if extras.band is not None:
        _shade(grid, extras.band, frame, columns, plot)
    shown = _shown_passes(extras.passes, frame, columns)
    _pass_lines(grid, shown, plot, glyphs)
    for one in series:
        _trace(grid, one, frame, columns, plot, glyphs)
    if extras.passes.begins:
        _pass_numbers(grid, shown, extras.passes)
    if extras.cursor is not None:
        at = _column(extras.cursor, frame, columns)
        if at is not None:
            for y in range(plot):
                if grid.text[y][AXIS + at] in " ┊:│·":
                    grid.put(AXIS + at, y, "|", "bold")
    for mark in extras.marks:
        place, row = _column(mark.x, frame, columns), _row(mark.y, frame, plot)
        if place is not None and row is not None:
            x = min(AXIS + place, AXIS + columns - len(mark.text))
            grid.put(x, max(0, row - 1), mark.text, mark.style)
    _axes(grid, frame, columns, plot, glyphs, extras.unit)
    _end_words(grid, extras.ends, frame, columns, plot)
    return grid.lines()


END_CELLS = 20  # at most, for the words at the ends of lines


def columns_of(cells: int, extras: Extras = Extras()) -> int:
    """Cells of the plot itself: without the axis, and the words at the right."""
    words = max((len(text) + 1 for _, text, _ in extras.ends), default=0)
    room = min(words, END_CELLS)
    room = room if cells - AXIS > 2.2 * room else 0
    return cells - AXIS - room


def share_at(column: int, cells: int, extras: Extras = Extras()) -> float | None:
    """How far along the axis a cell of the picture is, from 0 to 1; None beside it."""
    columns = columns_of(cells, extras)
    at = column - AXIS
    return at / max(1, columns - 1) if 0 <= at < columns else None


def _row(value: float, frame: Frame, plot: int) -> int | None:
    y = float(_scaled(np.array([value], np.float64), frame.log_y)[0])
    if not frame.bottom <= y <= frame.top:
        return None
    return round((frame.top - y) / (frame.top - frame.bottom) * (plot - 1))


PASS_CELLS = 5  # at least, between two boundaries that are drawn


def _shown_passes(passes: Passes, frame: Frame, columns: int) -> list[tuple[int, int]]:
    """(number, column) of the boundaries that are drawn: of many only every second, fifth,
    tenth."""
    places = [
        (n, _column(x, frame, columns)) for n, x in enumerate(passes.begins, passes.first + 1)
    ]
    inside = [(n, at) for n, at in places if at is not None]
    room = columns / max(1, len(inside))
    every = next((k for k in (1, 2, 5, 10, 20, 50, 100) if k * room >= PASS_CELLS), 100)
    return [(n, at) for n, at in inside if every == 1 or n % every == 0]


def _pass_lines(grid: Grid, shown: list[tuple[int, int]], plot: int, glyphs: Glyphs) -> None:
    for _, at in shown:
        for y in range(plot):
            grid.put(AXIS + at, y, glyphs.boundary, "grid")


def _pass_numbers(grid: Grid, shown: list[tuple[int, int]], passes: Passes) -> None:
    """The number of each pass at its beginning, where no curve is."""
    for number, at in [(passes.first, 0), *shown]:
        text = str(number) if at else f"pass {number}"
        beside = AXIS + at + (1 if at else 0)
        row = next((y for y in range(3) if grid.free(beside, y, len(text))), None)
        if row is not None:
            grid.put(beside, row, text, "dim")


def _end_words(
    grid: Grid, ends: Sequence[tuple[float, str, str]], frame: Frame, columns: int, plot: int
) -> None:
    """Words at the ends of lines, none on another: they give way downwards, then upwards."""
    if columns == grid.cells - AXIS:
        return
    taken: set[int] = set()
    for value, text, style in sorted(ends, key=lambda e: -e[0]):
        clipped = min(max(value, frame.bottom), frame.top) if not frame.log_y else value
        wanted = _row(clipped, frame, plot)
        rows = sorted(range(plot), key=lambda y: abs(y - (wanted or 0)))
        y = next((y for y in rows if y not in taken), None)
        if y is not None:
            taken.add(y)
            grid.put(AXIS + columns + 1, y, text[: grid.cells - AXIS - columns - 1], style)


AXIS = 8


def _column(value: float, frame: Frame, columns: int) -> int | None:
    x = float(_scaled(np.array([value], np.float64), frame.log_x)[0])
    if not frame.left <= x <= frame.right:
        return None
    return round((x - frame.left) / (frame.right - frame.left) * (columns - 1))


def _envelope(one: Series, frame: Frame, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest height by column; NaN where a column has no point."""
    x, y = _scaled(one.x, frame.log_x), _scaled(one.y, frame.log_y)
    able = np.isfinite(x) & np.isfinite(y) & (x >= frame.left) & (x <= frame.right)
    x, y = x[able], y[able]
    at = np.round((x - frame.left) / (frame.right - frame.left) * (columns - 1)).astype(int)
    low, high = np.full(columns, np.inf), np.full(columns, -np.inf)
    np.minimum.at(low, at, y)
    np.maximum.at(high, at, y)
    empty = low > high
    low[empty] = high[empty] = np.nan
    return low, high


def _gaps(one: Series, frame: Frame, columns: int) -> np.ndarray:
    """Columns where a value is missing: bool."""
    x = _scaled(one.x, frame.log_x)
    bad = ~np.isfinite(one.y) & np.isfinite(x) & (x >= frame.left) & (x <= frame.right)
    found = np.zeros(columns, bool)
    at = np.round((x[bad] - frame.left) / (frame.right - frame.left) * (columns - 1)).astype(int)
    found[at] = True
    return found


def _trace(grid: Grid, one: Series, frame: Frame, columns: int, plot: int, glyphs: Glyphs) -> None:
    across, down = {"braille": (2, 4), "block": (1, 2), "ascii": (1, 1)}[glyphs.name]
    wide, tall = columns * across, plot * down
    low, high = _envelope(one, frame, wide)
    known = np.flatnonzero(np.isfinite(low))
    if not len(known):
        return
    # Between two points the line goes straight; a missing value breaks it.
    broken = _gaps(one, frame, wide)
    walls = np.cumsum(broken)
    inner = np.arange(known[0], known[-1] + 1)
    middle = np.interp(inner, known, (low[known] + high[known]) / 2)
    before = known[np.searchsorted(known, inner, side="right") - 1]
    after = known[np.minimum(np.searchsorted(known, inner, side="left"), len(known) - 1)]
    free = (walls[before] == walls[after]) & ~np.isfinite(low[inner])
    low[inner[free]] = high[inner[free]] = middle[free]
    span = frame.top - frame.bottom
    heights = [
        np.clip(np.round((frame.top - v) / span * (tall - 1)), -1, tall) for v in (high, low)
    ]
    previous: tuple[float, float] | None = None
    dots: dict[tuple[int, int], int] = {}
    for x in range(wide):
        first, last = heights[0][x], heights[1][x]
        if not math.isfinite(first):
            previous = None
            continue
        if previous is not None:  # joined to its neighbour
            if first > previous[1] + 1:
                first = previous[1] + 1
            elif last < previous[0] - 1:
                last = previous[0] - 1
        previous = (heights[0][x], heights[1][x])
        if one.dashed and (x // across) % 3 == 2:
            continue
        for y in range(max(0, int(first)), min(tall - 1, int(last)) + 1):
            cell = (x // across, y // down)
            dots[cell] = dots.get(cell, 0) | (1 << (y % down * 2 + x % across))
    for (at, row), bits in dots.items():
        under = grid.text[row][AXIS + at]
        grid.put(AXIS + at, row, _glyph(under, bits, one, glyphs), one.style)
    if one.mark in SERIES and dots:  # its letter stands at its end: colours are not needed
        grid.put(AXIS + max(dots)[0], max(dots)[1], one.mark, one.style)


def _glyph(under: str, bits: int, one: Series, glyphs: Glyphs) -> str:
    if glyphs.name == "ascii":
        return one.mark
    if glyphs.name == "block":
        top, bottom = bits & 1, bits & 4
        return "█" if top and bottom else ("▀" if top else "▄")
    code = 0
    for row in range(4):
        for column in range(2):
            if bits & (1 << (row * 2 + column)):
                code |= BITS[row][column]
    if "\u2800" <= under <= "\u28ff":  # curves that cross share a cell
        code |= ord(under) - 0x2800
    return chr(0x2800 + code)


def _shade(
    grid: Grid, limits: tuple[Series, Series], frame: Frame, columns: int, plot: int
) -> None:
    """The region between two curves, as a light shade."""
    centres = np.linspace(frame.left, frame.right, columns)
    heights = []
    for one in limits:
        x, y = _scaled(one.x, frame.log_x), _scaled(one.y, frame.log_y)
        able = np.isfinite(x) & np.isfinite(y)
        if not able.any():
            return
        found = np.interp(centres, x[able], y[able], left=np.nan, right=np.nan)
        heights.append((frame.top - found) / (frame.top - frame.bottom) * (plot - 1))
    for at in range(columns):
        ends = float(heights[0][at]), float(heights[1][at])
        if not (math.isfinite(ends[0]) and math.isfinite(ends[1])):
            continue
        for row in range(max(0, round(min(ends))), min(plot - 1, round(max(ends))) + 1):
            grid.put(AXIS + at, row, ".", "dim")


def _axes(grid: Grid, frame: Frame, columns: int, plot: int, glyphs: Glyphs, unit: str) -> None:
    for y in range(plot):
        grid.put(AXIS - 1, y, glyphs.edge, "border")
    ticks = nice(frame.bottom, frame.top, max(1, plot // 3))
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.01
    for value in ticks:
        y = round((frame.top - value) / (frame.top - frame.bottom) * (plot - 1))
        text = label(10**value) if frame.log_y else label(value, step)
        grid.put(0, y, fit(text, AXIS - 1, right=True), "dim")
        for x in range(AXIS + 3, AXIS + columns, 4):  # a grid of faint dots, at ticks only
            if grid.free(x, y, 1):
                grid.put(x, y, "." if glyphs.name == "ascii" else "·", "grid")
    if unit and grid.rows > plot:
        grid.put(AXIS + columns - len(unit), plot, unit, "dim")
    ticks = nice(frame.left, frame.right, max(1, columns // 12))
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    for value in ticks:
        text = label(10**value) if frame.log_x else label(value, step)
        at = AXIS + round((value - frame.left) / (frame.right - frame.left) * (columns - 1))
        at = min(max(at - len(text) // 2, AXIS), AXIS + columns - len(text))
        if grid.rows > plot and all(c == " " for c in grid.text[plot][at - 1 : at + len(text) + 1]):
            grid.put(at, plot, text, "dim")


def smoothed(x: np.ndarray, y: np.ndarray, share: float) -> np.ndarray:
    """Exponential mean in units of x, so that it does not depend on how often a run reports;
    ``share`` of the axis is its time constant."""
    if share <= 0 or len(x) < 3:
        return y
    scale = share * float(x[-1] - x[0]) or 1.0
    result = np.array(y, np.float64)
    held = math.nan
    for at in range(len(y)):
        if not math.isfinite(y[at]):
            continue
        if math.isfinite(held):
            gap = float(x[at] - x[max(0, at - 1)])
            keep = math.exp(-gap / scale)
            held = keep * held + (1 - keep) * y[at]
        else:
            held = y[at]
        result[at] = held
    return result
