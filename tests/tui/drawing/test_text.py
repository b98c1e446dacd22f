from __future__ import annotations

import numpy as np
import pytest
from rich.style import Style

from mlxprune_tui.drawing import colours
from mlxprune_tui.drawing.text import (
    INVISIBLE,
    MARKS_IN_A_ROW,
    cut,
    fit,
    line_of,
    visible,
    width,
    wrap,
)

HOSTILE = [
    "\x1b[2J\x1b]0;title\x07", "a\u202eb\u2066c", "zero\u200bwidth\u200d\ufeff",
    "e" + 20 * "\u0301", "\u2764\ufe0f", "\x9b31m", "\x00\x7f", "a\u2028b\u2029c",
    "\U000e0041", "\ud800", "\u1160" * 9, "\u3164",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_terminal_would_obey_is_written_out(text: str) -> None:
    shown = visible(text)
    assert all(c.isprintable() or c in "\n\t" for c in shown)
    assert "\x1b" not in shown
    assert not set(shown) & set(INVISIBLE)
    assert not any(0x200B <= ord(c) <= 0x202E or 0x2066 <= ord(c) <= 0x2069 for c in shown)
    assert shown.count("\u0301") <= MARKS_IN_A_ROW
    assert line_of(text).isprintable()


def test_the_last_wall_before_the_terminal() -> None:
    known = {"": Style()}
    strip = colours.strip([("a\x1b[2Jb", ""), ("\u202e", "")], 30, known)
    assert strip.text.isprintable()
    assert strip.cell_length == 30


def test_what_is_harmless_stays() -> None:
    for text in ("plain", "caf\u00e9 cafe\u0301", "\u4f60\u597d", "a\tb\nc", "\U0001f600"):
        assert visible(text) == text


@pytest.mark.parametrize(
    "text", ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0915\u094d\u200d\u0937"]
)
def test_joiners_stay_where_a_script_is_written_with_them(text: str) -> None:
    """Persian and Hindi words are not words without."""
    assert visible(text) == text
    assert line_of(text) == text
    assert width(fit(text, 12)) == 12


def test_joiners_that_hide_are_written_out() -> None:
    assert visible("pass\u200dword") == "pass\\u200dword"
    assert visible("\u200dx") == "\\u200dx"
    assert visible("x\u200c") == "x\\u200c"
    family = visible("\U0001f469\u200d\U0001f467")
    assert family == "\U0001f469\u2040\U0001f467"


@pytest.mark.parametrize("trial", range(20))
def test_texts_fit_exactly(trial: int, generator: np.random.Generator) -> None:
    letters = ["a", "\u4f60", "\U0001f600", "e\u0301", " ", "-"]
    text = "".join(generator.choice(letters, int(generator.integers(0, 60))))
    for cells in (1, 2, 5, 20, 80):
        assert width(fit(text, cells)) == cells
        assert width(fit(text, cells, right=True)) == cells
        assert width(cut(text, cells)) <= cells
        for line in wrap(text, max(2, cells), 100):
            assert width(line) <= max(2, cells)


def test_wrapping_loses_nothing() -> None:
    text = "a word and another\n\n\tand a very-long-word-that-does-not-fit-anywhere end"
    lines = wrap(text, 12, 100)
    assert "".join(lines) == text.replace("\n", "").replace("\t", "    ")
    assert len(wrap(text, 12, 3)) == 3
