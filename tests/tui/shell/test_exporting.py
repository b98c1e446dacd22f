"""What is written is what was shown, in the form that its name asks for."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from textual.theme import BUILTIN_THEMES

from mlxprune_tui.drawing.cells import Line
from mlxprune_tui.drawing.colours import styles
from mlxprune_tui.shell import exporting

ROWS = [["arm", "test"], ["high-50", "3.1"], ['odd, "name" | \x1b[31m', "-"]]


def test_tables_are_read_back() -> None:
    safe = [[cell.replace("\x1b", "\\x1b") for cell in row] for row in ROWS]
    assert list(csv.reader(io.StringIO(exporting.table_text(ROWS, ".csv")))) == safe
    assert json.loads(exporting.table_text(ROWS, ".json"))[0] == {"arm": "high-50", "test": "3.1"}
    lines = exporting.table_text(ROWS, ".md").splitlines()
    assert lines[1] == "|---|---|"
    assert "\\|" in lines[3]
    assert exporting.table_text(ROWS, ".txt").splitlines()[1].split() == ["high-50", "3.1"]


def test_a_picture_holds_its_text_and_fetches_nothing() -> None:
    lines: list[Line] = [[("kept ", "kept"), ("<script>", "dropped")], [("\x1b[2J", "")]]
    svg = exporting.picture_text(lines, styles(BUILTIN_THEMES["textual-dark"]), ".svg", "a <b>")
    assert svg.startswith("<svg")
    assert "&lt;script&gt;" in svg
    assert "font-face" not in svg
    assert "\x1b" not in svg
    assert exporting.picture_text(lines, {}, ".txt", "").startswith("kept <script>")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    assert "wrote" in exporting.save(path, "a")
    assert "x-2.csv" in exporting.save(path, "b")
    assert "x-3.csv" in exporting.save(path, "c")
    assert (path.read_text(), (tmp_path / "x-3.csv").read_text()) == ("a", "c")
    assert "cannot write" in exporting.save(path / "x.csv", "a")


@pytest.mark.parametrize("suffix", exporting.TABLE_SUFFIXES)
def test_an_empty_table_is_its_head(suffix: str) -> None:
    assert exporting.table_text([["a", "b"]], suffix)
