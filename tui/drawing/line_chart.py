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


def chart(
    series: Sequence[Series],
    frame: Frame,
    cells: int,
    rows: int,
    glyphs: Glyphs,
    boundaries: Sequence[float] = (),
    cursor: float | None = None,
    band_of: tuple[Series, Series] | None = None,
) -> list[Line]:
    """Curves with axes. Many points in one dot column show as the span from least to largest."""
    grid = Grid(cells, rows)
    columns, plot = cells - AXIS, rows - 1
    if columns < 4 or plot < 1:
        return grid.lines()
    if band_of is not None:
        _shade(grid, band_of, frame, columns, plot)
    for value in boundaries:
        at = _column(value, frame, columns)
        if at is not None:
            for y in range(plot):
                grid.put(AXIS + at, y, glyphs.boundary, "dim")
    for one in series:
        _trace(grid, one, frame, columns, plot, glyphs)
    if cursor is not None:
        at = _column(cursor, frame, columns)
        if at is not None:
            for y in range(plot):
                if grid.text[y][AXIS + at] in " ┊:│":
                    grid.put(AXIS + at, y, "|", "bold")
    _axes(grid, frame, columns, plot, glyphs)
    return grid.lines()


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


def _axes(grid: Grid, frame: Frame, columns: int, plot: int, glyphs: Glyphs) -> None:
    edge = glyphs.corners[5]
    for y in range(plot):
        grid.put(AXIS - 1, y, edge, "border")
    ticks = nice(frame.bottom, frame.top, max(1, plot // 3))
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.01
    for value in ticks:
        y = round((frame.top - value) / (frame.top - frame.bottom) * (plot - 1))
        text = label(10**value) if frame.log_y else label(value, step)
        grid.put(0, y, fit(text, AXIS - 1, right=True), "dim")
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
