"""Exporting: a table, a picture or a text of the app as a file, by the name that it is given."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from mlxprune.files import write_atomic
from mlxprune_tui.drawing.cells import Line, length, plain
from mlxprune_tui.drawing.text import line_of

TABLE_SUFFIXES = (".csv", ".md", ".json", ".txt")
PICTURE_SUFFIXES = (".svg", ".txt")
# Without the fonts that a page that shows it would fetch from elsewhere.
SVG_FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
BLACK = TerminalTheme((18, 18, 18), (224, 224, 224), [(0, 0, 0)] * 8, [(128, 128, 128)] * 8)


def table_text(rows: Sequence[Sequence[str]], suffix: str) -> str:
    """Head and rows as CSV, a Markdown table, JSON, or text in columns."""
    rows = [[line_of(cell).strip() for cell in row] for row in rows]
    if suffix == ".csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(rows)
        return out.getvalue()
    if suffix == ".json":
        head = rows[0]
        told = [dict(zip(head, row, strict=True)) for row in rows[1:]]
        return json.dumps(told, ensure_ascii=False, indent=1) + "\n"
    if suffix == ".md":
        safe = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        lines = [f"| {' | '.join(row)} |" for row in safe]
        return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return (
        "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )
        + "\n"
    )


def picture_text(lines: Sequence[Line], ink: Mapping[str, Style], suffix: str, title: str) -> str:
    """A picture as SVG, or as text."""
    if suffix == ".txt":
        return plain(lines) + "\n"
    cells = max((length(line) for line in lines), default=1)
    console = Console(
        record=True, width=max(cells, 20), file=io.StringIO(), force_terminal=True,
        color_system="truecolor", legacy_windows=False,
    )  # fmt: skip
    for line in lines:
        text = Text(no_wrap=True, overflow="crop")
        for words, style in line:
            text.append(line_of(words) if not words.isprintable() else words, ink.get(style, ""))
        console.print(text)
    return console.export_svg(title=title, theme=BLACK, code_format=SVG_FORMAT)


def save(path: Path, text: str) -> str:
    """Write it, under the next free name where there is such a file; a sentence on how it went."""
    number, wanted = 2, path
    while path.exists():
        path, number = wanted.with_stem(f"{wanted.stem}-{number}"), number + 1
    try:
        write_atomic(path, text)
    except OSError as error:
        return f"cannot write {path}: {error.strerror or error}"
    return f"wrote {path}"
