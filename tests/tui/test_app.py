"""The app in every state, on every screen, at every size, with every key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from textual import events as textual_events

from mlxprune.run.event_kinds import RunEnd
from mlxprune.run.events import EventLog
from mlxprune.run.folder import STAGES, RunFolder, runs_under
from mlxprune_tui.app import PAGES, Monitor
from mlxprune_tui.shell import keys
from mlxprune_tui.testing import STATES, check_frame, frame, opened, until

SIZES = ((80, 24), (120, 40), (200, 60), (60, 15))
HARMLESS = [k for k in keys.KEYS if k.action not in ("detach", "palette")]


@pytest.mark.parametrize("state", STATES)
def test_every_screen_in_every_state_and_size(state: str, make_run: Callable[[str], Path]) -> None:
    async def go() -> None:
        app = Monitor(make_run(state), remember=False)
        async with app.run_test(size=(80, 24)) as pilot:
            await opened(app, pilot)
            wanted = {"empty": "pending", "starting": "running", "live": "running"}
            assert app.context.view is not None
            assert app.context.view.standing == wanted.get(state, state)
            for cells, rows in SIZES:
                await pilot.resize_terminal(cells, rows)
                await until(pilot, lambda size=(cells, rows): app.picture.size == size)
                for name in PAGES:
                    app.show_page(name)
                    await pilot.pause()
                    app.paint()
                    check_frame(app, cells, rows)
                    assert app.page.name == name

    asyncio.run(go())


@pytest.mark.parametrize(
    "state", [pytest.param(s, marks=pytest.mark.slow) for s in ("empty", "live")] + ["done"]
)
def test_every_key_of_every_screen(state: str, make_run: Callable[[str], Path]) -> None:
    """None of them breaks anything, whatever there is to show; and one that can do nothing says
    why."""

    async def go() -> None:
        app = Monitor(make_run(state), remember=False)
        told: list[str] = []
        app.notify = lambda message, **more: told.append(message)  # type: ignore[method-assign]
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            for name in PAGES:
                for key in HARMLESS:
                    if key.screen not in (name, keys.EVERYWHERE) or key.action == "heat":
                        continue
                    app.show_page(name)
                    why = app.why_not(key)
                    told.clear()
                    await app.on_key(textual_events.Key(key.key, None))
                    if why is not None:
                        assert told, (name, key)
                    if len(app.screen_stack) > 1:
                        await pilot.pause()
                        await pilot.press("escape")
                        await until(pilot, lambda: len(app.screen_stack) == 1)
                await pilot.pause()
                app.paint()
                check_frame(app, 100, 30)

    asyncio.run(go())


def test_numbers_on_the_screen_are_those_of_the_run(tiny_run: RunFolder) -> None:
    told = json.loads((tiny_run.path / "report.json").read_text())

    async def go() -> None:
        app = Monitor(tiny_run.path, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            assert "DONE" in frame(app)
            app.show_page("scoring")
            documents = told["slices"]["high-50"]["pool_documents"]
            assert f"{documents:,} documents" in frame(app)
            app.show_page("selection")
            await until(pilot, lambda: "docs" in frame(app))
            assert f"{told['slices']['high-50']['kept_documents']:,}" in frame(app)
            assert f"{told['slices']['high-50']['kept_tokens']:,}" in frame(app)
            app.show_page("compare")
            compared = told["comparisons"][0]
            assert f"{compared['difference']:+.4f}" in frame(app)
            app.show_page("documents")
            await until(pilot, lambda: f"{documents:,} of {documents:,}" in frame(app))

    asyncio.run(go())


def test_a_crash_shows_the_command_that_goes_on(make_run: Callable[[str], Path]) -> None:
    folder = make_run("crashed")

    async def go() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=(80, 24)) as pilot:
            await opened(app, pilot)
            assert "CRASHED" in frame(app)
            whole = "".join(frame(app).replace("│", " ").split())
            assert "".join(f"mlxprune run {folder}/config.yaml --dir {folder}".split()) in whole

    asyncio.run(go())


def test_it_remembers_where_it_was(tiny_run: RunFolder) -> None:
    async def go() -> None:
        app = Monitor(tiny_run.path)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            await pilot.press("4", "v")
            figure = app.page.options["figure"]
        again = Monitor(tiny_run.path)
        async with again.run_test(size=(100, 30)) as pilot:
            await opened(again, pilot)
            assert again.page.name == "training"
            assert again.page.options["figure"] == figure != "loss"
            assert again.context.seen is not None

    asyncio.run(go())


def test_opening_another_run_forgets_the_first(make_run: Callable[[str], Path]) -> None:
    one, other = make_run("done"), make_run("failed")

    async def go() -> None:
        app = Monitor(one, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            app.show_page("documents")
            await until(pilot, lambda: app.page.library is not None)
            before = app.page
            app.open_run(other)
            await opened(app, pilot)
            assert app.page.name == "documents" and app.page is not before
            assert app.page.library is None or app.page.library.facts is not before.library.facts

    asyncio.run(go())


def test_brackets_go_round_the_runs(make_run: Callable[[str], Path]) -> None:
    folders = {s: make_run(s) for s in ("crashed", "done", "failed")}

    async def go() -> None:
        app = Monitor(folders["crashed"], remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            order = [r.path for r in runs_under(folders["done"].parent)]
            at = order.index(folders["crashed"])
            await pilot.press("right_square_bracket")
            assert app.context.view.run.path == order[(at + 1) % 3]

    asyncio.run(go())


def test_an_end_is_told(make_run: Callable[[str], Path]) -> None:
    folder = make_run("live")
    told: list[str] = []

    async def go() -> None:
        app = Monitor(folder, remember=False)
        app.notify = lambda message, **more: told.append(more.get("title") or message)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            await until(pilot, lambda: app.told is not None)
            assert told == []
            log = EventLog(RunFolder(folder).events)
            log.emit(None, RunEnd(status="failed", error={"problem": "x", "fix": "y"}))
            log.close()
            await until(pilot, lambda: bool(told))
            assert "failed" in told[0]

    asyncio.run(go())


def test_a_click_takes_the_line_under_it(tiny_run: RunFolder) -> None:
    async def go() -> None:
        app = Monitor(tiny_run.path, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            lines = frame(app).split("\n")
            y = next(n for n, line in enumerate(lines) if " selection" in line and n > 1)
            await pilot.click(offset=(5, y))
            assert STAGES[app.page.stage] == "selection"
            x = lines[1].index("4 ")
            await pilot.click(offset=(x, 1))
            assert app.page.name == "training"
            first = app.page.name
            await pilot.press("5", "6", "escape")
            assert app.page.name == "compare" != first

    asyncio.run(go())


def test_seen_is_when_it_was_left(make_run: Callable[[str], Path]) -> None:
    one, other = make_run("done"), make_run("failed")

    async def go() -> None:
        clock = [1000.0]
        app = Monitor(one, now=lambda: clock[0])
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            clock[0] = 2000.0
            app.open_run(other)
            assert app.context.seen is None
            await opened(app, pilot)
            clock[0] = 3000.0
            app.open_run(one)
            assert app.context.seen == 2000.0

    asyncio.run(go())


def test_the_theme_is_remembered(tiny_run: RunFolder) -> None:
    async def go() -> None:
        app = Monitor(tiny_run.path)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            await pilot.press("T")
            assert app.kept.theme == app.theme

    asyncio.run(go())
