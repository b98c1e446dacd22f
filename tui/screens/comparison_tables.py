"""Comparison tables: a difference by domain, tasks by arm, settings that differ."""

from __future__ import annotations

from mlxprune.experiment.comparisons import Comparison
from mlxprune.experiment.study_result import StudyResult
from mlxprune.experiment.task_results import ArmTasks
from mlxprune.records import plain
from mlxprune.units import plural
from mlxprune_tui.drawing.text import fit, line_of
from mlxprune_tui.readers import run_comparison
from mlxprune_tui.readers.run_comparison import Entry
from mlxprune_tui.widgets.table import Column, TableRow

Rows = tuple[tuple[Column, ...], list[TableRow]]


def domain_rows(compared: Comparison | None) -> tuple[tuple[Column, ...], list[TableRow]]:
    columns = (
        Column("domain", most=24), Column("arm", True), Column("control", True),
        Column("arm - control", True), Column("adds", True), Column("documents", True),
    )  # fmt: skip
    rows = [
        TableRow(
            d.domain,
            (
                (line_of(d.domain), ""), (f"{d.arm:.4f}", ""), (f"{d.control:.4f}", ""),
                (f"{d.arm - d.control:+.4f}", "good" if d.arm < d.control else "bad"),
                (f"{d.adds:+.4f}", ""), (f"{d.documents:,}", "dim"),
            ),
        )
        for d in sorted(
            (compared.domains if compared is not None else None) or [],
            key=lambda d: -abs(d.adds),
        )
    ]  # fmt: skip
    return columns, rows


def task_rows(
    result: StudyResult | None, both: tuple[Entry, Entry] | None
) -> tuple[tuple[Column, ...], list[TableRow]]:
    told = result.tasks.arms if result is not None and result.tasks is not None else {}
    columns = (
        Column("arm", most=24), Column("average", True), Column("95 % interval", True),
        Column("one answer", True), Column("bits per byte", True),
    )  # fmt: skip
    rows = []
    for name, arm in told.items():
        average = arm.average
        low, high = _percent(average.normalised_low), _percent(average.normalised_high)
        bits = f"{arm.gold_bpb:.4f}" if arm.gold_bpb is not None else "-"
        rows.append(
            TableRow(
                name,
                (
                    (line_of(name), ""), (_percent(average.normalised_accuracy), "bold"),
                    (f"{low} to {high}", ""), (_percent(average.normalised_one_answer), ""),
                    (bits, ""),
                ),
            )
        )  # fmt: skip
    rows += _category_rows(told, both)
    if not rows:
        none = "no tasks: evaluation.tasks names none, or none is asked yet"
        return (Column("tasks"),), [TableRow("none", ((none, "dim"),))]
    return columns, rows


def _category_rows(told: dict[str, ArmTasks], both: tuple[Entry, Entry] | None) -> list[TableRow]:
    one, other = (told.get(e.arm) for e in both) if both is not None else (None, None)
    if one is None or other is None:
        return []
    rows = []
    for name, found in one.categories.items():
        against = other.categories.get(name)
        if against is not None:
            a, b = (100 * (c.normalised_accuracy or 0.0) for c in (found, against))
            told_pair = (f"{a:.1f} against {b:.1f}", "")
            rows.append(
                TableRow(
                    f"category {name}",
                    ((f"  {line_of(name)}", "dim"), (f"{a - b:+.1f}", ""), told_pair, ("", ""),
                     ("", "")),
                )
            )  # fmt: skip
    return rows


def setting_rows(both: tuple[Entry, Entry]) -> tuple[tuple[Column, ...], list[TableRow]]:
    one, other = both
    found = run_comparison.differences(plain(one.record) or {}, plain(other.record) or {})
    if one.view is not other.view:
        configs = [e.view.config for e in both]
        trees = [c.model_dump(mode="json") if c is not None else {} for c in configs]
        found = run_comparison.differences(trees[0], trees[1]) + found
    columns = (
        Column("setting", most=36), Column(one.label, most=28), Column(other.label, most=28)
    )  # fmt: skip
    rows = [
        TableRow(f"{n} {key}", ((line_of(key), ""), (fit(line_of(a), 60).rstrip(), ""),
                                (fit(line_of(b), 60).rstrip(), "")))
        for n, (key, a, b) in enumerate(found)
    ]  # fmt: skip
    return columns, rows


def known_of(entry: Entry) -> str:
    words = []
    if entry.curve is not None:
        ended, begun = entry.curve.seeds, entry.curve.begun
        seeds = f"{ended} of {begun} seeds" if ended < begun else plural(ended, "seed")
        words.append(f"validation {entry.curve.mean[-1]:.4f}, {seeds}")
    if entry.macro is not None:
        words.append(f"test {entry.macro:.4f}")
    if entry.record is not None:
        words.append(
            f"{entry.record.unique_tokens:,} unique tokens, {entry.record.passes:.2f} passes"
        )
    return "; ".join(words)


def not_comparable(one: Entry, other: Entry) -> str | None:
    """Why figures of two runs cannot be held against each other, if so."""
    if one.view is other.view:
        return None
    trees = [e.view.config for e in (one, other)]
    if trees[0] is None or trees[1] is None:
        return "a configuration cannot be read: who wins cannot be said"
    a, b = (c.model_dump(mode="json") for c in trees if c is not None)
    for key in ("data", "split", "seed", "tokenizer"):
        if a.get(key) != b.get(key):
            return f"{key} differs: these figures are of other text, no winner can be named"
    return None


def _percent(share: float | None) -> str:
    return f"{100 * share:.1f}" if share is not None else "-"
