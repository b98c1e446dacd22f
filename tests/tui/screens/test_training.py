from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxprune.run.folder import RunFolder
from mlxprune_tui.drawing.cells import plain
from mlxprune_tui.screens import training
from mlxprune_tui.testing import on, passes_curve


def test_training_tells_gap_and_memorising(tiny_run: RunFolder) -> None:
    page = on(tiny_run.path, training.Training)
    curves_ = page.context.view.state.curves
    curves_.clear()
    curves_["final/high-50-s0"] = passes_curve([(600, 1.0), (1200, 1.5)])
    lines = plain(page.draw_passes(60, 10)).split("\n")
    _, train, valid, gap = lines[1].split()
    assert float(gap) == pytest.approx(float(valid) - float(train), abs=2e-3)
    assert "memorising" in lines[-1]
    facts = plain(page.draw_facts(90, 12))
    assert "(+0.5000)" in facts
    scale = page.bytes_per_token()
    manifest = json.loads((tiny_run.selection("high-50") / "manifest.json").read_text())
    assert scale == manifest["kept_bytes"] / manifest["kept_tokens"]
    assert f"{(4.0 - 1.2) / (math.log(2) * scale):.3f} bits a byte" in facts
    before = page.window
    page.do_zoom_in()
    assert page.window[1] - page.window[0] < before[1] - before[0]
    page.do_reset()
    curves_["final/high-50-s0"].train.add([1300, 2.0, 1e-3, 2, 13, 1300.0, 0.5, 9.0, 0.4], 2000)
    assert len(page.curve("final/high-50-s0").train["loss"]) == 13


def test_what_is_left_is_told_of_what_trains(make_run: Callable[[str], Path]) -> None:
    page = on(make_run("live"), training.Training)
    stage = page.context.view.state.stages["final"]
    stage.done, stage.total = 350, 1000
    stage.rates.take([[float(n), 10.0] for n in range(9)])
    page.model = page.names()[-1]
    assert "01:05 of this stage" in plain(page.draw_facts(90, 12))
    finals = [n for n in page.names() if n.startswith("final/")]
    if len(finals) > 1:
        page.model = finals[0]
        assert "of this stage" not in plain(page.draw_facts(90, 12))
