"""Intervals and parts stand where their numbers say, at any size."""

from __future__ import annotations

import numpy as np
import pytest

from mlxprune_tui.drawing.cells import GLYPHS, Line, length, plain
from mlxprune_tui.drawing.intervals import Interval, PartOf, forest, waterfall

SIZES = ((1, 1), (10, 3), (40, 8), (78, 14), (198, 40))


def interval(name: str, low: float, high: float) -> Interval:
    middle = (low + high) / 2
    return Interval(name, middle, low, high, "o", "arm-pruned", f"{middle:+.3f} worse", "bad")


def exact(lines: list[Line], cells: int, rows: int) -> None:
    assert len(lines) == rows
    assert all(length(line) == cells for line in lines)


@pytest.mark.parametrize("size", SIZES)
def test_they_fill_their_size(size: tuple[int, int]) -> None:
    cells, rows = size
    drawn = [interval("a" * 60, -1, 2), interval("\u4f60" * 30, 0.1, 0.2), interval("c", 0, 0)]
    parts = [PartOf("\u4f60" * 30, 1.0), PartOf("b", -0.5), PartOf("c" * 90, 0.0)]
    for glyphs in GLYPHS.values():
        exact(forest(drawn, 0.3, cells, rows, glyphs, 1), cells, rows)
        exact(forest([], None, cells, rows, glyphs), cells, rows)
        exact(waterfall(parts, cells, rows, glyphs), cells, rows)
        exact(waterfall([], cells, rows, glyphs), cells, rows)


@pytest.mark.parametrize("trial", range(10))
def test_ends_and_zero_stand_at_their_values(trial: int, generator: np.random.Generator) -> None:
    """On one axis: places are as far apart as the numbers, to half a cell."""
    glyphs = GLYPHS["ascii"]
    middles, halves = generator.normal(0.5, 1, 4), generator.uniform(0.2, 1.5, 4)
    ends = np.stack([middles - halves, middles + halves], axis=1)  # each wide enough to be drawn
    rows = [interval(f"r{n}", float(a), float(b)) for n, (a, b) in enumerate(ends)]
    lines = plain(forest(rows, None, 160, 6, glyphs)).split("\n")
    zero = lines[0].index("0")
    known = []
    for line, (low, high) in zip(lines[1:5], ends.tolist(), strict=True):
        known += [(line.index("["), low), (line.rindex("]"), high)]
    (x0, v0), (x1, v1) = min(known), max(known)
    scale = (x1 - x0) / (v1 - v0)
    for x, value in [*known, (zero, 0.0)]:
        assert abs(x - (x0 + (value - v0) * scale)) <= 1.5


def test_the_side_of_zero_is_named() -> None:
    lines = plain(forest([interval("a", -1, 1)], 0.5, 100, 4, GLYPHS["ascii"])).split("\n")
    assert lines[0].index("better") < lines[0].index("0") < lines[0].index("worse")
    assert "." in lines[1]  # the noise band


@pytest.mark.parametrize("trial", range(10))
def test_parts_add_up(trial: int, generator: np.random.Generator) -> None:
    """However many rows there are: what has none is in one row, and the last is the whole."""
    parts = [PartOf(f"d{n}", float(v)) for n, v in enumerate(generator.normal(0.1, 1, 12))]
    whole = sum(p.adds for p in parts)
    for rows in (3, 6, 13, 20):
        lines = [line for line in plain(waterfall(parts, 100, rows, GLYPHS["braille"])).split("\n")
                 if line.strip()]  # fmt: skip
        told = [float(line.split()[-1]) for line in lines]
        assert told[-1] == pytest.approx(whole, abs=6e-4)
        assert sum(told[:-1]) == pytest.approx(whole, abs=6e-4 * len(told))
        assert lines[-1].startswith("together")
        sizes = [abs(v) for v in told[:-1]]
        named = sizes if rows >= 13 else sizes[:-1]
        assert named == sorted(named, reverse=True)


def test_a_fall_differs_from_a_rise_without_colour() -> None:
    lines = plain(waterfall([PartOf("a", 2.0), PartOf("b", -1.0)], 60, 3, GLYPHS["braille"]))
    rise, fall, _ = lines.split("\n")
    assert GLYPHS["braille"].kept in rise
    assert GLYPHS["braille"].dropped in fall
