"""The grid of models: every one that the configuration asks for, and none of an earlier slice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlxprune.run.folder import RunFolder
from mlxprune.run.state import MemorisingFacts
from mlxprune_tui.readers import study_grid
from mlxprune_tui.testing import passes_curve, view_of


def test_a_done_run_has_every_model_done(tiny_run: RunFolder) -> None:
    view = view_of(tiny_run.path)
    cells = study_grid.grid(view)
    asked = [f"final/{arm.name}" for arm in view.arms()]
    assert [c.model for c in cells if c.kind != "reference"][: len(asked)] == asked
    assert cells[0].model == "references/main"
    assert {c.state for c in cells} == {"done"}
    for cell in cells:
        held = view.state.curves[cell.model]
        assert cell.last == held.validation.last("bits_per_byte")
        assert cell.best == min(held.validation["bits_per_byte"])


def test_a_live_run_trains_one_and_the_others_wait(make_run: Callable[[str], Path]) -> None:
    view = view_of(make_run("live"))
    cells = study_grid.grid(view)
    states = [c.state for c in cells]
    assert states.count("training") == 1
    (training,) = [c for c in cells if c.state == "training"]
    assert training.left is None or training.left >= 0
    assert {c.state for c in cells[cells.index(training) + 1 :]} <= {"waiting", "training"}
    crashed = [c.state for c in study_grid.grid(view_of(make_run("crashed")))]
    assert "training" not in crashed
    assert "stopped" in crashed


def test_models_of_an_earlier_slice_stand_apart(tiny_run: RunFolder) -> None:
    view = view_of(tiny_run.path)
    view.state.curves["final/high-5-s0"] = passes_curve([(600, 1.0)])
    assert study_grid.earlier(view) == ["final/high-5-s0"]
    assert "final/high-5-s0" not in [c.model for c in study_grid.grid(view)]


def test_the_best_has_its_pass_and_memorising_is_told(tiny_run: RunFolder) -> None:
    view = view_of(tiny_run.path)
    model = f"final/{view.arms()[0].name}"
    view.state.curves[model] = passes_curve([(600, 1.0), (900, 1.2), (1200, 1.5)])
    view.state.memorising[model] = MemorisingFacts(best=1.0, best_pass=1)
    (cell,) = [c for c in study_grid.grid(view) if c.model == model]
    assert (cell.best, cell.best_pass, cell.last) == (1.0, 1, 1.5)
    assert cell.memorising is not None
    assert study_grid.pass_at(view.state.curves[model], 700.0) == 2
