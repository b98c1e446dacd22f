from __future__ import annotations

import json

import numpy as np
import pytest

from mlxprune.config.slices import Slice
from mlxprune.run.event_kinds import DomainHistogram, Histogram
from mlxprune.run.folder import RunFolder
from mlxprune_tui.drawing.cells import plain
from mlxprune_tui.screens import scoring
from mlxprune_tui.testing import BRAILLE, on

EDGES = np.linspace(0.0, 10.0, 11)


def test_domain_rows_stand_where_they_were_scored() -> None:
    domain = DomainHistogram(first=6, counts=[10], nll=65.0, tokens=10.0, bytes=1.0)
    found = Histogram(edges=EDGES.tolist(), documents=[0] * 10, domains={"d": domain})
    (row,) = scoring.domain_rows(found, scoring.Band(6.0, 7.0, False))
    assert 6.0 <= row.median <= 7.0
    assert row.kept == pytest.approx(1.0)
    assert row.mean == 6.5


@pytest.mark.parametrize("unit", ["tokens", "documents"])
def test_the_band_counts_what_the_slice_counts(unit: str) -> None:
    documents_, tokens = [10] + 8 * [0] + [10], [10] + 8 * [0] + [90]
    choice = Slice.model_validate({"criterion": "low", "rate": 0.5, "unit": unit})
    found = Histogram(edges=EDGES.tolist(), documents=documents_, tokens=tokens)
    band = scoring.band_of(choice, found)
    assert band is not None
    assert (band.high > 9.0) == (unit == "tokens")


def test_the_first_hour() -> None:
    rates = [(60.0 * n, 100.0) for n in range(60)] + [(60.0 * n, 50.0) for n in range(60, 120)]
    assert scoring.against_first_hour(rates).startswith("0.50")


def test_bars_and_band_agree_with_the_selection(tiny_run: RunFolder) -> None:
    page = on(tiny_run.path, scoring.Scoring)
    made = json.loads((tiny_run.selection("high-50") / "manifest.json").read_text())
    band = page.band()
    assert (band.low, band.high, band.sure) == (made["lowest"], made["highest"], True)
    kept = [c for line in page.draw_bars(100, 20) for t, s in line if s == "kept" for c in t]
    lines = plain(page.draw_bars(100, 20)).split("\n")
    under = lines[-2]
    left, right = under.index("["), under.index("]")
    solid = [x for line in lines[:-3] for x, c in enumerate(line) if c == BRAILLE.kept and x >= 6]
    assert kept
    assert solid
    assert left - 1 <= min(solid) and max(solid) <= right + 1
    page.do_sort()
    rows, _ = page.rows()
    page.options["sort"] = "documents"
    first = plain(page.draw_domains(60, 20)).split("\n")[1]
    assert max(rows, key=lambda r: r.documents).domain in first
