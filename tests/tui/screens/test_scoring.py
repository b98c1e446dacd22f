"""Bars, band and domains agree with the selection; the mouse reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlxprune.run.event_kinds import Histogram
from mlxprune.run.folder import RunFolder
from mlxprune_tui.drawing import histogram
from mlxprune_tui.drawing.cells import plain
from mlxprune_tui.screens import scoring
from mlxprune_tui.testing import (
    BRAILLE,
    frame,
    on_screen,
    until,
)


def test_the_first_hour() -> None:
    rates = [(60.0 * n, 100.0) for n in range(60)] + [(60.0 * n, 50.0) for n in range(60, 120)]
    assert str(scoring.against_first_hour(rates)).startswith("0.50")
    assert scoring.against_first_hour(rates[:30]) is None  # nothing to compare with yet


def test_bars_and_band_agree_with_the_selection(tiny_run: RunFolder) -> None:
    async def go(app: Any, pilot: Any) -> None:
        lines = plain(app.page.draw_bars(100, 22)).split("\n")
        under = next(line for line in lines if "[" in line and "]" in line)
        left, right = under.index("["), under.index("]")
        bars = lines[: lines.index(under) - 1]
        solid = [x for line in bars for x, c in enumerate(line)
                 if c == BRAILLE.kept and x >= histogram.GUTTER]  # fmt: skip
        assert solid
        assert left - 1 <= min(solid)
        assert max(solid) <= right + 1
        await pilot.hover("#bars", offset=(40, 5))
        await until(pilot, lambda: "% lie below" in frame(app))
        await pilot.press("s")
        assert app.page.options["sort"] == "mean"

    on_screen(tiny_run.path, "scoring", go)


def test_what_is_in_hand_is_seen_before_anything_is_done(make_run: Callable[[str], Path]) -> None:
    async def go(app: Any, pilot: Any) -> None:
        state = app.session.view.state
        edges = state.histogram.edges
        state.histogram = Histogram(
            t=1.0, edges=edges, documents=[0] * 160, tokens=[0] * 160, bytes=[0] * 160, domains={},
            in_hand_bins=[30, 31], in_hand=[5, 9],
        )  # fmt: skip
        app.page.renew()
        await until(pilot, lambda: BRAILLE.provisional in frame(app))
        assert app.page.nothing() is None

    on_screen(make_run("live"), "scoring", go)
