from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxprune_tui.screens import runs
from mlxprune_tui.screens.page import AppContext
from mlxprune_tui.testing import BRAILLE


def test_a_run_goes_under_the_folder_that_is_looked_at(
    tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[list[str]] = []

    class Done:
        returncode, stdout, stderr = 0, "started", ""

    monkeypatch.setattr(runs.subprocess, "run", lambda c, **more: said.append(c) or Done())
    assert runs.start([str(tiny_yaml)], tmp_path / "runs") == "started"
    assert said[0][-2:] == ["--dir", str(tmp_path / "runs" / "tiny")]


def test_runs_page(make_run: Callable[[str], Path]) -> None:
    folders = [make_run(s) for s in ("done", "failed", "crashed")]
    page = runs.Runs(AppContext(None, BRAILLE, folder=folders[0].parent))
    went: list[Any] = []
    page.context.open = went.append
    page.options["sort"] = "name"
    page.shelf.look(folders[0].parent, time.time(), 30.0)
    page.tick()
    page.options["filter"] = "crashed"
    page.do_open()
    assert went == [folders[2]]
    page.options["filter"] = ""
    page.clicked("list", 3, 2)
    assert page.at == 1
    page.options["sort"] = "state"
    marks = [page.shown()[n].folder for n in range(2)]
    for at in (0, 1, 0):
        page.at = at
        page.do_mark()
    assert page.context.marked == [str(marks[1])]
