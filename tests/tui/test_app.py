"""The app in every state, on every screen, at every size, with every key."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest_tui import STATES, write_segment
from textual import events as textual_events

from mlxprune import events, runs
from mlxprune_tui import draw, keys, words
from mlxprune_tui.app import PAGES, Monitor

SIZES = ((80, 24), (120, 40), (200, 60), (60, 15))
HARMLESS = [k for k in keys.KEYS if k.action not in ("detach", "palette")]


async def until(pilot: Any, condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition, not for a time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        await pilot.pause(0.02)


def frame(app: Monitor) -> str:
    return draw.plain(app.picture.lines)


async def opened(app: Monitor, pilot: Any) -> None:
    await until(pilot, lambda: app.desk.view is None or app.desk.view.loaded)
    await pilot.pause(0.05)


def check_frame(app: Monitor, cells: int, rows: int) -> None:
    """Exactly the screen, every line exactly its width, nothing that a terminal would obey."""
    lines = app.picture.lines
    assert len(lines) == (1 if cells < 60 or rows < 15 else rows)
    for line in lines:
        text = "".join(part for part, _ in line)
        assert words.width(text) == cells, text
        assert all(c.isprintable() for c in text), ascii(text)


@pytest.mark.parametrize("state", STATES)
def test_every_screen_in_every_state_and_size(state: str, make_run: Callable[[str], Path]) -> None:
    async def go() -> None:
        app = Monitor(make_run(state), remember=False)
        async with app.run_test(size=(80, 24)) as pilot:
            await opened(app, pilot)
            wanted = {"empty": "pending", "starting": "running", "live": "running"}
            assert app.desk.view is not None
            assert app.desk.view.standing == wanted.get(state, state)
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


def test_numbers_on_the_screen_are_those_of_the_run(tiny_run: runs.RunFolder) -> None:
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


def test_a_command_is_written_only_after_yes(make_run: Callable[[str], Path]) -> None:
    folder = make_run("live")
    run = runs.RunFolder(folder)

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
                    assert runs.take_commands(run) == []
            assert runs.take_commands(run) == ["stop"]

    asyncio.run(go())


def test_a_window_that_only_looks_takes_no_command(make_run: Callable[[str], Path]) -> None:
    async def go() -> None:
        app = Monitor(make_run("live"), read_only=True, remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            for key in "PRCX":
                await pilot.press(key)
                assert len(app.screen_stack) == 1
            app.show_page("runs")
            await pilot.press("n")
            assert len(app.screen_stack) == 1

    asyncio.run(go())


def test_hostile_names_reach_no_terminal(tmp_path: Path, tiny_run: runs.RunFolder) -> None:
    """Escapes, overrides, markup and floods of marks in everything that a log can say."""
    bad = "\x1b[31m\x07[bold]x[/nope]\u202e\u200b" + 4 * "\u0301" + "\u4f60\ud7ff\U0001f469\u200d"
    records = []
    for n, event in enumerate(events.read_events(tiny_run.events)):
        told = dict(event)
        for key in ("run", "why", "message", "what", "device"):
            if isinstance(told.get(key), str):
                told[key] = bad + str(n % 7)
        if told["kind"] == "run.end":
            told |= {"status": "failed", "error": dict.fromkeys(("problem", "where", "fix"), bad)}
        if told["kind"] == "histogram":
            told["domains"] = {bad + k: v for k, v in told["domains"].items()}
        records.append(told)
    warned = {**records[-1], "kind": "warning", "message": bad, "stage": "corpus"}
    folder = tmp_path / "run"
    write_segment(folder / "events", [*records[:-1], warned, records[-1]])
    (folder / "run.json").write_bytes(tiny_run.run_json.read_bytes())
    (folder / "config.yaml").write_bytes(tiny_run.config.read_bytes())

    async def go() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            for name in PAGES:
                app.show_page(name)
                await pilot.pause(0.05)
                check_frame(app, 120, 40)
                # What really goes to the terminal.
                for strip in app.picture.strips:
                    assert strip.text.isprintable()
            await pilot.press("question_mark")
            await pilot.press("escape")
            assert app.desk.view is not None
            app._told = "running"
            app._tell_ends(app.desk.view)
            await pilot.press("ctrl+p")
            await until(pilot, lambda: len(app.screen_stack) > 1)
            await pilot.pause(0.3)

    asyncio.run(go())


def test_no_colour_and_few_colours(
    tiny_run: runs.RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unset style kills an app under NO_COLOR; kept and dropped differ without colour."""
    monkeypatch.setenv("NO_COLOR", "1")

    async def go() -> None:
        for theme in ("textual-dark", "textual-light", "ansi-dark"):
            app = Monitor(tiny_run.path, remember=False, chosen={"theme": theme})
            async with app.run_test(size=(100, 30)) as pilot:
                await opened(app, pilot)
                for name in PAGES:
                    app.show_page(name)
                    await pilot.pause(0.02)
                app.show_page("scoring")
                assert draw.GLYPHS["braille"].kept in frame(app)
                assert draw.GLYPHS["braille"].dropped in frame(app)

    asyncio.run(go())


def test_ascii_glyphs_are_ascii(tiny_run: runs.RunFolder) -> None:
    async def go() -> None:
        app = Monitor(tiny_run.path, remember=False, chosen={"glyphs": "ascii"})
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            for name in PAGES:
                app.show_page(name)
                await pilot.pause(0.05)
                assert frame(app).isascii(), name

    asyncio.run(go())


def test_it_remembers_where_it_was(tiny_run: runs.RunFolder) -> None:
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
            assert again.desk.seen is not None

    asyncio.run(go())


def test_a_held_picture_loses_nothing(make_run: Callable[[str], Path]) -> None:
    folder = make_run("live")
    run = runs.RunFolder(folder)

    async def go() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            await pilot.press("space")
            await until(pilot, lambda: "HELD" in frame(app))
            before = frame(app)
            log = events.EventLog(run.events)
            log.emit("final", "warning", message="while it was held")
            log.close()
            await pilot.pause(0.6)
            assert "while it was held" not in frame(app)
            await pilot.press("space")
            await until(pilot, lambda: "while it was held" in frame(app))
            assert before != frame(app)

    asyncio.run(go())


def test_the_palette_opens_a_run(make_run: Callable[[str], Path]) -> None:
    one, other = make_run("done"), make_run("failed")

    async def go() -> None:
        app = Monitor(one, remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            names = {c.title for c in app.get_system_commands(app.screen)}
            assert {
                "open done",
                "open failed",
                "theme nord",
                "show training",
                "documents: heat",
            } <= names
            command = next(
                c for c in app.get_system_commands(app.screen) if c.title == "open failed"
            )
            command.callback()
            await opened(app, pilot)
            assert app.desk.view is not None
            assert app.desk.view.run.path == other

    asyncio.run(go())


def test_a_log_of_a_newer_version_or_damaged_is_told(
    tiny_run: runs.RunFolder, tmp_path: Path
) -> None:
    records = list(events.read_events(tiny_run.events))
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


@pytest.mark.slow
def test_what_a_person_types_ends_nothing(
    make_run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    tries = {
        ("runs", "n"): ["it's.yaml", "none.yaml", ""],
        ("selection", "w"): ["~nobody-of-that-name/x.yaml", "made.yaml", "made.yaml"],
        ("documents", "slash"): ["nll>", "tokens>" + 300 * "9", "domain:none", "kept !def the"],
        ("documents", "percent_sign"): ["-3", "x", "50"],
    }

    async def go() -> None:
        app = Monitor(make_run("done"), remember=False)
        app.notify = lambda message, **more: told.append(message)  # type: ignore[method-assign]
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            for (name, key), texts in tries.items():
                app.show_page(name)
                await until(pilot, lambda page=app.page: page.why_not("write") is None)
                for text in texts:
                    await pilot.press(key)
                    await until(pilot, lambda: len(app.screen_stack) == 2)
                    app.screen.query_one("Input").value = text  # type: ignore[attr-defined]
                    await pilot.press("enter")
                    await pilot.pause(0.05)
                    for _ in range(3):  # it asks again, with what is wrong
                        if len(app.screen_stack) > 1:
                            await pilot.press("escape")
                            await pilot.pause()
                    assert len(app.screen_stack) == 1
            check_frame(app, 100, 30)

    asyncio.run(go())
    assert (tmp_path / "made.yaml").exists()
    assert any("exists" in t for t in told)
    assert any("percentile" in t for t in told)


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
            order = [r.path for r in runs.runs_under(folders["done"].parent)]
            at = order.index(folders["crashed"])
            await pilot.press("right_square_bracket")
            assert app.desk.view.run.path == order[(at + 1) % 3]

    asyncio.run(go())


def test_an_end_is_told(make_run: Callable[[str], Path]) -> None:
    folder = make_run("live")
    told: list[str] = []

    async def go() -> None:
        app = Monitor(folder, remember=False)
        app.notify = lambda message, **more: told.append(more.get("title") or message)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            await until(pilot, lambda: app._told is not None)
            assert told == []
            log = events.EventLog(runs.RunFolder(folder).events)
            log.emit(None, "run.end", status="failed", error={"problem": "x", "fix": "y"})
            log.close()
            await until(pilot, lambda: bool(told))
            assert "failed" in told[0]

    asyncio.run(go())


def test_a_click_takes_the_line_under_it(tiny_run: runs.RunFolder) -> None:
    async def go() -> None:
        app = Monitor(tiny_run.path, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            lines = frame(app).split("\n")
            y = next(n for n, line in enumerate(lines) if " selection" in line and n > 1)
            await pilot.click(offset=(5, y))
            assert runs.STAGES[app.page.stage] == "selection"
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
            assert app.desk.seen is None
            await opened(app, pilot)
            clock[0] = 3000.0
            app.open_run(one)
            assert app.desk.seen == 2000.0

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
            assert runs.take_commands(runs.RunFolder(folder)) == []

    asyncio.run(go())


def test_escape_of_a_line_of_text_does_nothing(
    make_run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def go() -> None:
        app = Monitor(make_run("done"), remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            app.show_page("selection")
            await until(pilot, lambda: app.page.why_not("write") is None)
            await pilot.press("w")
            await until(pilot, lambda: len(app.screen_stack) == 2)
            await pilot.press("escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)
            await pilot.pause(0.1)
            assert not list(tmp_path.glob("*.yaml"))

    asyncio.run(go())


def test_the_theme_is_remembered(tiny_run: runs.RunFolder) -> None:
    async def go() -> None:
        app = Monitor(tiny_run.path)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            await pilot.press("T")
            assert app.kept["theme"] == app.theme

    asyncio.run(go())
