"""Terminal card: a test card, so that a terminal shows what it can do before the app is blamed."""

from __future__ import annotations

import os
import shutil

import numpy as np

from mlxprune_tui.drawing import histogram, line_chart
from mlxprune_tui.drawing.cells import GLYPHS, plain, sparkline
from mlxprune_tui.shell import settings


def text(kept: settings.Settings) -> str:
    """Size, colours, what the app would choose, and the same picture in all glyphs."""
    size = shutil.get_terminal_size()
    named = settings.glyphs_of(kept, dict(os.environ))
    lines = [
        f"size       {size.columns} x {size.lines}: {_room(size.columns, size.lines)}",
        f"TERM       {os.environ.get('TERM', '(none)')}, "
        f"COLORTERM {os.environ.get('COLORTERM', '(none)')}, "
        f"NO_COLOR {'set' if os.environ.get('NO_COLOR') else 'not set'}",
        f"theme      {kept.theme or '(by the terminal)'}",
        f"glyphs     {named}: another with --glyphs braille, block or ascii",
        f"settings   {settings.path()}",
    ]
    x = np.linspace(0.1, 10, 200)
    series = [
        line_chart.Series(x, 3 + 4 / x**0.5, "a", "A"),
        line_chart.Series(x, 3.4 + 3 / x**0.5, "b", "B", dashed=True),
    ]
    heights = np.exp(-(np.linspace(-2.5, 2.5, 46) ** 2)) * 100
    inside = (np.arange(46) > 14) & (np.arange(46) < 34)
    for name, glyphs in GLYPHS.items():
        lines += ["", f"{name}:"]
        layers = histogram.Layers(heights, inside.astype(float), heights / 8, heights * 0.8)
        bars = histogram.histogram(layers, 1, 6, 52, 6, glyphs)
        lines += [
            plain(bars),
            plain(line_chart.chart(series, line_chart.frame_of(series), 52, 7, glyphs)),
        ]
        marks = " ".join(f"{mark} {state}" for state, mark in glyphs.states.items())
        lines.append(sparkline([1, 2, 3, 5, 8, 5, 3, 2], 8, glyphs) + "  " + marks)
    lines += ["", "Columns that do not line up: choose a font with even blocks, or other glyphs."]
    return "\n".join(lines)


def _room(cells: int, rows: int) -> str:
    if cells < 60 or rows < 15:
        return "one line of status; 60 x 15 is the least for screens"
    if cells < 100 or rows < 30:
        return "complete; from 100 x 30 there is room for panes side by side"
    return "comfortable"
