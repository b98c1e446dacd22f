"""Runs are listed, filtered as it is typed, marked, opened and started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxprune_tui.app import Monitor
from mlxprune_tui.screens import runs
from mlxprune_tui.testing import (
    frame,
    opened,
    show,
    until,
)


def test_a_run_goes_under_the_folder_that_is_looked_at(
    tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[list[str]] = []

    class Done:
        returncode, stdout, stderr = 0, "started", ""

    monkeypatch.setattr(runs.subprocess, "run", lambda c, **more: said.append(c) or Done())
    assert runs.start([str(tiny_yaml)], tmp_path / "runs") == "started"
    assert said[0][-2:] == ["--dir", str(tmp_path / "runs" / "tiny")]


def test_the_list_of_runs_is_filtered_marked_and_opened(make_run: Callable[[str], Path]) -> None:
    folders = {s: make_run(s) for s in ("done", "failed", "crashed")}

    async def run() -> None:
        app = Monitor(folders["done"], remember=False)
        async with app.run_test(size=(160, 40)) as pilot:
            await opened(app, pilot)
            await show(app, pilot, "runs")
            await until(pilot, lambda: len(app.page.rows) == 3 and not app.page.shelf.unread)  # type: ignore[attr-defined]
            await until(pilot, lambda: "crashed" in frame(app))
            await pilot.press("slash", *"crashed")
            await until(pilot, lambda: "1 run under" in frame(app))  # as it is typed
            await pilot.press("enter", "m")
            assert app.session.marked == [str(folders["crashed"].absolute())]
            await pilot.press("enter")
            await until(pilot, lambda: app.current_mode == "overview")
            assert app.session.view is not None
            assert app.session.view.run.path == folders["crashed"]

    asyncio.run(run())
