"""The app in every state, on every screen, at every size, with every key."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import Input

from mlxprune.config.loading import load_config
from mlxprune.run.event_kinds import Memorising, RunEnd
from mlxprune.run.events import EventLog
from mlxprune.run.folder import STAGES, RunFolder, runs_under
from mlxprune_tui.app import SCREENS, Monitor
from mlxprune_tui.shell import keys
from mlxprune_tui.shell.settings import Settings
from mlxprune_tui.testing import STATES, check_frame, frame, opened, show, until
from mlxprune_tui.widgets.table import Table

SIZES = ((80, 24), (120, 40), (200, 60), (60, 15))
HARMLESS = [k for k in keys.KEYS if k.action not in ("leave", "palette", "open_report")]


@pytest.mark.parametrize(
    "state",
    [pytest.param(s, marks=[] if s == "live" else pytest.mark.slow) for s in STATES],
)
def test_every_screen_in_every_state_and_size(state: str, make_run: Callable[[str], Path]) -> None:
    async def go() -> None:
        app = Monitor(make_run(state), remember=False)
        async with app.run_test(size=(80, 24)) as pilot:
            await opened(app, pilot)
            wanted = {"empty": "pending", "starting": "running", "live": "running"}
            assert app.session.view is not None
            assert app.session.view.standing == wanted.get(state, state)
            for cells, rows in SIZES:
                await pilot.resize_terminal(cells, rows)
                await until(pilot, lambda size=(cells, rows): app.screen.size == size)
                for name in SCREENS:
                    await show(app, pilot, name)
                    check_frame(app, cells, rows)
                    assert name.capitalize()[:4] in frame(app)

    asyncio.run(go())


@pytest.mark.slow
def test_a_finished_run_is_drawn_anew_after_a_resize(tiny_run: RunFolder) -> None:
    """Nothing else would draw it again."""

    async def go() -> None:
        app = Monitor(tiny_run.path, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            await show(app, pilot, "scoring")
            for cells, rows in ((80, 24), (45, 12), (200, 60), (3, 2), (120, 40)):
                await pilot.resize_terminal(cells, rows)
                await pilot.pause(0.4)
                check_frame(app, cells, rows)
                words = [line for line in frame(app).split("\n") if line.strip()]
                if cells < 60 or rows < 15:
                    assert len(words) <= 1
                else:
                    assert any(line.rstrip().endswith("documents") or "kept" in line
                               for line in words)  # fmt: skip

    asyncio.run(go())


@pytest.mark.slow
@pytest.mark.parametrize("state", ["empty", "live", "done"])
def test_every_key_of_every_screen(state: str, make_run: Callable[[str], Path]) -> None:
    """None of them breaks anything, whatever there is to show; and one that can do nothing says
    why."""

    async def go() -> None:
        app = Monitor(make_run(state), remember=False)
        told: list[str] = []
        app.notify = lambda message, **more: told.append(message)  # type: ignore[method-assign]
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            for name in SCREENS:
                for key in HARMLESS:
                    if key.screen not in (name, keys.EVERYWHERE) or key.action.startswith("as_"):
                        continue
                    if app.current_mode != name:
                        await show(app, pilot, name)
                    why = app.page.why_not(key.action)
                    told.clear()
                    await pilot.press(key.key)
                    if why is not None and app.page.focused is not None:
                        await until(pilot, lambda: bool(told), 3.0, key.id)
                    if isinstance(app.page.focused, Input):
                        await pilot.press("escape")
                    while len(app.screen_stack) > 1:
                        await pilot.press("escape")
                        await pilot.pause(0.02)
                if app.current_mode == name and app.page.maximized is not None:
                    await pilot.press("z")
                check_frame(app, 100, 30)

    asyncio.run(go())


def test_numbers_on_the_screen_are_those_of_the_run(tiny_run: RunFolder) -> None:
    told = json.loads((tiny_run.path / "report.json").read_text())

    async def go() -> None:
        app = Monitor(tiny_run.path, remember=False)
        async with app.run_test(size=(200, 60)) as pilot:
            await opened(app, pilot)
            assert "DONE" in frame(app)
            await show(app, pilot, "scoring")
            documents = told["slices"]["high-50"]["pool_documents"]
            assert f"{documents:,} documents" in frame(app)
            await show(app, pilot, "selection")
            await until(pilot, lambda: app.page.nothing() is None)
            await until(
                pilot, lambda: f"{told['slices']['high-50']['kept_tokens']:,}" in frame(app)
            )
            assert f"{told['slices']['high-50']['kept_documents']:,}" in frame(app)
            await show(app, pilot, "compare")
            compared = told["comparisons"][0]
            assert f"{compared['difference']:+.3f}" in frame(app)
            await show(app, pilot, "documents")
            await until(pilot, lambda: f"{documents:,} of {documents:,}" in frame(app))
            await show(app, pilot, "training")
            arm = told["arms"]["high-50"]["seeds"]["0"]
            assert f"{arm['validation_bpb']:.3f}" in frame(app)

    asyncio.run(go())


def test_a_crash_shows_the_command_that_goes_on(make_run: Callable[[str], Path]) -> None:
    folder = make_run("crashed")

    async def go() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=(120, 30)) as pilot:
            await opened(app, pilot)
            assert "CRASHED" in frame(app)
            whole = "".join(frame(app).split())
            assert "".join(f"mlxprune run {folder}/config.yaml --dir {folder}".split()) in whole

    asyncio.run(go())


def test_a_finished_run_says_who_won_first(tiny_run: RunFolder) -> None:
    told = json.loads((tiny_run.path / "report.json").read_text())["conclusion"]["lead"]

    async def go() -> None:
        app = Monitor(tiny_run.path, remember=False)
        for size in ((80, 24), (120, 40)):
            async with Monitor(tiny_run.path, remember=False).run_test(size=size) as pilot:
                app = pilot.app
                await opened(app, pilot)
                lines = frame(app).split("\n")
                assert " ".join(told.split()[:5]) in lines[2]

    asyncio.run(go())


def test_an_old_verdict_is_not_that_of_a_run_that_goes_on(
    make_run: Callable[[str], Path],
) -> None:
    """With another slice: its report, its arms and its curves are of the slice before."""
    folder = make_run("live")
    done = make_run("done")
    shutil.copy(done / "report.json", folder)
    config = folder / "config.yaml"
    text = config.read_text()
    assert "rate: 0.5" in text
    config.write_text(text.replace("rate: 0.5", "rate: 0.05"))

    async def go() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            assert app.session.view is not None
            assert any(n.startswith("final/high-50") for n in app.session.view.state.curves)
            await show(app, pilot, "compare")
            assert "high-50" not in frame(app)
            await show(app, pilot, "training")
            lines = [line for line in frame(app).split("\n") if "high-50" in line]
            assert all("earlier" in line for line in lines)
            assert "Of an earlier slice" not in frame(app)

    asyncio.run(go())


def test_it_remembers_where_it_was(tiny_run: RunFolder) -> None:
    async def go() -> None:
        app = Monitor(tiny_run.path)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            await pilot.press("4")
            await until(pilot, lambda: app.current_mode == "training")
            await pilot.press("v")
            await pilot.pause()
            figure = app.page.options["figure"]
        again = Monitor(tiny_run.path)
        async with again.run_test(size=(100, 30)) as pilot:
            await opened(again, pilot)
            assert again.current_mode == "training"
            assert again.page.options["figure"] == figure != "loss"
            assert again.session.seen is not None

    asyncio.run(go())


def test_an_odd_option_is_not_used(tiny_run: RunFolder) -> None:
    async def go() -> None:
        kept = Settings(options={"compare": {"what": "nothing", "axis": "steps"}})
        app = Monitor(tiny_run.path, kept=kept, remember=False)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            await show(app, pilot, "compare")
            assert app.page.options == {"what": "domains", "axis": "steps", "difference": False}

    asyncio.run(go())


def test_opening_another_run_forgets_the_first(make_run: Callable[[str], Path]) -> None:
    one, other = make_run("done"), make_run("failed")

    async def go() -> None:
        app = Monitor(one, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            await show(app, pilot, "documents")
            await until(pilot, lambda: app.page.library is not None)  # type: ignore[attr-defined]
            before = app.page.library  # type: ignore[attr-defined]
            app.open_run(other)
            await opened(app, pilot)
            assert app.current_mode == "documents"
            assert app.page.library is not before  # type: ignore[attr-defined]

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
            assert app.session.view is not None
            assert app.session.view.run.path == order[(at + 1) % 3]

    asyncio.run(go())


def test_an_end_is_told_once(make_run: Callable[[str], Path]) -> None:
    folder = make_run("live")
    told: list[str] = []

    async def go() -> None:
        app = Monitor(folder, remember=False)
        app.notify = lambda message, **more: told.append(more.get("title") or message)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            await until(pilot, lambda: app.notices.standing is not None)
            assert told == []
            log = EventLog(RunFolder(folder).events)
            log.emit(None, RunEnd(status="failed", error={"problem": "x", "fix": "y"}))
            log.close()
            await until(pilot, lambda: bool(told))
            await pilot.pause(0.6)
            assert len(told) == 1
            assert "failed" in told[0]

    asyncio.run(go())


def test_memorising_is_told_once_and_stands_everywhere(make_run: Callable[[str], Path]) -> None:
    folder = make_run("live")
    told: list[str] = []

    async def go() -> None:
        app = Monitor(folder, remember=False)
        app.notify = lambda message, **more: told.append(message)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            assert app.session.view is not None
            model = f"final/{app.session.view.arms()[0].name}"
            log = EventLog(RunFolder(folder).events)
            event = Memorising(model=model, targets=9, pass_number=7, bits_per_byte=4.1, best=3.9,
                               best_pass=5, since=9)  # fmt: skip
            for _ in range(2):
                log.emit("final", event)
            log.close()
            await until(pilot, lambda: bool(told))
            await pilot.pause(0.6)
            assert len(told) == 1
            assert "pass 7" in told[0]
            assert "memorising" in frame(app)
            await show(app, pilot, "training")
            assert "memorising" in frame(app)
            await show(app, pilot, "runs")
            await until(pilot, lambda: "\u25b2" in frame(app))

    asyncio.run(go())


def test_the_mouse_takes_what_is_under_it(tiny_run: RunFolder) -> None:
    async def go() -> None:
        app = Monitor(tiny_run.path, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            lines = frame(app).split("\n")
            y = next(n for n, line in enumerate(lines) if " selection" in line and n > 2)
            x = lines[y].index(" selection") + 3
            await pilot.click(offset=(x, y))
            table = app.page.query_one("#stages")
            await until(pilot, lambda: table.chosen_key() == "selection")  # type: ignore[attr-defined]
            x = lines[1].index("4 ")
            await pilot.click(offset=(x, 1))
            await until(pilot, lambda: app.current_mode == "training")
            await pilot.press("5")
            await until(pilot, lambda: app.current_mode == "compare")
            await pilot.press("6")
            await until(pilot, lambda: app.current_mode == "documents")
            await pilot.press("escape")
            await until(pilot, lambda: app.current_mode == "compare")
            lines = frame(app).split("\n")
            x = lines[-1].index("help")
            await pilot.click(offset=(x, len(lines) - 1))  # the footer is clickable
            await until(pilot, lambda: len(app.screen_stack) == 2)

    asyncio.run(go())


def test_keys_that_are_pressed_fast_end_on_the_last_one(tiny_run: RunFolder) -> None:
    """Also where their screens are made for the first time."""

    async def go() -> None:
        app = Monitor(tiny_run.path, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            for key in "1234567262":
                app.simulate_key(key)
            await until(pilot, lambda: app.current_mode == "scoring")
            await pilot.pause(0.5)
            assert app.current_mode == "scoring"
            assert "Log-perplexity" in frame(app)

    asyncio.run(go())


@pytest.mark.slow
def test_no_screen_is_a_trap(make_run: Callable[[str], Path]) -> None:
    """Where a screen has nothing to show yet, what means the same everywhere still works."""

    async def go() -> None:
        for name in SCREENS:
            await one(name)

    async def one(name: str) -> None:
        app = Monitor(make_run("starting" if name != "runs" else "empty"), remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            await show(app, pilot, name)
            await pilot.press("question_mark")
            await until(pilot, lambda: len(app.screen_stack) == 2)
            await pilot.press("escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)
            other = "4" if name != "training" else "1"
            await pilot.press(other)
            await until(pilot, lambda: app.current_mode != name)
            shutil.rmtree(app.session.view.run.path)  # type: ignore[union-attr]

    asyncio.run(go())


def test_letters_move_as_arrows_do(tiny_run: RunFolder) -> None:
    async def go() -> None:
        app = Monitor(tiny_run.path, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            table = app.page.query_one("#stages", Table)
            await until(pilot, lambda: app.page.focused is table)
            for key, wanted in (("G", STAGES[-1]), ("k", STAGES[-2]), ("g", STAGES[0]),
                                ("j", STAGES[1])):  # fmt: skip
                await pilot.press(key)
                await until(pilot, lambda wanted=wanted: table.chosen_key() == wanted)

    asyncio.run(go())


def test_a_pane_fills_the_screen_and_goes_back(tiny_run: RunFolder) -> None:
    async def go() -> None:
        app = Monitor(tiny_run.path, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            before = frame(app)
            await pilot.press("z")
            await until(pilot, lambda: app.page.maximized is not None)
            await pilot.pause(0.2)
            assert frame(app) != before
            await pilot.press("escape")
            await until(pilot, lambda: app.page.maximized is None)

    asyncio.run(go())


def test_it_waits_for_a_run_that_is_not_there_yet(
    make_run: Callable[[str], Path], tmp_path: Path
) -> None:
    wanted = tmp_path / "later" / "run"

    async def go() -> None:
        app = Monitor(wanted, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            assert "mlxprune demo" in frame(app)
            shutil.copytree(make_run("done"), wanted)
            await until(pilot, lambda: "DONE" in frame(app))

    asyncio.run(go())


def test_a_folder_that_is_gone_keeps_its_last_picture(
    make_run: Callable[[str], Path],
) -> None:
    folder = make_run("done")

    async def go() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            shutil.rmtree(folder)
            await pilot.press("2", "1")
            await until(pilot, lambda: "is gone" in frame(app))
            assert "corpus" in frame(app)

    asyncio.run(go())


@pytest.mark.slow
def test_what_y_copies_is_a_command_that_runs(
    tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every screen: read as the command line reads it, and started."""
    copied: dict[str, str] = {}

    async def go() -> None:
        app = Monitor(tiny_run.path, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            for name in SCREENS:
                await show(app, pilot, name)
                await until(pilot, lambda: app.page.nothing() is None)
                await until(pilot, lambda: app.page.copied() is not None)
                found = app.page.copied()
                assert found is not None
                copied[name] = found[0]

    asyncio.run(go())
    for name, line in copied.items():
        words = shlex.split(line)
        assert words[0] == "mlxprune"
        if words[1] == "run":  # it would train: that it is understood is enough
            settings = [words[n + 1] for n, w in enumerate(words) if w == "--set"]
            load_config(Path(words[2]), settings)
            continue
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (name, line, done.stderr)


def test_seen_is_when_it_was_left(make_run: Callable[[str], Path]) -> None:
    one, other = make_run("done"), make_run("failed")

    async def go() -> None:
        clock = [1000.0]
        app = Monitor(one, now=lambda: clock[0])
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            clock[0] = 2000.0
            app.open_run(other)
            assert app.session.seen is None
            await opened(app, pilot)
            clock[0] = 3000.0
            app.open_run(one)
            assert app.session.seen == 2000.0

    asyncio.run(go())


def test_the_theme_is_remembered(tiny_run: RunFolder) -> None:
    async def go() -> None:
        app = Monitor(tiny_run.path)
        async with app.run_test(size=(100, 30)) as pilot:
            await opened(app, pilot)
            before = app.theme
            await pilot.press("T")
            await until(pilot, lambda: app.theme != before)
            assert app.kept.theme == app.theme

    asyncio.run(go())
