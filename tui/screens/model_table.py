"""Model table: the models of a study as rows: state, pass, last and best validation, time left."""

from __future__ import annotations

import math

from mlxprune.units import short_duration
from mlxprune_tui.drawing.cells import Glyphs
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers.study_grid import GridCell
from mlxprune_tui.screens.phrases import STATE_STYLE
from mlxprune_tui.widgets.table import Column, TableRow

COLUMNS = (
    Column("", most=2, told="state"), Column("model", most=22), Column("pass", True),
    Column("valid", True), Column("best", True), Column("left", True),
)  # fmt: skip
STATES = {"waiting": "pending", "training": "running", "done": "done", "stopped": "stopped"}


def model_row(cell: GridCell, glyphs: Glyphs) -> TableRow:
    state = STATES[cell.state]
    seed = f" s{cell.seed}" if cell.seed is not None else ""
    all_passes = f"/{math.ceil(cell.passes)}" if cell.passes else ""
    passes = f"{cell.pass_number if cell.pass_number is not None else '·'}{all_passes}"
    mark = glyphs.up_mark if cell.memorising is not None else ""
    style = f"arm-{cell.kind}" if cell.kind != "reference" else ""
    left = short_duration(cell.left) if cell.left is not None else ""
    left = "waits" if cell.state == "waiting" else left
    best = f"{cell.best:.3f}@{cell.best_pass}" if cell.best is not None else "-"
    return TableRow(
        cell.model,
        (
            (glyphs.states[state], STATE_STYLE.get(state, "dim")),
            (line_of(cell.arm) + seed, style),
            (passes if passes != "·" else "-", ""),
            (f"{mark}{cell.last:.3f}" if cell.last is not None else "-", "bad" if mark else ""),
            (best, ""),
            (left, "dim"),
        ),
    )


def earlier_row(model: str, last: float | None) -> TableRow:
    """A model of an earlier slice of the folder, dimmed."""
    figures = ("-" if last is None else f"{last:.3f}", "dim")
    label = (f"{line_of(model.partition('/')[2])} (earlier)", "dim")
    return TableRow(model, (("", ""), label, ("", ""), figures, ("", ""), ("", "")))
