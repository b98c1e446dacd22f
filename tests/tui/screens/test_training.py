"""Passes and memorising, at any size."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxprune.run.folder import RunFolder
from mlxprune_tui.drawing.cells import plain
from mlxprune_tui.testing import (
    frame,
    on_screen,
    passes_curve,
    until,
)


def test_training_tells_passes_and_memorising(tiny_run: RunFolder) -> None:
    from mlxprune.run.state import MemorisingFacts

    async def go(app: Any, pilot: Any) -> None:
        state = app.session.view.state
        model = "final/high-50-s0"
        state.curves[model] = passes_curve([(600, 1.0), (1200, 1.5)])
        app.page.model = model
        app.page.renew()
        rows = [line.split() for line in plain(app.page.draw_passes(60, 5)).split("\n")]
        for n in (1, 2):
            train, valid, gap = (float(rows[k][n].strip("\u25bc\u25b2")) for k in (1, 2, 3))
            assert gap == pytest.approx(valid - train, abs=2e-3)
        state.memorising[model] = MemorisingFacts(
            pass_number=2, bits_per_byte=1.5, best=1.0, best_pass=1
        )
        app.page.renew()
        await until(pilot, lambda: "It is memorising" in frame(app))
        scale = app.page.bytes_per_token(model)
        manifest = json.loads((tiny_run.selection("high-50") / "manifest.json").read_text())
        assert scale == manifest["kept_bytes"] / manifest["kept_tokens"]
        assert "(+0.5000)" in str(app.page.facts(model))
        before = app.page.window
        app.page.do_zoom_in()
        assert app.page.window[1] - app.page.window[0] < before[1] - before[0]
        app.page.do_whole()
        await pilot.hover("#curve", offset=(40, 5))
        await until(pilot, lambda: "at " in frame(app) and "targets:" in frame(app))

    on_screen(tiny_run.path, "training", go)


def test_the_strip_of_passes_stands_on_a_small_screen(tiny_run: RunFolder) -> None:
    async def go(app: Any, pilot: Any) -> None:
        await until(pilot, lambda: "validation" in frame(app).split("Passes")[-1])
        assert "gap" in frame(app).split("Passes")[-1]

    on_screen(tiny_run.path, "training", go, (80, 24))
