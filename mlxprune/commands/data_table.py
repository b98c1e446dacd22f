"""Data table: what `init` has found in the files, file by file, on stderr."""

from __future__ import annotations

import sys

from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text

from mlxprune.data.sources import notes_on_files
from mlxprune.errors import one_line
from mlxprune.planning.draft_config import DataLook
from mlxprune.planning.file_look import FileLook

SHOWN_FILES = 30  # then files of one layout share a row
DOMAINS_SHOWN = 12
WIDTH = 100  # where nobody looks


def print_look(seen: DataLook) -> None:
    """The table, some rows of every layout, what is left out, and the domains."""
    out = RichConsole(stderr=True, highlight=False, soft_wrap=False)
    if not sys.stderr.isatty():
        out = RichConsole(stderr=True, highlight=False, width=WIDTH, no_color=True)
    groups = _groups(seen.files)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("file", "format", "rows", "text MB", "text", "id", "domain"):
        table.add_column(name, justify="right" if name in ("rows", "text MB") else "left")
    for group in groups:
        table.add_row(*map(Text, _cells(group)))
    out.print(table)
    for group in groups:
        first = group[0]
        if first.problem:
            continue
        out.print(Text(f"\n{one_line(first.name)}"))
        for identity, domain, text in first.shown:
            line = f"  {one_line(identity or '-')[:24]} | {one_line(domain)[:20]} | {text}"
            out.print(Text(line), overflow="ellipsis", no_wrap=True)
    out.print()
    for note in notes_on_files(seen.found):
        out.print(Text(one_line(note)))
    for problem in seen.problems:
        told = f"not used: {problem.path}: {problem.problem}; {problem.fix}"
        out.print(Text(one_line(told)))
    ranked = sorted(seen.domains.items(), key=lambda d: -d[1])
    names = ", ".join(f"{one_line(d)} {n:,}" for d, n in ranked[:DOMAINS_SHOWN])
    more = ", ..." if len(ranked) > DOMAINS_SHOWN else ""
    out.print(Text(f"domains    {names}{more} (about)"))
    out.print(Text(f"text       about {seen.bytes / 1e6:,.1f} MB"))


def _groups(files: list[FileLook]) -> list[list[FileLook]]:
    """Every file for itself; of many files, those of one layout together."""
    if len(files) <= SHOWN_FILES:
        return [[file] for file in files]
    alike: dict[object, list[FileLook]] = {}
    for file in files:
        what = file.problem or (file.source.entry, file.source.form, file.keys)
        alike.setdefault(what, []).append(file)
    return [*alike.values()]


def _cells(group: list[FileLook]) -> list[str]:
    first = group[0]
    name = one_line(first.name)
    name = name if len(group) == 1 else f"{name} and {len(group) - 1:,} more"
    rows, exact = sum(file.rows for file in group), all(file.exact for file in group)
    if first.problem:
        return [name, first.source.form, "", "", "not used", "", ""]
    if first.source.form == "text":
        keys = ["the file", "its name", "its folder"]
    else:
        keys = [
            ", ".join(first.keys.text),
            first.keys.id if first.has_id else "from the text",
            f"host of {first.keys.domain}" if first.keys.host else first.keys.domain,
        ]
        if first.keys.domain == "auto":
            names = [*first.domains]
            keys[2] = one_line(names[0]) if len(names) == 1 else f"{len(names)} names"
    size = sum(file.bytes for file in group) / 1e6
    about = "" if exact else "~"
    counted = f"{about}{rows:,.0f}"
    if (without := round(rows - sum(file.documents for file in group))) > 0:
        counted += f" ({about}{without:,} without text)"
    return [name, first.source.form, counted, f"{size:,.1f}", *map(one_line, keys)]
