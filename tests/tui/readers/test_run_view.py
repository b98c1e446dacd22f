from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from mlxprune.run.event_kinds import Warned
from mlxprune.run.events import EventLog, read_records
from mlxprune.run.folder import RunFolder
from mlxprune.run.state import RunState
from mlxprune_tui.app import PAGES, Monitor
from mlxprune_tui.readers import run_view
from mlxprune_tui.screens import overview
from mlxprune_tui.testing import check_frame, frame, on, opened, until, write_segment


def test_since_you_left(tiny_run: RunFolder) -> None:
    page = on(tiny_run.path, overview.Overview)
    view = page.context.view
    ends = [e for e in view.state.recent if e.kind == "stage.end"]
    then = ends[-2].t
    found = run_view.since(view.state, then)
    assert f"{ends[-1].stage} done" in found
    assert f"{ends[0].stage} done" not in found
    page.context.seen = then
    assert page.told_pane()[0].startswith("Since you left")
    page.do_since()
    assert page.told_pane()[0].startswith("Events")
    held = RunState()
    held.curve("m").validation.take([[1, 3.0, None, 10.0], [2, 2.0, None, 30.0]])
    assert run_view.since(held, 20.0) == ["m: validation 3.0000 -> 2.0000"]


def test_a_changed_configuration_is_read(tiny_run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(tiny_run.path, folder)
    view = run_view.View(folder)
    assert view.config is not None
    view.run.config.write_text("nonsense: [")
    os.utime(view.run.config, (5, 5))
    assert view.config is None
    assert view.config_trouble


def test_a_held_picture_stays_what_is_pressed(make_run: Callable[[str], Path]) -> None:
    page = on(make_run("live"), overview.Overview)
    view = page.context.view
    view.frozen = True
    before = view.state.events
    log = EventLog(view.run.events)
    log.emit("final", Warned(message="meanwhile"))
    log.close()
    assert not view.read(1.0)
    assert view.state.events == before
    view.frozen = False
    assert view.read(1.0)


def test_a_held_picture_loses_nothing(make_run: Callable[[str], Path]) -> None:
    folder = make_run("live")
    run = RunFolder(folder)

    async def go() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            await pilot.press("space")
            await until(pilot, lambda: "HELD" in frame(app))
            before = frame(app)
            log = EventLog(run.events)
            log.emit("final", Warned(message="while it was held"))
            log.close()
            await pilot.pause(0.6)
            assert "while it was held" not in frame(app)
            await pilot.press("space")
            await until(pilot, lambda: "while it was held" in frame(app))
            assert before != frame(app)

    asyncio.run(go())


def test_a_log_of_a_newer_version_or_damaged_is_told(tiny_run: RunFolder, tmp_path: Path) -> None:
    records = list(read_records(tiny_run.events))
    newer = {"v": 99, "kind": "a-kind-of-tomorrow", "stage": "a-stage-of-tomorrow", "t": 1.0}
    odd = [
        {**records[-1], "v": 99, "kind": "stage.start", "stage": "distil"},
        {**records[-1], "kind": "progress", "stage": "distil", "eta_seconds": float("inf")},
        {**records[-1], "kind": "histogram"},
        {**records[-1], "kind": "train.step", "peak_memory_bytes": float("inf"), "model": 3},
    ]
    folder = tmp_path / "run"
    path = write_segment(folder / "events", [*records[:-1], newer, *odd])
    path.write_bytes(path.read_bytes() + b"\xc1\xc1")
    (folder / "run.json").write_bytes(tiny_run.run_json.read_bytes())

    async def go() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            assert "newer version" in frame(app)
            assert "cannot be read" in frame(app)
            for name in PAGES:
                app.show_page(name)
                await pilot.pause(0.02)
                check_frame(app, 120, 40)

    asyncio.run(go())
