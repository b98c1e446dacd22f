"""Histogram: bars with the kept band, told apart without colour."""

from __future__ import annotations

import math

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


def histogram(
    heights: np.ndarray,
    kept: np.ndarray,
    low: float,
    high: float,
    cells: int,
    rows: int,
    glyphs: Glyphs,
    log: bool = False,
) -> list[Line]:
    """Bars of ``heights`` [columns], solid where ``kept`` is above one half, shaded elsewhere;
    counts at the left, values below. Its columns are ``columns_of(cells)`` many."""
    grid = Grid(cells, rows)
    plot = rows - 1
    if plot < 1 or cells < GUTTER + 4:
        return grid.lines()
    shown = np.log1p(heights) if log else np.asarray(heights, np.float64)
    top = float(shown.max(initial=0.0))
    steps = len(glyphs.eighths) - 1
    for x, value in enumerate(shown[: cells - GUTTER]):
        inside = kept[x] > 0.5
        fill, style = (glyphs.kept, "kept") if inside else (glyphs.dropped, "dropped")
        filled = round(plot * steps * value / top) if top else 0
        filled = max(filled, 1) if heights[x] > 0 else filled
        whole, rest = divmod(filled, steps)
        for y in range(whole):
            grid.put(GUTTER + x, plot - 1 - y, fill, style)
        if rest and inside:
            grid.put(GUTTER + x, plot - 1 - whole, glyphs.eighths[rest], style)
        elif rest >= steps / 2 or (rest and whole == 0):
            # Only a solid bar has a fine edge; a low shaded one is a dot.
            shade = glyphs.dropped if rest >= steps / 2 else "."
            grid.put(GUTTER + x, plot - 1 - whole, shade, style)
    for share in (1.0, 0.5):
        value = math.expm1(share * top) if log else share * top
        y = round((1 - share) * plot)
        if top and y < plot:
            grid.put(0, y, fit(_count(value), GUTTER - 1, right=True), "dim")
    grid.put(0, plot, fit("0", GUTTER - 1, right=True), "dim")
    _below(grid, plot, low, high, cells)
    return grid.lines()


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
    grid.put(first, 0, "[", "bold")
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
