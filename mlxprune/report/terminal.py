"""The lines that ``mlxprune run`` prints while it works: one reader of the events among others.

On a terminal the running stage has one line that is redrawn; elsewhere a line every ten seconds.
"""

from __future__ import annotations

from typing import Any

from mlxprune.errors import one_line
from mlxprune.units import short_count

DOMAINS_SHOWN = 20


def print_result(found: dict[str, Any], report_path: str) -> None:
    """The result table, one plain sentence on what to do next, and the report's path."""
    from rich.console import Console as Rich
    from rich.text import Text

    from mlxprune.experiment.comparisons import verdict_sentence
    from mlxprune.experiment.data_efficiency import rho_sentence

    rich = Rich(highlight=False)
    slices = found.get("slices", {})
    if slices:
        first = next(iter(slices.values()))
        table = _mix_table(slices, rich.width) if len(slices) > 1 else _slice_table(first)
        rich.print(table)
        rich.print()
    if found.get("arms"):
        rich.print(_arms_table(found["arms"]))
        rich.print(
            f"held-out bits per byte, lower is better; macro is the mean over {_over(found)};"
        )
        rich.print(
            "worth: fresh tokens that teach as much (predicted); n: seeds; overlap: with the slice"
        )
        for name, why in found.get("left_out", {}).items():
            rich.print(Text(f"{name} is left out: {why}"))
        rich.print()
    if found.get("comparisons"):
        rich.print(_comparisons_table(found["comparisons"]))
        rich.print()
    if found.get("tasks"):
        rich.print(_tasks_table(found["tasks"]["arms"]))
        print("norm: average over guessing, %; one: that of one answer to all;")
        print("clean: norm without items that any arm has seen;")
        print("bits: bits per byte of the right answers")
        for label, why in found["tasks"]["absent"].items():
            print(f"{one_line(label)} is left out: {one_line(why)}")
        rich.print()
    for compared in found.get("comparisons") or []:
        if compared["main"] and "rho" in compared:
            share = rho_sentence(compared["rho"])
            names = compared["arm"], compared["control"]
            print(f"{names[0]} reaches the end of {names[1]} at {share} of its targets")
    rich.print(Text(verdict_sentence(found)))
    print(f"report: {report_path}")


def _over(found: dict[str, Any]) -> str:
    """``12 domains``, or ``10 of 12 domains`` where some have no test document."""
    tests = [s["test"] for a in found["arms"].values() for s in a["seeds"].values() if "test" in s]
    if not tests:
        return "domains"
    held, known = len(tests[0]["domains"]), len(tests[0]["documents"])
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


def _slice_table(facts: dict[str, Any]) -> Any:
    from rich.text import Text

    columns = ("documents", "kept", "tokens", "kept ", "share before", "after")
    table = plain_table(f"slice {facts['name']}", "domain", *columns)
    for row in sorted(facts["domains"], key=lambda r: -r["tokens"])[:DOMAINS_SHOWN]:
        table.add_row(Text(one_line(row["domain"])), *_domain_cells(row))
    table.add_row("all", *_domain_cells(_sum(facts["domains"])), style="bold")
    return table


def _mix_table(slices: dict[str, Any], width: int) -> Any:
    """Shares of the tokens, before and in each slice; no more slices than fit the width."""
    from rich.text import Text

    domains = [row["domain"] for row in next(iter(slices.values()))["domains"]]
    used = 10 + max(6, *(len(one_line(d)) for d in domains))
    shown: list[str] = []
    for name in slices:
        used += 2 + max(len(name), 6)
        if used <= width or not shown:
            shown.append(name)
    more = f"; {len(slices) - len(shown)} more: see the report" if len(slices) > len(shown) else ""
    table = plain_table(f"share of the tokens, %{more}", "domain", "pool", *shown)
    after = {
        name: {row["domain"]: row["share_after"] for row in facts["domains"]}
        for name, facts in slices.items()
    }
    first = next(iter(slices.values()))["domains"]
    for row in sorted(first, key=lambda r: -r["tokens"])[:DOMAINS_SHOWN]:
        shares = [row["share_before"], *(after[name][row["domain"]] for name in shown)]
        table.add_row(Text(one_line(row["domain"])), *(f"{100 * s:.1f}" for s in shares))
    kept = [short_count(slices[name]["kept_tokens"]) for name in shown]
    table.add_row("tokens", short_count(sum(r["tokens"] for r in first)), *kept, style="bold")
    return table


def _arms_table(arms: dict[str, Any]) -> Any:
    columns = ("unique", "targets", "passes", "worth", "n", "overlap", "macro", "mix")
    table = plain_table("arms", "arm", *columns)
    table.padding = (0, 0, 0, 1)  # type: ignore[assignment]
    for name, arm in arms.items():
        figures = [arm["test_macro"], arm["test_original_mix"]]
        table.add_row(
            name,
            short_count(arm["unique_tokens"]),
            short_count(arm["tokens"]),
            f"{arm['passes']:.2f}",
            short_count(arm["effective_tokens"]),
            str(len(arm["seeds"])),
            f"{100 * arm['overlap']:.0f}%" if "overlap" in arm else "",
            *(f"{v:.4f}" if v is not None else "" for v in figures),
        )
    return table


def _tasks_table(arms: dict[str, Any]) -> Any:
    table = plain_table("tasks", "arm", "norm", "interval", "one", "clean", "bits")
    for name, arm in arms.items():
        told = arm["average"]
        clean = arm.get("clean_average")
        table.add_row(
            name,
            f"{100 * told['normalised_accuracy']:.1f}",
            f"{100 * told['normalised_low']:.1f} to {100 * told['normalised_high']:.1f}",
            f"{100 * told['normalised_one_answer']:.1f}",
            f"{100 * clean:.1f}" if clean is not None else "",
            f"{arm['gold_bpb']:.4f}",
        )
    return table


def _comparisons_table(comparisons: list[dict[str, Any]]) -> Any:
    table = plain_table("arm minus control", "", "difference", "interval", "", "shows")
    table.padding = (0, 0, 0, 1)  # type: ignore[assignment]
    table.columns[3].justify = table.columns[4].justify = "left"
    table.columns[4].no_wrap = False
    for row in comparisons:
        low, high = row["interval"]
        table.add_row(
            f"{row['arm']} - {row['control']}",
            f"{row['difference']:+.4f}",
            f"{low:+.4f} {high:+.4f}",
            "one seed" if len(row["seeds"]) == 1 else row["verdict"],
            row["about"],
            style="bold" if row["main"] else None,
        )
    return table


def _domain_cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['documents']:,}",
        f"{row['kept_documents']:,}",
        f"{row['tokens']:,}",
        f"{row['kept_tokens']:,}",
        f"{100 * row['share_before']:.1f} %",
        f"{100 * row['share_after']:.1f} %",
    ]


def _sum(rows: list[dict[str, Any]]) -> dict[str, Any]:
    keys = ("documents", "kept_documents", "tokens", "kept_tokens", "share_before", "share_after")
    return {key: sum(row[key] for row in rows) for key in keys}
