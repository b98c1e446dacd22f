"""Draw: numbers into lines of text. Nothing here knows a terminal, an app or a run.

A line is a list of (text, style); a style is a name that the app gives a colour, and no picture
needs its colours to be read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlxprune.units import SUFFIXES
from mlxprune_tui.drawing.text import fit, width

Span = tuple[str, str]
Line = list[Span]
SERIES = "ABCDEFGH"


@dataclass(frozen=True)
class Glyphs:
    """What pictures are made of, by what the terminal can show."""

    name: str
    eighths: str  # from empty to full, upwards
    kept: str
    dropped: str  # a texture: colour is not needed to tell it
    provisional: str
    ghost: str
    across: str  # a bar's filled and empty cells
    edge: str  # of a chart, down
    boundary: str
    interval: str  # its left end, its line, its right end
    zero: str
    eighths_across: str  # of a bar that grows to the right
    down_mark: str  # the best, where lower is better
    up_mark: str
    states: dict[str, str]
    arrow: str


STATE_MARKS = {
    "pending": "·", "running": "▶", "reused": "=", "done": "✓", "failed": "✗", "stopped": "■",
    "crashed": "✗", "slow": "◌", "stale": "◌", "paused": "‖", "elsewhere": "?", "unknown": "?",
}  # fmt: skip
PLAIN_MARKS = {
    "pending": ".", "running": ">", "reused": "=", "done": "+", "failed": "x", "stopped": "#",
    "crashed": "x", "slow": "o", "stale": "o", "paused": "|", "elsewhere": "?", "unknown": "?",
}  # fmt: skip
GLYPHS = {
    "braille": Glyphs(
        "braille", " ▁▂▃▄▅▆▇█", "█", "▓", "░", "┄", "█░", "│", "┊", "├─┤", "│", " ▏▎▍▌▋▊▉█",
        "▼", "▲", STATE_MARKS, "▸",
    ),
    "block": Glyphs(
        "block", " ▁▂▃▄▅▆▇█", "█", "▓", "░", "-", "█░", "│", "│", "├─┤", "│", " ▏▎▍▌▋▊▉█",
        "▼", "▲", STATE_MARKS, "▸",
    ),
    "ascii": Glyphs(
        "ascii", " ...:::##", "#", "%", ":", "-", "#.", "|", ":", "[-]", "|", "    ####",
        "v", "^", PLAIN_MARKS, ">",
    ),
}  # fmt: skip


class Grid:
    """Cells to write on, each one character wide."""

    def __init__(self, cells: int, rows: int) -> None:
        self.cells, self.rows = max(0, cells), max(0, rows)
        self.text = [[" "] * self.cells for _ in range(self.rows)]
        self.style = [[""] * self.cells for _ in range(self.rows)]

    def put(self, x: int, y: int, text: str, style: str = "") -> None:
        """Text whose characters are one cell wide."""
        if not 0 <= y < self.rows:
            return
        for at, c in enumerate(text, x):
            if 0 <= at < self.cells:
                self.text[y][at], self.style[y][at] = c, style

    def free(self, x: int, y: int, length: int) -> bool:
        """Whether nothing stands in so many cells."""
        if not (0 <= y < self.rows and x >= 0 and x + length <= self.cells):
            return False
        return all(c == " " for c in self.text[y][x : x + length])

    def lines(self) -> list[Line]:
        result = []
        for text, style in zip(self.text, self.style, strict=True):
            line: Line = []
            start = 0
            for at in range(1, self.cells + 1):
                if at == self.cells or style[at] != style[start]:
                    line.append(("".join(text[start:at]), style[start]))
                    start = at
            result.append(line)
        return result


def length(line: Line) -> int:
    return sum(width(text) for text, _ in line)


def pad(line: Line, cells: int) -> Line:
    """Exactly so many cells."""
    used, found = 0, []
    for text, style in line:
        size = width(text)
        if used + size > cells:
            found.append((fit(text, cells - used), style))
            return [span for span in found if span[0]]
        found.append((text, style))
        used += size
    if used < cells:
        found.append((" " * (cells - used), ""))
    return found


def plain(lines: Sequence[Line]) -> str:
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def bar(share: float | None, cells: int, glyphs: Glyphs) -> str:
    filled = 0 if share is None else round(cells * min(1.0, max(0.0, share)))
    return glyphs.across[0] * filled + glyphs.across[1] * (cells - filled)


def sparkline(values: Sequence[float | None], cells: int, glyphs: Glyphs) -> str:
    """The newest values, scaled from zero to their largest; of crowded ones the least and the
    largest alternate, so that a dip is seen."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known or cells <= 0:
        return ""
    if cells == 1:
        known = known[-1:]
    elif len(known) > cells:
        edges = np.linspace(0, len(known), cells // 2 + 1).astype(int)
        pairs = [
            known[a:b] or [known[min(a, len(known) - 1)]]
            for a, b in itertools.pairwise(edges.tolist())
        ]
        known = [v for part in pairs for v in (min(part), max(part))]
    top = max(known) or 1.0
    steps = len(glyphs.eighths) - 1
    return "".join(glyphs.eighths[max(1, round(steps * max(0.0, v) / top))] for v in known)


def nice(low: float, high: float, most: int) -> list[float]:
    """At most so many round numbers inside [low, high]."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low or most < 1:
        return []
    raw = (high - low) / most
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10, 20) if (high - low) / (size * m) <= most)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, first + most + 2) if low - 1e-12 <= k * step <= high]


def label(value: float, step: float = 0.0) -> str:
    """A tick: as many digits as tell it from its neighbour."""
    size = abs(value)
    for unit, suffix in SUFFIXES:
        if size >= max(unit, 1e4):
            return f"{value / unit:.4g}{suffix}"
    if size and size < 1e-3:
        return f"{value:.1e}"
    digits = 2
    if step > 0:
        digits = next((d for d in range(8) if abs(round(step, d) - step) < 1e-3 * step), 8)
    return f"{value:.{digits}f}"
