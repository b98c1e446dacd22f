"""What may be left alone, what needs a look, and where enter goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlxprune.run.event_kinds import Device
from mlxprune.run.folder import RunFolder
from mlxprune_tui.drawing.cells import plain
from mlxprune_tui.screens import overview
from mlxprune_tui.shell.session import Session
from mlxprune_tui.testing import (
    BRAILLE,
    on_screen,
    until,
    view_of,
)


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

    on_screen(tiny_run.path, "overview", go)
