"""Lines of a document: all of it, none broken badly, every match lit where it is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxprune.config.loading import load_config
from mlxprune.run.folder import RunFolder
from mlxprune_tui.drawing.text import visible, width
from mlxprune_tui.readers import document_lines, document_table
from mlxprune_tui.readers.document_lines import DocumentLines, broken, shaded


@given(st.text("ab \n\u4f60", max_size=200), st.integers(2, 40))
def test_lines_are_the_text(text: str, cells: int) -> None:
    spans = broken(text, cells)
    assert all(width(text[a:b]) <= cells for a, b in spans)
    # Between two lines there is at most the blank or the end of line that they are broken at.
    at = 0
    for first, stop in spans:
        assert text[at:first] in ("", " ", "\n")
        at = stop
    assert at == len(text)


def test_words_are_not_cut_where_they_fit() -> None:
    text = "one two three four five six seven"
    lines = [text[a:b] for a, b in broken(text, 11)]
    assert lines == ["one two", "three four", "five six", "seven"]
    long = "charmap_encode(input,errors,en|coding_table) x"
    assert next(long[a:b] for a, b in broken(long, 20)) == long[:20]


@pytest.fixture(scope="module")
def held(tiny_run: RunFolder) -> document_table.DocumentTable:
    return document_table.open_document_table(tiny_run, load_config(tiny_run.config))


@pytest.mark.parametrize("chunk", [7, 50_000])
def test_all_of_a_document_is_read(
    held: document_table.DocumentTable, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is cut into stretches."""
    monkeypatch.setattr(document_lines, "CHUNK_TOKENS", chunk)
    for row in range(0, len(held), 11):
        document = int(held.numbers[row])
        lines = DocumentLines(held.texts, document, 40)
        lines.read_to(1)
        lines.read_all()
        whole = visible(held.texts.text(document, 0, 100_000)).replace("\t", "    ")
        assert lines.text == whole
        assert lines.spans == broken(whole, 40)


def test_every_match_is_lit_where_it_stands(held: document_table.DocumentTable) -> None:
    row = int(np.argmax(held.tokens))
    lines = DocumentLines(held.texts, int(held.numbers[row]), 30)
    count = lines.search("E")
    assert count == len(re.findall("e", lines.text, re.IGNORECASE))
    lit = "".join(
        text for n in range(len(lines.spans)) for text, style in lines.line(n) if style == "match"
    )
    assert lit.lower() == "e" * count
    for number in range(0, count, 7):
        line = lines.line(lines.line_of_match(number), number)
        assert "match_here" in [style for _, style in line]
    assert lines.search("no such words at all") == 0


def test_a_match_may_go_over_the_end_of_a_line(held: document_table.DocumentTable) -> None:
    lines = DocumentLines(held.texts, int(held.numbers[0]), 10)
    lines.read_all()
    words = " ".join(lines.text.split()[:4])
    if "\n" not in lines.text[: len(words)]:
        assert lines.search(words) >= 1
        styles = [style for n in range(4) for _, style in lines.line(n)]
        assert styles.count("match") >= 2


def test_a_new_width_keeps_the_text(held: document_table.DocumentTable) -> None:
    lines = DocumentLines(held.texts, int(held.numbers[3]), 60)
    lines.read_all()
    before = lines.text
    lines.rewrap(17)
    assert lines.text == before
    assert all(width(before[a:b]) <= 17 for a, b in lines.spans)
    place = lines.spans[len(lines.spans) // 2][0]
    assert lines.line_of_place(place) == len(lines.spans) // 2


def test_shades_are_warmer_for_larger_losses() -> None:
    (line,), begins = shaded(["a", "b", "c"], [0.1, 20.0, None], 40)
    assert [style for _, style in line] == ["heat0", "heat5", "dim"]
    assert begins == [0, 0, 0]
    (line,), _ = shaded(["\x1b[31m"], [1.0], 40)
    assert "\x1b" not in line[0][0]
    lines, begins = shaded(["one", " two", "\nthree"], [1.0] * 3, 5)
    assert len(lines) == 3
    assert begins == [0, 0, 1]


def test_a_file_of_the_run_is_only_read(tiny_run: RunFolder, tmp_path: Path) -> None:
    held = document_table.open_document_table(tiny_run, load_config(tiny_run.config))
    told, stop = held.texts.stretch(int(held.numbers[0]), 0, 10**9)
    assert stop == len(held.texts.tokens.document(int(held.numbers[0])))
    assert told == held.texts.text(int(held.numbers[0]), 0, 10**9)
