"""What a study found, as tables on a terminal."""

from __future__ import annotations

import shlex
import sys
from typing import Any

from msgspec import UnsetType

from mlxprune.errors import one_line
from mlxprune.experiment.comparisons import Comparison
from mlxprune.experiment.document_account import account_sentence
from mlxprune.experiment.study_result import ArmResult, StudyResult
from mlxprune.experiment.task_results import ArmTasks
from mlxprune.report.handover import handover_commands
from mlxprune.selection.composition import DomainRow
from mlxprune.selection.manifest import SliceManifest
from mlxprune.units import short_count

DOMAINS_SHOWN = 20


def print_result(result: StudyResult, report_path: str) -> None:
    """The result table, one plain sentence on what to do next, and the report's path."""
    from rich.console import Console as Rich
    from rich.text import Text

    rich = Rich(highlight=False)
    if result.slices:
        first = next(iter(result.slices.values()))
        several = len(result.slices) > 1
        rich.print(_mix_table(result.slices, rich.width) if several else _slice_table(first))
        rich.print()
    if result.arms:
        rich.print(_arms_table(result.arms))
        rich.print(
            f"held-out bits per byte, lower is better; macro is the mean over {_over(result)};"
        )
        rich.print(
            "worth: fresh tokens that teach as much (predicted); n: seeds; overlap: with the slice"
        )
        for name, arm in result.arms.items():
            if arm.marks:
                rich.print(Text(f"! {name}: {'; '.join(arm.marks)}"))
        for name, why in result.left_out.items():
            rich.print(Text(f"{name} is left out: {why}"))
        rich.print()
    if result.comparisons:
        rich.print(_comparisons_table(result.comparisons))
        for line in shorter_lines(result.comparisons):
            rich.print(Text(line))
        rich.print()
    if result.tasks is not None:
        rich.print(_tasks_table(result.tasks.arms))
        print("norm: average over guessing, %; one: that of one answer to all;")
        print("clean: norm without items that any arm has seen;")
        print("bits: bits per byte of the right answers")
        for label, why in result.tasks.absent.items():
            print(f"{one_line(label)} is left out: {one_line(why)}")
        rich.print()
    if result.account is not None:
        rich.print(Text(account_sentence(result.account)))
    _print_conclusion(rich, result)
    print(f"report: {report_path}")
    print_handover(result)
    if sys.platform == "darwin":
        print(f"open it: open {shlex.quote(report_path)}")


def _print_conclusion(rich: Any, result: StudyResult) -> None:
    """What was found, why, what it saves, what weakens it, and the next command."""
    from rich.text import Text

    told = result.conclusion
    if told is None:
        return
    rich.print(Text(told.lead))
    for sentence in told.reasons:
        rich.print(Text(sentence))
    if result.trust is not None and result.trust.doubts:
        rich.print(Text(f"Mind: {'; '.join(result.trust.doubts)}."))
    if told.next_step:
        rich.print(Text(f"Next: {told.next_step}"))
    if told.command:
        print(f"  {told.command}")


def print_handover(result: StudyResult) -> None:
    """The commands that hand over the text of the best slice, or of the first."""
    words = ("the kept text:", "of new text:  ")
    for what, command in zip(words, handover_commands(result), strict=False):
        print(what, command)


def _over(result: StudyResult) -> str:
    """``12 domains``, or ``10 of 12 domains`` where some have no test document."""
    tests = [test for arm in result.arms.values() for test in arm.tests]
    if not tests:
        return "domains"
    held, known = len(tests[0].domains), len(tests[0].documents)
    return f"{held} domains" if held == known else f"{held} of {known} domains"


def plain_table(title: str, *columns: str) -> Any:
    """A plain table whose first column is text that is never cut."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _slice_table(manifest: SliceManifest) -> Any:
    from rich.text import Text

    columns = ("documents", "kept", "tokens", "kept ", "share before", "after")
    table = plain_table(f"slice {manifest.name}", "domain", *columns)
    rows = manifest.domains or []
    for row in sorted(rows, key=lambda r: -r.tokens)[:DOMAINS_SHOWN]:
        table.add_row(Text(one_line(row.domain)), *_domain_cells([row]))
    table.add_row("all", *_domain_cells(rows), style="bold")
    return table


def _mix_table(slices: dict[str, SliceManifest], width: int) -> Any:
    """Shares of the tokens, before and in each slice; no more slices than fit the width."""
    from rich.text import Text

    first = next(iter(slices.values())).domains or []
    used = 10 + max(6, *(len(one_line(row.domain)) for row in first))
    shown: list[str] = []
    for name in slices:
        used += 2 + max(len(name), 6)
        if used <= width or not shown:
            shown.append(name)
    more = f"; {len(slices) - len(shown)} more: see the report" if len(slices) > len(shown) else ""
    table = plain_table(f"share of the tokens, %{more}", "domain", "pool", *shown)
    after = {
        name: {row.domain: row.share_after for row in manifest.domains or []}
        for name, manifest in slices.items()
    }
    for row in sorted(first, key=lambda r: -r.tokens)[:DOMAINS_SHOWN]:
        shares = [row.share_before, *(after[name][row.domain] for name in shown)]
        table.add_row(Text(one_line(row.domain)), *(f"{100 * s:.1f}" for s in shares))
    kept = [short_count(slices[name].kept_tokens or 0) for name in shown]
    table.add_row("tokens", short_count(sum(r.tokens for r in first)), *kept, style="bold")
    return table


def _arms_table(arms: dict[str, ArmResult]) -> Any:
    columns = ("unique", "targets", "passes", "worth", "n", "overlap", "macro", "mix")
    table = plain_table("arms", "arm", *columns)
    table.padding = (0, 0, 0, 1)  # type: ignore[assignment]
    for name, arm in arms.items():
        figures = [arm.test_macro, arm.test_original_mix]
        table.add_row(
            f"{name} !" if arm.marks else name,
            short_count(arm.unique_tokens),
            short_count(arm.tokens),
            f"{arm.passes:.2f}",
            short_count(arm.effective_tokens),
            str(len(arm.seeds)),
            f"{100 * arm.overlap:.0f}%" if arm.overlap is not None else "",
            *(f"{v:.4f}" if v is not None else "" for v in figures),
        )
    return table


def _tasks_table(arms: dict[str, ArmTasks]) -> Any:
    table = plain_table("tasks", "arm", "norm", "interval", "one", "clean", "bits")
    for name, arm in arms.items():
        clean = None if isinstance(arm.clean_average, UnsetType) else arm.clean_average
        table.add_row(
            name,
            _percent(arm.average.normalised_accuracy),
            f"{_percent(arm.average.normalised_low)} to {_percent(arm.average.normalised_high)}",
            _percent(arm.average.normalised_one_answer),
            _percent(clean),
            f"{arm.gold_bpb:.4f}",
        )
    return table


def _comparisons_table(comparisons: list[Comparison]) -> Any:
    table = plain_table("arm minus control", "", "difference", "interval", "", "shows")
    table.padding = (0, 0, 0, 1)  # type: ignore[assignment]
    table.columns[3].justify = table.columns[4].justify = "left"
    table.columns[4].no_wrap = False
    for row in comparisons:
        low, high = row.interval
        table.add_row(
            f"{row.arm} - {row.control}",
            f"{row.difference:+.4f}",
            f"{low:+.4f} {high:+.4f}",
            row.verdict.short,
            row.about,
            style="bold" if row.main else None,
        )
    return table


def shorter_lines(comparisons: list[Comparison]) -> list[str]:
    """What each slice differs by from its control at shorter budgets, one line an end."""
    lines = []
    for row in comparisons:
        for end in (row.shorter or []) if row.main else []:
            low, high = end.difference.interval
            lines.append(
                f"at {short_count(end.targets)} targets ({end.a_parameter:.0f} a parameter): "
                f"{row.arm} - {row.control} {end.difference.difference:+.4f} "
                f"({low:+.4f} to {high:+.4f}), {end.difference.verdict.short}"
            )
    return lines


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _domain_cells(rows: list[DomainRow]) -> list[str]:
    """The figures of a domain, or the sums over all."""
    return [
        f"{sum(row.documents for row in rows):,}",
        f"{sum(row.kept_documents for row in rows):,}",
        f"{sum(row.tokens for row in rows):,}",
        f"{sum(row.kept_tokens for row in rows):,}",
        f"{100 * sum(row.share_before for row in rows):.1f} %",
        f"{100 * sum(row.share_after for row in rows):.1f} %",
    ]
