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
from mlxprune_tui.app import SCREENS, Monitor
from mlxprune_tui.readers import run_view
from mlxprune_tui.testing import check_frame, frame, opened, show, until, view_of, write_segment


def test_since_you_left(tiny_run: RunFolder) -> None:
    view = view_of(tiny_run.path)
    ends = [e for e in view.state.recent if e.kind == "stage.end"]
    then = ends[-2].t
    found = run_view.since(view.state, then)
    assert f"{ends[-1].stage} done" in found
    assert f"{ends[0].stage} done" not in found
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
    view = view_of(make_run("live"))
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
            for name in SCREENS:
                await show(app, pilot, name)
                check_frame(app, 120, 40)

    asyncio.run(go())


def test_models_of_an_earlier_slice_are_not_of_the_configuration(tiny_run: RunFolder) -> None:
    view = view_of(tiny_run.path)
    assert view.is_present("final/high-50-s0")
    assert view.is_present("final/high-50-s0.at-50")
    assert view.is_present("references/main")
    assert not view.is_present("final/high-5-s0")
    assert not view.is_present("final/high-50-s99")


def test_a_folder_that_is_gone_is_told(tiny_run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(tiny_run.path, folder)
    view = view_of(folder)
    assert not view.gone
    events = view.state.events
    shutil.rmtree(folder)
    view.read(1.0)
    assert view.gone
    assert events
