"""Arm table: the arms of a finished run, as the command line tells them."""

from __future__ import annotations

from mlxprune.experiment.study_result import StudyResult
from mlxprune.units import count
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.widgets.table import Column, TableRow


def arm_rows(result: StudyResult) -> tuple[tuple[Column, ...], list[TableRow]]:
    """The arms of a finished run, as the command line tells them."""
    has_target = any(a.test_target is not None for a in result.arms.values())
    columns = (
        Column("arm", most=24), Column("test, macro", True), Column("passes", True),
        Column("unique", True), Column("seeds", True), Column("worth", True),
        Column("validation", True), Column("original mix", True),
        *((Column("target", True),) if has_target else ()), Column("overlap", True),
    )  # fmt: skip
    rows = []
    for name, arm in result.arms.items():
        overlap = f"{100 * arm.overlap:.0f} %" if arm.overlap is not None else "-"
        cells = [
            (line_of(name) + (" †" if arm.marks else ""), f"arm-{arm.kind}"),
            (_figure(arm.test_macro), "bold"), (f"{arm.passes:.2f}", ""),
            (count(arm.unique_tokens), ""), (str(len(arm.seeds)), ""),
            (count(arm.effective_tokens), ""), (_figure(arm.validation_bpb), ""),
            (_figure(arm.test_original_mix), ""),
            *(((_figure(arm.test_target), ""),) if has_target else ()), (overlap, ""),
        ]  # fmt: skip
        rows.append(TableRow(name, tuple(cells)))
    return columns, rows


def _figure(value: float | None) -> str:
    return f"{value:.4f}" if value is not None else "-"
