from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mlxprune.run import forecast
from mlxprune.run.event_kinds import Device
from mlxprune.run.folder import STAGES, RunFolder
from mlxprune.units import clock
from mlxprune_tui.drawing.cells import plain
from mlxprune_tui.screens import overview, run_phrases
from mlxprune_tui.shell import bars
from mlxprune_tui.testing import BRAILLE, on


def test_safe_to_leave_marks(make_run: Callable[[str], Path]) -> None:
    page = on(make_run("live"), overview.Overview)
    page.context.view.state.machine = Device(
        power="battery", battery=0.4, disk_free=1 << 40, memory_total=100, memory_used=9
    )
    lines = plain(page.draw_leaving(100, 10)).split("\n")
    told = {line.split()[1]: line.split()[0] for line in lines}
    assert told["power"] == "NO"
    assert told["disk"] == told["memory"] == "ok"
    assert "40 %" in next(line for line in lines if "power" in line)


def test_the_end_is_between_early_and_late(make_run: Callable[[str], Path]) -> None:
    page = on(make_run("live"), overview.Overview)
    view = page.context.view
    view.finish = lambda: forecast.Finish(3600.0, 7200.0, 10800.0)
    now = view.now()
    at = [time.strftime("%H:%M", time.localtime(now + s)) for s in (3600, 7200, 10800)]
    told, _ = run_phrases.finish_words(view)
    assert told.startswith(f"{at[1]}, between {at[0]} and {at[2]}")


def test_an_ended_run_has_an_end_and_a_length(tiny_run: RunFolder) -> None:
    page = on(tiny_run.path, overview.Overview, lambda: time.time() + 86400)
    view = page.context.view
    ended = time.strftime("%H:%M", time.localtime(view.state.updated))
    assert ended in run_phrases.finish_words(view)[0]
    took = clock(view.state.updated - view.state.attempt_started)
    assert f" {took} " in plain([bars.status(view, BRAILLE, 120)])


def test_the_status_line_of_a_second_attempt(make_run: Callable[[str], Path]) -> None:
    page = on(make_run("live"), overview.Overview)
    view = page.context.view
    view.state.started -= 7200.0
    line = plain([bars.status(view, BRAILLE, 160)])
    assert "8/10 final" in line
    assert "2:0" not in line


def test_enter_opens_the_screen_of_the_stage_in_hand(tiny_run: RunFolder) -> None:
    page = on(tiny_run.path, overview.Overview)
    page.clicked("Pipeline", 3, STAGES.index("score"))
    assert page.opened() == "scoring"


def test_events_are_newest_first(tiny_run: RunFolder) -> None:
    page = on(tiny_run.path, overview.Overview)
    assert "the run ended" in plain(page.draw_events(90, 10)).split("\n")[0]


def test_a_crashed_stage_is_not_running(make_run: Callable[[str], Path]) -> None:
    page = on(make_run("crashed"), overview.Overview)
    line = plain([page.draw_stage_row("final", 90)])
    assert "crashed" in line
    assert BRAILLE.states["crashed"] in line
