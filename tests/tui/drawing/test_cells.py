from __future__ import annotations

import math
import re

import numpy as np
import pytest

from mlxprune.units import ago
from mlxprune_tui.drawing import histogram, line_chart
from mlxprune_tui.drawing.cells import (
    GLYPHS,
    Line,
    bar,
    label,
    nice,
    plain,
    sparkline,
)
from mlxprune_tui.drawing.histogram import Layers
from mlxprune_tui.drawing.line_chart import Extras, Mark, Passes, Series
from mlxprune_tui.drawing.text import width
from mlxprune_tui.testing import BRAILLE

SIZES = ((1, 1), (3, 2), (10, 3), (40, 8), (78, 14), (198, 57))


def exact(lines: list[Line], cells: int, rows: int | None = None) -> None:
    for line in lines:
        assert sum(width(text) for text, _ in line) == cells
    if rows is not None:
        assert len(lines) == rows


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 0.0], [math.nan, 1.0], [None, 3.0], [-1, 5]])
def test_sparklines_bear_everything(values: list[float | None]) -> None:
    for glyphs in GLYPHS.values():
        for cells in (0, 1, 2, 7, 100):
            assert len(sparkline(values, cells, glyphs)) <= max(cells, 0)


def test_a_dip_is_seen_in_a_crowded_sparkline() -> None:
    values = [10.0] * 500
    values[250] = 0.1
    assert GLYPHS["braille"].eighths[1] in sparkline(values, 20, GLYPHS["braille"])


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0, 1), (2.37, 2.41), (-5, 1e6), (1e-9, 2e-9)):
        found = nice(low, high, 5)
        assert 1 <= len(found) <= 7
        assert all(low - 1e-9 <= v <= high + 1e-9 for v in found)
    assert nice(1, 1, 5) == nice(0, math.inf, 5) == []


def test_ticks_tell_themselves_apart() -> None:
    for low, high in ((0, 10), (2.0, 3.0), (1.23395, 1.23412), (0, 1e7), (-0.3, 0.7)):
        found = nice(low, high, 5)
        told = [label(v, found[1] - found[0]) for v in found]
        assert len(set(told)) == len(found), told
        for value, text in zip(found, told, strict=True):
            if text[-1].isdigit():
                assert float(text) == pytest.approx(value, abs=1e-9)


# --- histogram


def test_rebinning_keeps_the_sum(generator: np.random.Generator) -> None:
    edges = np.linspace(0, 16, 161)
    counts = generator.integers(0, 1000, 160)
    low, high = histogram.shown_range(counts, edges)
    for cells in (1, 7, 80, 400):
        found = histogram.rebinned(counts, edges, low, high, cells)
        assert found.sum() == pytest.approx(counts.sum())
        assert (found >= 0).all()
    same = histogram.rebinned(counts, edges, 0.0, 16.0, 160)
    assert same == pytest.approx(counts)


@pytest.mark.parametrize("glyphs", list(GLYPHS))
def test_bars_are_as_high_as_their_counts(glyphs: str, generator: np.random.Generator) -> None:
    cells, rows = 66, 21
    columns = histogram.columns_of(cells)
    heights = generator.integers(0, 50, columns).astype(float)
    heights[7], heights[9] = 100.0, 0.0
    kept = (np.arange(columns) >= 30).astype(float)
    known = GLYPHS[glyphs]
    lines = histogram.histogram(Layers(heights, kept), 1.0, 5.0, cells, rows, known)
    exact(lines, cells, rows)
    text = plain(lines).split("\n")
    for x in range(columns):
        filled = sum(line.ljust(cells)[histogram.GUTTER + x] != " " for line in text[:-1])
        assert abs(filled - heights[x] / 100 * (rows - 1)) <= 1
        assert (filled == 0) == (heights[x] == 0)


def test_kept_and_dropped_differ_without_colour() -> None:
    kept = np.array([1.0] * 20 + [0.0] * 20)
    for known in GLYPHS.values():
        lines = histogram.histogram(Layers(np.full(40, 9.0), kept), 0, 1, 46, 9, known)
        text = plain(lines)
        assert known.kept in text
        assert known.dropped in text


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("heights", [[], [0.0], [0.0] * 90, [5.0] * 90, [1e12] * 90])
def test_odd_histograms_are_drawn(size: tuple[int, int], heights: list[float]) -> None:
    cells, rows = size
    counts = np.array((heights * 90)[: histogram.columns_of(cells)] or [0.0])
    for log in (False, True):
        for known in GLYPHS.values():
            found = histogram.histogram(
                Layers(counts, counts * 0), 0.0, 1.0, cells, rows, known, log
            )
            exact(found, cells, rows)
    exact([histogram.band(2.0, 3.0, 1.0, 4.0, "high-50", cells)], cells)


# --- curves


ODD = Extras(
    Passes([10.0, 30.0, 1e9]), 20.0, None, [Mark(25.0, 0.0, "v 1.0", "good")],
    [(0.5, "here", "a"), (0.5, "there", "b"), (1e9, "far", "a")], "targets",
)  # fmt: skip


@pytest.mark.parametrize("glyphs", list(GLYPHS))
@pytest.mark.parametrize("size", SIZES)
def test_odd_curves_are_drawn(
    glyphs: str, size: tuple[int, int], generator: np.random.Generator
) -> None:
    cells, rows = size
    x = np.arange(50.0)
    for y in (
        np.full(50, np.nan), np.full(50, 3.0), generator.normal(0, 1, 50), x * 1e30, -x,
        np.where(x == 20, np.inf, x), np.where(x > 30, np.nan, x), np.zeros(50),
    ):  # fmt: skip
        for some in (0, 1, 2, 50):
            series = [
                Series(x[:some], y[:some], "a"),
                Series(x[:some], y[:some] + 1, "b", "o", True),
            ]
            for log_x, log_y in ((False, False), (True, True)):
                frame = line_chart.frame_of(series, log_x, log_y)
                found = line_chart.chart(series, frame, cells, rows, GLYPHS[glyphs], ODD)
                exact(found, cells, rows)


@pytest.mark.parametrize("glyphs", list(GLYPHS))
def test_a_spike_of_one_step_survives(glyphs: str) -> None:
    x, y = np.arange(100_000.0), np.full(100_000, 1.0)
    y[54_321] = 9.0
    series = [Series(x, y, "a")]
    lines = line_chart.chart(series, line_chart.frame_of(series), 80, 20, GLYPHS[glyphs])
    top = plain(lines[:3])
    assert any(c not in " 0123456789.│|\n" for c in top)


def test_a_missing_value_breaks_the_line() -> None:
    x = np.arange(200.0)
    y = np.ones(200)
    y[80:120] = np.nan
    series = [Series(x, y, "a")]
    lines = line_chart.chart(series, line_chart.frame_of(series), 108, 9, GLYPHS["ascii"])
    row = next(line for line in plain(lines).split("\n") if "*" in line)[line_chart.AXIS :]
    assert " " in row[45:55]
    assert "*" in row[:40]
    assert "*" in row[62:]


def test_smoothing_does_not_depend_on_how_often_it_is_told(generator: np.random.Generator) -> None:
    x = np.linspace(0, 1000, 4001)
    y = np.sin(x / 90)
    dense, sparse = line_chart.smoothed(x, y, 0.05), line_chart.smoothed(x[::8], y[::8], 0.05)
    assert np.abs(dense[::8] - sparse)[50:].max() < 0.05
    assert np.array_equal(line_chart.smoothed(x, y, 0.0), y)
    y[5] = np.nan
    assert np.isfinite(line_chart.smoothed(x, y, 0.05)[6:]).all()


def test_kept_is_solid_and_dropped_is_shaded() -> None:
    kept = np.array([1.0] * 20 + [0.0] * 20)
    for known in GLYPHS.values():
        row = plain(histogram.histogram(Layers(np.full(40, 9.0), kept), 0, 1, 46, 9, known)).split(
            "\n"
        )[3]
        assert row[histogram.GUTTER :] == known.kept * 20 + known.dropped * 20


def test_the_band_stands_under_its_bars() -> None:
    line = plain([histogram.band(2.0, 3.0, 1.0, 4.0, "x", 66)])
    columns = histogram.columns_of(66)
    assert line.index("[") == histogram.GUTTER + round((columns - 1) / 3)
    assert line.index("]") == histogram.GUTTER + round(2 * (columns - 1) / 3)
    assert line.index("2.00") < line.index("[") < line.index("]") < line.index("3.00")


def test_a_bar_and_labels() -> None:
    assert bar(0.25, 8, BRAILLE) == BRAILLE.across[0] * 2 + BRAILLE.across[1] * 6
    assert [label(v) for v in (2e4, 3e6, 4e9)] == ["20k", "3M", "4B"]
    assert ago(3600.0) == "60 min"


def test_ticks_stand_at_their_values() -> None:
    series = [line_chart.Series(np.array([0.0, 10.0]), np.array([1.0, 5.0]), "a")]
    lines = plain(line_chart.chart(series, line_chart.frame_of(series), 60, 16, BRAILLE)).split(
        "\n"
    )
    told = [float(line[:7]) for line in lines[:-1] if line[:7].strip()]
    assert told == sorted(told, reverse=True)
    marked = plain(
        line_chart.chart([], line_chart.Frame(0, 10, 0, 1), 68, 6, BRAILLE, Extras(cursor=1.0))
    ).split("\n")
    assert marked[1].index("|", line_chart.AXIS) < 30
    assert (
        line_chart.frame_of(
            [line_chart.Series(np.arange(100.0), np.arange(100.0), "")], quantile=0.02
        ).top
        > 90
    )


def test_the_shade_lies_between_its_limits() -> None:
    x = np.array([0.0, 10.0])
    limits = (
        line_chart.Series(x, np.array([8.0, 8.0]), ""),
        line_chart.Series(x, np.array([9.0, 9.0]), ""),
    )
    lines = plain(
        line_chart.chart([], line_chart.Frame(0, 10, 0, 10), 60, 21, BRAILLE, Extras(band=limits))
    ).split("\n")
    shaded = [y for y, line in enumerate(lines) if "....." in line]
    assert shaded and max(shaded) < 8


def test_what_is_in_hand_stands_light_on_top(generator: np.random.Generator) -> None:
    """Its height beside the finished ones is its count; the ghost is drawn where nothing is."""
    cells, rows = 46, 21
    heights, hand = np.full(40, 50.0), np.full(40, 50.0)
    ghost = np.full(40, 50.0)
    ghost[:10] = 90.0
    heights[:10] = hand[:10] = 10.0
    for known in GLYPHS.values():
        layers = Layers(heights, np.ones(40), hand, ghost)
        lines = plain(histogram.histogram(layers, 0, 1, cells, rows, known)).split("\n")[:-1]
        column = [line.ljust(cells)[histogram.GUTTER + 20] for line in lines]
        assert column == [known.provisional] * 10 + [known.kept] * 10
        column = [line.ljust(cells)[histogram.GUTTER + 3] for line in lines]
        assert column.index(known.ghost) == 1
        assert column.count(known.provisional) == 2


def test_a_value_is_where_it_is_drawn() -> None:
    cells = 66
    found = [histogram.value_at(x, 2.0, 5.0, cells) for x in range(cells)]
    assert found[: histogram.GUTTER] == [None] * histogram.GUTTER
    known = [v for v in found if v is not None]
    assert known == sorted(known)
    assert 2.0 < known[0] < known[-1] < 5.0
    line = plain([histogram.quantiles_line({"p50": 3.5, "p10": 3.4}, 2.0, 5.0, cells)])
    middle = line.index("p50") + len("p50 3.50") // 2
    assert abs(middle - found.index(min(known, key=lambda v: abs(v - 3.5)))) <= 1
    assert "p10" not in line  # it would stand on the other


def test_every_cell_of_a_mini_histogram_has_its_share() -> None:
    line = histogram.mini_histogram(np.array([0.0, 1.0, 8.0]), np.array([0, 0, 1.0]), BRAILLE)
    assert [text for text, _ in line] == [" ", "\u2581", "\u2588"]
    assert [style for _, style in line] == ["dropped", "dropped", "kept"]


def test_passes_are_numbered_and_thinned() -> None:
    series = [Series(np.array([0.0, 81.0]), np.array([5.0, 5.0]), "a")]
    frame = line_chart.Frame(0, 81, 0, 10)

    def drawn(count: int) -> list[str]:
        begins = np.linspace(0, 81, count + 1)[1:-1].tolist()
        extras = Extras(passes=Passes(begins))
        return plain(line_chart.chart(series, frame, 100, 12, BRAILLE, extras)).split("\n")

    few = drawn(4)
    assert "pass 1" in few[0]
    assert re.findall(r"\d+", few[0][line_chart.AXIS :]) == ["1", "2", "3", "4"]
    assert few[8].count(BRAILLE.boundary) == 3
    many = drawn(80)
    assert many[8].count(BRAILLE.boundary) < 20
    numbers = [int(w) for w in re.findall(r"\d+", " ".join(many[:3]))]
    later = [n for n in numbers if n > 10]
    assert len(later) > 3
    assert all(n % 5 == 0 for n in later)


def test_the_best_is_marked_and_lines_have_their_words() -> None:
    x = np.arange(50.0)
    series = [Series(x, (x - 20) ** 2, "valid", "o")]
    extras = Extras(marks=[Mark(20.0, 0.0, "v0.000", "good")], ends=[(841.0, "valid 841", "valid")])
    frame = line_chart.frame_of(series)
    lines = plain(line_chart.chart(series, frame, 108, 20, BRAILLE, extras)).split("\n")
    row = next(n for n, line in enumerate(lines) if "v0.000" in line)
    assert row >= 15
    columns = line_chart.columns_of(108, extras)
    at = line_chart.AXIS + round(20 / 49 * (columns - 1))
    assert lines[row].index("v0.000") == at
    assert lines[0].rstrip().endswith("valid 841") or lines[1].rstrip().endswith("valid 841")
    assert line_chart.share_at(line_chart.AXIS, 108, extras) == 0.0
    assert line_chart.share_at(line_chart.AXIS + columns - 1, 108, extras) == 1.0
    assert line_chart.share_at(107, 108, extras) is None
