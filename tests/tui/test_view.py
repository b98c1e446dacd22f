from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from conftest_tui import on

from mlxprune import events, runs, state
from mlxprune_tui import (
    overview,
)
from mlxprune_tui import view as views


def test_since_you_left(tiny_run: runs.RunFolder) -> None:
    page = on(tiny_run.path, overview.Overview)
    view = page.desk.view
    ends = [e for e in view.state["recent"] if e.get("kind") == "stage.end"]
    then = ends[-2]["t"]
    found = views.since(view.state, then)
    assert f"{ends[-1]['stage']} done" in found
    assert f"{ends[0]['stage']} done" not in found
    page.desk.seen = then
    assert page._told()[0].startswith("Since you left")
    page.do_since()
    assert page._told()[0].startswith("Events")
    held = {
        **state.initial(),
        "curves": {"m": {"train": [], "validation": [[1, 3.0, None, 10.0], [2, 2.0, None, 30.0]]}},
    }
    assert views.since(held, 20.0) == ["m: validation 3.0000 -> 2.0000"]


def test_a_changed_configuration_is_read(tiny_run: runs.RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(tiny_run.path, folder)
    view = views.View(folder)
    assert view.config is not None
    view.run.config.write_text("nonsense: [")
    os.utime(view.run.config, (5, 5))
    assert view.config is None
    assert view.config_trouble


def test_a_held_picture_stays_what_is_pressed(make_run: Callable[[str], Path]) -> None:
    page = on(make_run("live"), overview.Overview)
    view = page.desk.view
    view.frozen = True
    before = view.state["events"]
    log = events.EventLog(view.run.events)
    log.emit("final", "warning", message="meanwhile")
    log.close()
    assert not view.read(1.0)
    assert view.state["events"] == before
    view.frozen = False
    assert view.read(1.0)
