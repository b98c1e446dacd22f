"""The strip of passes: every number in its column, the best marked, the last ones kept."""

from __future__ import annotations

import pytest

from mlxprune_tui.drawing.cells import GLYPHS, length, plain
from mlxprune_tui.drawing.pass_strip import PassCell, pass_strip

BRAILLE = GLYPHS["braille"]


def passes(count: int, best: int) -> list[PassCell]:
    return [PassCell(n, 5.0 - n / 10, 4.0 + abs(n - best) / 10, 1 / n) for n in range(1, count + 1)]


@pytest.mark.parametrize("size", [(1, 1), (20, 2), (80, 3), (118, 5), (198, 7)])
def test_it_fills_its_size(size: tuple[int, int]) -> None:
    cells, rows = size
    for count in (0, 1, 5, 80):
        lines = pass_strip(passes(count, 3), True, cells, rows, BRAILLE)
        assert len(lines) == rows
        assert all(length(line) == cells for line in lines if line)


def test_every_pass_has_its_numbers() -> None:
    lines = plain(pass_strip(passes(6, 4), True, 80, 5, BRAILLE)).split("\n")
    assert lines[0].split() == ["pass", "1", "2", "3", "4", "5", "6"]
    assert lines[1].split()[1:] == ["4.900", "4.800", "4.700", "4.600", "4.500", "4.400"]
    assert lines[2].split()[1:] == ["4.300", "4.200", "4.100", "\u25bc4.000", "4.100", "4.200"]
    assert lines[3].split()[-1] == "\u25b2-0.200"
    assert lines[4].split()[2:4] == ["1.00", ".50"]


def test_memorising_is_told_by_a_sign_and_a_colour() -> None:
    for memorising, style in ((True, "bad"), (False, "warn")):
        gap = pass_strip(passes(6, 4), memorising, 80, 5, BRAILLE)[3]
        marked = [s for text, s in gap if "\u25b2" in text]
        assert marked == [style] * 2


def test_of_many_the_first_the_best_and_the_last_are_shown() -> None:
    lines = plain(pass_strip(passes(80, 20), True, 80, 5, BRAILLE)).split("\n")
    numbers = [int(w) for w in lines[0].split()[1:]]
    assert numbers[0] == 1
    assert 20 in numbers
    assert numbers[-1] == 80
    assert numbers == sorted(numbers)


def test_a_pass_without_a_validation_is_not_left_out() -> None:
    lines = plain(pass_strip([PassCell(1, 3.0, None, 1.0)], False, 60, 4, BRAILLE)).split("\n")
    assert lines[2].split() == ["validation", "-"]
