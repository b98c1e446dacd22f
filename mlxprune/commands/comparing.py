"""The command that holds runs against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlxprune.commands.options import AsJson, print_json
from mlxprune.errors import one_line
from mlxprune.files import write_atomic

if TYPE_CHECKING:
    from mlxprune.report.run_table import RunTable


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders, two or more")],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="write the table as a page, too")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold runs side by side: their slices, what they save, what differs in their settings; over
    different corpora, whether the best criterion flips."""
    from mlxprune.report.run_table import run_table, table_page

    table = run_table(runs)
    if html is not None:
        write_atomic(html, table_page(table))
    if as_json:
        print_json(table)
    else:
        print_run_table(table)
        if html is not None:
            print(html)


def print_run_table(table: RunTable) -> None:
    from rich.console import Console as Rich
    from rich.text import Text

    rich = Rich(highlight=False)
    names = [f"{one_line(row.run)}: {row.slice}" for row in table.slices]
    width = max(map(len, names))
    print("slices against their random controls, bits per byte; *: the run's verdict is on it")
    print(f"  {'':<{width}}  difference  95 % interval     verdict     rho   net")
    for name, row in zip(names, table.slices, strict=True):
        low, high = row.interval
        net = "" if row.net_saving is None else f"{100 * row.net_saving:+.0f} %"
        rho = "" if row.rho is None else row.rho.partition(" ")[0]
        print(
            f"{'*' if row.best else ' '} {name:<{width}}  {row.difference:+10.4f}  "
            f"{low:+.4f} {high:+.4f}  {row.verdict.short:<10}  {rho:<5} {net}".rstrip()
        )
    for note in table.notes:
        rich.print(Text(note))
    if table.by_corpus is not None:
        print()
        for sentence in table.by_corpus.sentences:
            rich.print(Text(sentence))
    if table.repeated:
        count = len(table.runs)
        print()
        print(f"over {count} studies that differ in their seed alone (split, reference, arms):")
        for repeat in table.repeated:
            interval = ""
            if repeat.interval is not None:
                interval = f" (95 %: {repeat.interval[0]:+.4f} to {repeat.interval[1]:+.4f})"
            print(f"  {repeat.slice}: {repeat.difference:+.4f}{interval}")
    print()
    print("what differs in their configurations:")
    for key, values in table.differing.items():
        told = ", ".join(f"{one_line(run)} {value}" for run, value in values.items())
        rich.print(Text(f"  {key}: {told}"))
