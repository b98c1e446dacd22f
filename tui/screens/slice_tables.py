"""Slice tables: what a what-if costs, what it does to the domains, the text around its edge."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlxprune.units import count, short_duration
from mlxprune_tui.drawing.cells import SERIES, Glyphs
from mlxprune_tui.drawing.text import cut, line_of
from mlxprune_tui.readers.live_histogram import LOST
from mlxprune_tui.readers.what_if import WhatIf
from mlxprune_tui.widgets.table import Column, TableRow

Rows = tuple[tuple[Column, ...], list[TableRow]]
PREVIEW_TOKENS = 60
SWEPT = 6  # domains that the sweep draws


def lost_domains(what: WhatIf) -> list[str]:
    whole = what.kept.all_tokens / max(1, int(what.table.all_tokens.sum()))
    return [
        line_of(name)
        for name, own, mine in zip(
            what.table.domains, what.table.all_tokens.tolist(), what.kept.tokens.tolist(),
            strict=True,
        )
        if own and mine / own < LOST * whole
    ]  # fmt: skip


def letter_of(place: int) -> tuple[str, str]:
    """The letter that a domain has in the sweep, and its colour; of the largest alone."""
    return (SERIES[place], SERIES[place].lower()) if place < SWEPT else ("", "")


def cost_rows(what: WhatIf) -> Rows:
    found, before = what.costs(), what.costs(what.own)
    held = what.costs(what.held[0]) if what.held is not None else None
    forms: list[tuple[str, str, Callable[[float], str]]] = [
        ("documents", "documents", lambda v: f"{v:,.0f}"),
        ("tokens", "tokens", lambda v: f"{v:,.0f}"),
        ("passes", "passes", lambda v: f"{v:.2f}"),
        ("worth, tokens", "effective", lambda v: count(v)),
        ("of targets", "targets", lambda v: count(v)),
        ("cost, FLOPs", "flops", lambda v: f"{v:.2e}"),
        ("time, all arms", "seconds", short_duration),
    ]
    columns = (
        Column("", told="figure"), Column("this", True), *((Column("A", True),) if held else ()),
        Column("the run", True),
    )  # fmt: skip
    rows = []
    for name, field, form in forms:
        values = [getattr(found, field), *([getattr(held, field)] if held else []),
                  getattr(before, field)]  # fmt: skip
        cells = [(form(v) if v is not None else "not known", "") for v in values]
        if field == "passes" and found.passes is not None and found.passes > 4:
            cells[0] = (cells[0][0], "warn")
        rows.append(TableRow(name, ((name, "head"), *cells)))
    return columns, rows


def mix_rows(what: WhatIf, glyphs: Glyphs) -> Rows:
    table, kept = what.table, what.kept
    whole, mine_all = max(1, int(table.all_tokens.sum())), max(1, kept.all_tokens)
    lost = set(lost_domains(what))
    columns = (
        Column("", told="letter"), Column("domain", most=18), Column("all", True),
        Column("kept", True), Column("change", True), Column("of its", True),
    )  # fmt: skip
    rows = []
    for place, code in enumerate(np.argsort(-table.all_tokens, kind="stable").tolist()):
        own, mine = int(table.all_tokens[code]), int(kept.tokens[code])
        before, after = 100 * own / whole, 100 * mine / mine_all
        name = line_of(table.domains[code])
        style = "warn" if name in lost else ""
        mark = f" {glyphs.up_mark}" if style else ""
        rows.append(
            TableRow(
                str(code),
                (
                    letter_of(place),
                    ((name[:18], style), (mark, "bad")), (f"{before:.1f} %", ""),
                    (f"{after:.1f} %", ""), (f"{after - before:+.1f}", style),
                    (f"{100 * mine / own:.0f} %" if own else "-", style),
                ),
            )
        )  # fmt: skip
    return columns, rows


def around_rows(what: WhatIf, upper: bool, room: int, skip: int) -> Rows:
    found = what.table.around(what.choice, what.kept, upper, room, skip)
    columns = (
        Column("score", True),
        Column("", told="kept"),
        Column("domain", most=12),
        Column("text"),
    )
    rows = []
    for row, inside in found:
        domain = line_of(what.table.domains[int(what.table.domain[row])])
        document = int(what.numbers[row])
        text = "(not in the corpus)"
        if document >= 0:
            text = line_of(what.texts.text(document, 0, PREVIEW_TOKENS))
        style = "kept" if inside else "dim"
        rows.append(
            TableRow(
                str(row),
                (
                    (f"{what.table.values[row]:.3f}", style), ("K" if inside else "D", style),
                    (domain, style), (cut(text, 160), "" if inside else "dim"),
                ),
            )
        )  # fmt: skip
    return columns, rows
