"""Histogram: bars with the kept band, told apart without colour."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlxprune.units import SUFFIXES
from mlxprune_tui.drawing.cells import Glyphs, Grid, Line, label, nice
from mlxprune_tui.drawing.text import fit


def rebinned(
    counts: np.ndarray, edges: np.ndarray, low: float, high: float, cells: int
) -> np.ndarray:
    """Counts in so many equal bins of [low, high], float64; what lies outside is in the end bins.

    Counts are spread evenly inside their own bin, so their sum is kept.
    """
    total = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    cuts = np.linspace(low, high, cells + 1)
    at = np.interp(cuts, edges, total)
    at[0], at[-1] = 0.0, total[-1]
    result: np.ndarray = np.diff(at)
    return result


def shown_range(counts: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """Where all but a thousandth at each end lies, a little wider."""
    total = np.cumsum(counts, dtype=np.float64)
    if not len(total) or total[-1] <= 0:
        return float(edges[0]), float(edges[-1])
    first = int(np.searchsorted(total, 0.001 * total[-1], side="right"))
    last = int(np.searchsorted(total, 0.999 * total[-1], side="left"))
    first, last = max(0, first - 1), min(len(edges) - 2, last + 1)
    return float(edges[first]), float(edges[last + 1])


@dataclass(frozen=True)
class Layers:
    """What a histogram shows, by column, float64 [columns] each: ``heights`` of what is counted,
    ``kept`` the share of it that is kept, ``in_hand`` what is not counted yet and ``ghost`` heights
    to compare with; None: not there."""

    heights: np.ndarray
    kept: np.ndarray
    in_hand: np.ndarray | None = None
    ghost: np.ndarray | None = None


def histogram(
    layers: Layers,
    low: float,
    high: float,
    cells: int,
    rows: int,
    glyphs: Glyphs,
    log: bool = False,
) -> list[Line]:
    """Bars, solid where more than half is kept and of a texture elsewhere, what is in hand light on
    top of them, the ghost as a line; counts at the left, values below. Its columns are
    ``columns_of(cells)`` many."""
    grid = Grid(cells, rows)
    plot = rows - 1
    if plot < 1 or cells < GUTTER + 4:
        return grid.lines()

    def scaled(values: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.log1p(values) if log else np.asarray(values, np.float64)
        return found

    solid = scaled(layers.heights)
    light = solid if layers.in_hand is None else scaled(layers.heights + layers.in_hand)
    ghost = None if layers.ghost is None else scaled(layers.ghost)
    top = max(float(light.max(initial=0.0)), 0.0 if ghost is None else float(ghost.max(initial=0)))
    steps = len(glyphs.eighths) - 1
    if top:
        _ticks(grid, top, plot, log)
    for x in range(min(cells - GUTTER, len(solid))):
        bars = [round(plot * steps * float(v[x]) / top) if top else 0 for v in (solid, light)]
        bars[0] = max(bars[0], int(layers.heights[x] > 0))
        is_kept = layers.kept[x] > 0.5
        _bar(grid, GUTTER + x, plot, bars[0], is_kept, glyphs)
        first = -(-bars[0] // steps)
        for y in range(first, -(-bars[1] // steps)):
            grid.put(GUTTER + x, plot - 1 - y, glyphs.provisional, "provisional")
        if ghost is not None and top:
            y = plot - 1 - min(plot - 1, int(plot * float(ghost[x]) / top))
            if ghost[x] > 0 and grid.free(GUTTER + x, y, 1):
                grid.put(GUTTER + x, y, glyphs.ghost, "ghost")
    _below(grid, plot, low, high, cells)
    return grid.lines()


def _bar(grid: Grid, x: int, plot: int, height: int, is_kept: bool, glyphs: Glyphs) -> None:
    steps = len(glyphs.eighths) - 1
    whole, rest = divmod(height, steps)
    fill, style = (glyphs.kept, "kept") if is_kept else (glyphs.dropped, "dropped")
    for y in range(whole):
        grid.put(x, plot - 1 - y, fill, style)
    if rest:
        cap = style if is_kept else "dropped_cap"
        grid.put(x, plot - 1 - whole, glyphs.eighths[rest], cap)


def _ticks(grid: Grid, top: float, plot: int, log: bool) -> None:
    for share in (1.0, 0.5):
        value = math.expm1(share * top) if log else share * top
        y = round((1 - share) * plot)
        if y < plot:
            grid.put(0, y, fit(_count(value), GUTTER - 1, right=True), "dim")


GUTTER = 6


def columns_of(cells: int) -> int:
    return max(1, cells - GUTTER)


def _count(value: float) -> str:
    """At most five cells."""
    if value < 1e4:
        return f"{value:,.0f}"
    for size, suffix in SUFFIXES:
        if value >= size:
            return (
                f"{value / size:.1f}{suffix}"
                if value < 100 * size
                else f"{value / size:.0f}{suffix}"
            )
    return label(value)


def _below(grid: Grid, y: int, low: float, high: float, cells: int) -> None:
    columns = cells - GUTTER
    ticks = nice(low, high, max(1, columns // 9))
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    for value in ticks:
        text = label(value, step)
        at = GUTTER + round((value - low) / (high - low) * (columns - 1)) - len(text) // 2
        grid.put(min(max(at, GUTTER), cells - len(text)), y, text, "dim")


def band(low: float, high: float, start: float, stop: float, text: str, cells: int) -> Line:
    """The kept band under a histogram: [low, high] on an axis from start to stop."""
    columns = columns_of(cells)

    def place(value: float) -> int:
        share = (value - start) / (stop - start) if stop > start else 0.0
        return GUTTER + round(min(1.0, max(0.0, share)) * (columns - 1))

    first, last = place(low), place(high)
    grid = Grid(cells, 1)
    grid.put(first, 0, "=" * max(1, last - first + 1), "kept")
    grid.put(first, 0, "[" if last > first else "|", "bold")
    if last > first:
        grid.put(last, 0, "]", "bold")
    left, right = f"{low:.2f}" if low > start else "", f"{high:.2f}" if high < stop else ""
    middle = f" {text} "
    if len(middle) + 2 <= last - first - 1:
        grid.put((first + last - len(middle)) // 2 + 1, 0, middle, "bold")
    if left and first - len(left) - 1 >= 0:
        grid.put(first - len(left) - 1, 0, left, "bold")
    if right and last + 2 + len(right) <= cells:
        grid.put(last + 2, 0, right, "bold")
    return grid.lines()[0]


def quantiles_line(values: dict[str, float], start: float, stop: float, cells: int) -> Line:
    """Names and values of quantiles, each where it lies on an axis from start to stop; of those
    that would stand on each other the first ones stay."""
    columns = columns_of(cells)
    grid = Grid(cells, 1)
    for name, value in values.items():
        share = (value - start) / (stop - start) if stop > start else 0.0
        text = f"{name} {value:.2f}"
        at = GUTTER + round(min(1.0, max(0.0, share)) * (columns - 1)) - len(text) // 2
        at = min(max(at, GUTTER), cells - len(text))
        if grid.free(max(0, at - 1), 0, min(len(text) + 2, cells - max(0, at - 1))):
            grid.put(at, 0, text, "dim")
    return grid.lines()[0]


def value_at(column: int, low: float, high: float, cells: int) -> float | None:
    """The value under a cell of the picture; None beside the axis."""
    at = column - GUTTER
    columns = columns_of(cells)
    if not 0 <= at < columns:
        return None
    return low + (at + 0.5) * (high - low) / columns


def mini_histogram(counts: np.ndarray, kept: np.ndarray, glyphs: Glyphs) -> Line:
    """One row of bars; columns of which more than half is kept are in its colour."""
    top = float(counts.max(initial=0.0))
    steps = len(glyphs.eighths) - 1
    line: Line = []
    for value, share in zip(counts.tolist(), kept.tolist(), strict=True):
        step = max(1, round(steps * value / top)) if value > 0 and top else 0
        line.append((glyphs.eighths[step], "kept" if share > 0.5 else "dropped"))
    return line
