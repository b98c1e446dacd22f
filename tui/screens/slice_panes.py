"""Slice panes: which bars a what-if slice keeps, and what it does to the domains."""

from __future__ import annotations

import numpy as np

from mlxprune.config.slices import Slice
from mlxprune_tui.drawing import histogram
from mlxprune_tui.drawing.cells import Glyphs, Line, pad, table
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers.slice_preview import Kept, Table

LOST = 0.2  # a domain that keeps less than this of what the slice keeps of all is marked


def bars(
    found: Table, choice: Slice, kept: Kept, cells: int, rows: int, glyphs: Glyphs
) -> list[Line]:
    """The histogram of the ranked figure with what is kept, and the band under it."""
    edges = found.edges
    counts = found.heights(choice)
    low, high = float(edges[0]), float(edges[-1])
    columns = histogram.columns_of(cells)
    heights = histogram.rebinned(counts, edges, low, high, columns)
    inside = histogram.rebinned(counts * kept.columns, edges, low, high, columns)
    share = np.divide(inside, heights, out=np.zeros(columns), where=heights > 0)
    lines = histogram.histogram(heights, share, low, high, cells, rows - 1, glyphs)
    cuts = found.cut_values(choice, kept)
    if cuts is None:
        told = "ranked inside groups: solid where more than half is kept"
        if kept.spans is None:
            told = "no interval of one order: solid where more than half is kept"
        return [*lines, pad([("      " + told, "dim")], cells)]
    first = cuts[0] if cuts[0] > low else low
    last = cuts[1] if cuts[1] < high else high
    return [*lines, histogram.band(first, last, low, high, choice.label, cells)]


def mix(found: Table, kept: Kept, cells: int, rows: int) -> list[Line]:
    """Every domain's share of the tokens before and after, the largest first."""
    all_tokens = max(1, int(found.all_tokens.sum()))
    kept_tokens = max(1, kept.all_tokens)
    order = np.argsort(-found.all_tokens, kind="stable").tolist()
    told, lost = [], []
    for code in order[: max(1, rows - 1)]:
        own, mine = int(found.all_tokens[code]), int(kept.tokens[code])
        lost.append(own > 0 and mine * all_tokens < LOST * own * kept_tokens)
        before, after = 100 * own / all_tokens, 100 * mine / kept_tokens
        told.append(
            (
                line_of(found.domains[code]) + (" !" if lost[-1] else ""),
                f"{before:.1f}",
                f"{after:.1f}",
                f"{after - before:+.1f}",
                f"{100 * mine / own:.0f}%" if own else "-",
            )
        )
    head = ("domain", "all", "kept", "change", "of its")
    return table(told, head, cells, style=lambda row: "warn" if lost[row] else "")
