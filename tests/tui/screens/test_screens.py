"""What single screens do: a reader that is scrolled and searched, edges that are dragged,
figures."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxprune.config.loading import load_config
from mlxprune.config.yaml_file import write_yaml
from mlxprune.run.event_kinds import Device, Histogram
from mlxprune.run.folder import RunFolder
from mlxprune_tui.app import Monitor
from mlxprune_tui.drawing import histogram
from mlxprune_tui.drawing.cells import plain
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers import run_comparison
from mlxprune_tui.screens import overview, reader, runs, scoring
from mlxprune_tui.screens.phrases import finish_words, status_line
from mlxprune_tui.shell.session import Session
from mlxprune_tui.testing import BRAILLE, frame, opened, passes_curve, show, until, view_of


def on(folder: Path, screen: str, go: Callable[[Any, Any], Awaitable[None]],
       size: tuple[int, int] = (120, 40)) -> None:  # fmt: skip
    """A screen of the app on a run, once it has something to show."""

    async def run() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=size) as pilot:
            await opened(app, pilot)
            await show(app, pilot, screen)
            await until(pilot, lambda: app.page.nothing() is None)
            app.page.renew()
            await go(app, pilot)

    asyncio.run(run())


# --- overview and the status line


def test_safe_to_leave_marks(make_run: Callable[[str], Path]) -> None:
    view = view_of(make_run("live"))
    view.state.machine = Device(
        power="battery", battery=0.4, disk_free=1 << 40, memory_total=100, memory_used=9
    )
    lines = plain([overview.leaving_of(view)]).split("\n")
    told = {line.split()[1]: line.split()[0] for line in lines if line.split()[0] in ("ok", "NO")}
    assert told["power"] == "NO"
    assert told["disk"] == told["memory"] == "ok"
    assert "40 %" in lines[0]  # what is wrong stands first


def test_times_are_no_times_of_day(make_run: Callable[[str], Path]) -> None:
    from mlxprune.run import forecast

    view = view_of(make_run("live"))
    view.finish = lambda: forecast.Finish(3600.0, 7200.0, 10800.0)  # type: ignore[method-assign]
    told = finish_words(view)
    at = time.strftime("%H:%M", time.localtime(view.now() + 7200))
    assert "2h00m (1h00m to 3h00m)" in told
    assert told.endswith(f"at {at}")
    line = plain([status_line(view, BRAILLE, 160, 40)])
    assert "8/10 final" in line
    assert "2h00m left" in line


def test_a_crashed_stage_is_not_running(make_run: Callable[[str], Path]) -> None:
    view = view_of(make_run("crashed"))
    row = overview.stage_row(view, "final", Session(view.run.path))
    assert row.cells[0][0] == BRAILLE.states["crashed"]
    assert "crashed" in str(row.cells[3])


def test_a_warning_can_be_read_whole(make_run: Callable[[str], Path]) -> None:
    from mlxprune.run.state import WarningFacts

    view = view_of(make_run("done"))
    words = " ".join(f"word{n}" for n in range(60))
    view.state.warnings.append(WarningFacts(t=1.0, message=words))
    assert words in plain([overview.attention_of(view, Session(view.run.path))])


def test_enter_opens_the_screen_of_the_stage_in_hand(tiny_run: RunFolder) -> None:
    async def go(app: Any, pilot: Any) -> None:
        app.page.query_one("#stages").choose("score")
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "scoring")

    on(tiny_run.path, "overview", go)


# --- scoring


def test_the_first_hour() -> None:
    rates = [(60.0 * n, 100.0) for n in range(60)] + [(60.0 * n, 50.0) for n in range(60, 120)]
    assert str(scoring.against_first_hour(rates)).startswith("0.50")
    assert scoring.against_first_hour(rates[:30]) is None  # nothing to compare with yet


def test_bars_and_band_agree_with_the_selection(tiny_run: RunFolder) -> None:
    async def go(app: Any, pilot: Any) -> None:
        lines = plain(app.page.draw_bars(100, 22)).split("\n")
        under = next(line for line in lines if "[" in line and "]" in line)
        left, right = under.index("["), under.index("]")
        bars = lines[: lines.index(under) - 1]
        solid = [x for line in bars for x, c in enumerate(line)
                 if c == BRAILLE.kept and x >= histogram.GUTTER]  # fmt: skip
        assert solid
        assert left - 1 <= min(solid)
        assert max(solid) <= right + 1
        await pilot.hover("#bars", offset=(40, 5))
        await until(pilot, lambda: "% lie below" in frame(app))
        await pilot.press("s")
        assert app.page.options["sort"] == "mean"

    on(tiny_run.path, "scoring", go)


def test_what_is_in_hand_is_seen_before_anything_is_done(make_run: Callable[[str], Path]) -> None:
    async def go(app: Any, pilot: Any) -> None:
        state = app.session.view.state
        edges = state.histogram.edges
        state.histogram = Histogram(
            t=1.0, edges=edges, documents=[0] * 160, tokens=[0] * 160, bytes=[0] * 160, domains={},
            in_hand_bins=[30, 31], in_hand=[5, 9],
        )  # fmt: skip
        app.page.renew()
        await until(pilot, lambda: BRAILLE.provisional in frame(app))
        assert app.page.nothing() is None

    on(make_run("live"), "scoring", go)


# --- selection


def test_an_edge_is_dragged_with_the_mouse(tiny_run: RunFolder) -> None:
    async def go(app: Any, pilot: Any) -> None:
        what = app.page.now
        before = what.rate
        picture = app.page.query_one("#slice")
        cells = picture.content_size.width
        await pilot.click("#slice", offset=(histogram.GUTTER + cells // 4, 4))
        await until(pilot, lambda: what.rate != before)
        assert BRAILLE.ghost in frame(app)
        await pilot.press("r")
        assert what.choice == what.own
        await pilot.press("a", "right", "right")
        await until(pilot, lambda: "A is" in frame(app))

    on(tiny_run.path, "selection", go)


def test_the_text_around_an_edge_is_that_of_its_documents(tiny_run: RunFolder) -> None:
    async def go(app: Any, pilot: Any) -> None:
        what = app.page.now
        table = app.page.query_one("#around")
        shown = table.as_rows()[1:]
        found = what.table.around(what.choice, what.kept, app.page._is_upper(), len(shown), 0)
        for (row, inside), (_, kept, _, text) in zip(found, shown, strict=True):
            assert line_of(what.texts.text(int(what.numbers[row]), 0, 60))[:40] == text[:40]
            assert kept == ("K" if inside else "D")

    on(tiny_run.path, "selection", go)


# --- training


def test_training_tells_passes_and_memorising(tiny_run: RunFolder) -> None:
    from mlxprune.run.state import MemorisingFacts

    async def go(app: Any, pilot: Any) -> None:
        state = app.session.view.state
        model = "final/high-50-s0"
        state.curves[model] = passes_curve([(600, 1.0), (1200, 1.5)])
        app.page.model = model
        app.page.renew()
        rows = [line.split() for line in plain(app.page.draw_passes(60, 5)).split("\n")]
        for n in (1, 2):
            train, valid, gap = (float(rows[k][n].strip("\u25bc\u25b2")) for k in (1, 2, 3))
            assert gap == pytest.approx(valid - train, abs=2e-3)
        state.memorising[model] = MemorisingFacts(
            pass_number=2, bits_per_byte=1.5, best=1.0, best_pass=1
        )
        app.page.renew()
        await until(pilot, lambda: "It is memorising" in frame(app))
        scale = app.page.bytes_per_token(model)
        manifest = json.loads((tiny_run.selection("high-50") / "manifest.json").read_text())
        assert scale == manifest["kept_bytes"] / manifest["kept_tokens"]
        assert "(+0.5000)" in str(app.page.facts(model))
        before = app.page.window
        app.page.do_zoom_in()
        assert app.page.window[1] - app.page.window[0] < before[1] - before[0]
        app.page.do_whole()
        await pilot.hover("#curve", offset=(40, 5))
        await until(pilot, lambda: "at " in frame(app) and "targets:" in frame(app))

    on(tiny_run.path, "training", go)


def test_the_strip_of_passes_stands_on_a_small_screen(tiny_run: RunFolder) -> None:
    async def go(app: Any, pilot: Any) -> None:
        await until(pilot, lambda: "validation" in frame(app).split("Passes")[-1])
        assert "gap" in frame(app).split("Passes")[-1]

    on(tiny_run.path, "training", go, (80, 24))


# --- compare


def test_compare_is_a_minus_b(tiny_run: RunFolder) -> None:
    told = json.loads((tiny_run.path / "report.json").read_text())["comparisons"][0]

    async def go(app: Any, pilot: Any) -> None:
        one, other = app.page.pair()
        assert (one.arm, other.arm) == (told["arm"], told["control"])
        rows = app.page.query_one("#why-table").as_rows()[1:]
        parts = {d["domain"]: d for d in told["domains"]}
        for name, arm, control, apart, adds, _ in rows:
            assert float(apart) == pytest.approx(float(arm) - float(control), abs=2e-4)
            assert float(adds) == pytest.approx(parts[name]["adds"], abs=1e-4)
        assert sum(float(r[4]) for r in rows) == pytest.approx(told["difference"], abs=1e-3)
        for entry in app.page.entries():
            arms = run_comparison.present_result(entry.view).arms
            assert entry.macro == arms[entry.arm].test_macro

    on(tiny_run.path, "compare", go)


def test_first_and_second_stay_apart(tiny_run: RunFolder) -> None:
    async def go(app: Any, pilot: Any) -> None:
        before = app.page.pair()[1].label
        await pilot.press("a")
        assert app.page.pair()[1].label == before != app.page.pair()[0].label
        assert app.page.what() == "curves"
        await pilot.press("d")
        await until(pilot, lambda: " minus " in frame(app))

    on(tiny_run.path, "compare", go)


def test_runs_on_other_data_name_no_winner(tiny_run: RunFolder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_run.path, other)

    async def go(app: Any, pilot: Any) -> None:
        app.session.marked.append(str(other))
        while app.page.tick():
            pass
        assert {e.label for e in app.page.entries()} >= {"high-50", "other:high-50"}
        app.page.first, app.page.second = "high-50", "other:high-50"
        app.page.options["what"] = "settings"
        app.page.renew()
        await pilot.pause()
        assert "no winner" not in frame(app)
        tree = load_config(RunFolder(other).config).model_dump(mode="json")
        tree["data"]["limit"] = 50
        RunFolder(other).config.write_text(write_yaml(tree))
        os.utime(RunFolder(other).config, (1, 1))
        app.page.renew()
        await until(pilot, lambda: "no winner" in frame(app))
        app.session.marked.clear()
        assert not any(e.label.startswith("other:") for e in app.page.entries())

    on(tiny_run.path, "compare", go)


def test_a_new_report_is_read(tiny_run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(tiny_run.path, folder)
    view = view_of(folder)
    report = folder / "report.json"
    before = run_comparison.present_result(view)
    assert before is not None
    assert before.comparisons
    report.write_text(json.dumps({**json.loads(report.read_text()), "comparisons": []}))
    os.utime(report, (5, 5))
    after = run_comparison.present_result(view)
    assert after is not None
    assert after.comparisons == []
    report.write_text('{"made": "by another version"}')
    assert run_comparison.present_result(view) is None


# --- documents and the reader


def test_a_late_search_is_not_shown(tiny_run: RunFolder) -> None:
    async def go(app: Any, pilot: Any) -> None:
        waiting: list[Any] = []
        app.later = lambda work, done: waiting.append(done)
        app.page.options["filter"] = "import"
        app.page.find()
        app.page.options["filter"] = ""
        app.page.find()
        everything = len(app.page.rows)
        waiting.pop()((np.zeros(0, np.int64), "searched"))
        assert len(app.page.rows) == everything

    on(tiny_run.path, "documents", go)


def test_a_document_is_read_to_its_end_and_searched(
    tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go(app: Any, pilot: Any) -> None:
        held = app.page.library
        app.page.options["sort"], app.page.options["reverse"] = "tokens", True
        app.page.find()
        await pilot.pause(0.1)
        row = app.page.chosen_row()
        assert held.tokens[row] == held.tokens.max()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, reader.Reader))
        page = app.screen
        await until(pilot, lambda: len(page.lines.spans) > 0)
        facts = held.facts.of(int(held.numbers[row]))
        assert line_of(facts.id)[:20] in frame(app)
        await pilot.press("G")
        await until(pilot, lambda: page.lines.is_whole)
        last = page.lines.text.split()[-1]
        await until(pilot, lambda: last in frame(app))
        word = page.lines.text.split()[5]
        await pilot.press("slash")
        page.query_one("#find").value = word
        await pilot.press("enter")
        await until(pilot, lambda: "match 1 of" in frame(app))
        count = len(page.lines.matches)
        assert count == page.lines.text.lower().replace("\n", " ").count(word.lower())
        if count > 1:
            await pilot.press("n")
            await until(pilot, lambda: "match 2 of" in frame(app))
        await pilot.press("full_stop")
        await until(pilot, lambda: page.row == int(app.page.rows[1]))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)

    on(tiny_run.path, "documents", go)


def test_losses_are_of_the_document_asked_for(
    tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def losses(run: Any, held: Any, number: int) -> Any:
        asked.append(number)
        return ["a", "b"], [0.5, 11.0]

    monkeypatch.setattr(reader, "_losses", losses)

    async def go(app: Any, pilot: Any) -> None:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, reader.Reader))
        page = app.screen
        await pilot.press("v")
        await until(pilot, lambda: page.hot is not None)
        assert asked == [page.document]
        assert [style for _, style in page.hot[0][0]] == ["heat0", "heat5"]
        assert "10+" in frame(app)  # the legend
        await pilot.press("p")
        assert page.peak == 1

    on(tiny_run.path, "documents", go)


# --- runs


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
