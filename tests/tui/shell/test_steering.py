from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxprune.run.folder import RunFolder, take_commands
from mlxprune.run.status import Standing
from mlxprune_tui.app import Monitor
from mlxprune_tui.shell import steering
from mlxprune_tui.testing import opened, show, until, view_of


def test_only_a_live_run_hears_a_command(make_run: Callable[[str], Path]) -> None:
    live, crashed = (view_of(make_run(s)) for s in ("live", "crashed"))
    assert steering.why_not(live, "stop", False) is None
    assert "no process" in str(steering.why_not(crashed, "stop", False))
    assert steering.why_not(live, "resume", False) == "the run is not paused"
    assert steering.why_not(crashed, "resume", False) is None  # it is started again
    assert crashed.again in steering.consequences(crashed, "resume", again=True)
    live.standing = Standing.PAUSED
    assert steering.why_not(live, "resume", False) is None
    live.standing = Standing.RUNNING
    live.state.stages["final"].state = "running"
    checks = {c.name: c.told for c in live.leaving()}
    assert f"last checkpoint: {checks['checkpoint']}" in steering.consequences(live, "checkpoint")
    assert "goes on" in steering.consequences(live, "checkpoint")


def test_a_command_is_written_only_after_yes(make_run: Callable[[str], Path]) -> None:
    folder = make_run("live")
    run = RunFolder(folder)

    async def go() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            for answer in ("n", "escape", "y"):
                await pilot.press("X")
                await until(pilot, lambda: len(app.screen_stack) == 2)
                await pilot.press(answer)
                await until(pilot, lambda: len(app.screen_stack) == 1)
                await pilot.pause()
                if answer != "y":
                    assert take_commands(run) == []
            assert take_commands(run) == ["stop"]

    asyncio.run(go())


def test_a_window_that_only_looks_takes_no_command(make_run: Callable[[str], Path]) -> None:
    async def go() -> None:
        app = Monitor(make_run("live"), read_only=True, remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            for key in "PRCX":
                await pilot.press(key)
                assert len(app.screen_stack) == 1
            await show(app, pilot, "runs")
            await pilot.press("a")
            assert len(app.screen_stack) == 1

    asyncio.run(go())


@pytest.mark.parametrize("key", ["P", "C"])
def test_nothing_is_asked_of_a_run_without_yes(key: str, make_run: Callable[[str], Path]) -> None:
    folder = make_run("live")

    async def go() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            await pilot.press(key)
            await until(pilot, lambda: len(app.screen_stack) == 2)
            await pilot.press("enter", "escape")
            assert take_commands(RunFolder(folder)) == []

    asyncio.run(go())
