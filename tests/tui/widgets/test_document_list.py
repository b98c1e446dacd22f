"""A list of a million asks for what is seen."""

from __future__ import annotations

from typing import Any

from mlxprune_tui.drawing.cells import Line
from mlxprune_tui.testing import Held, held
from mlxprune_tui.widgets.document_list import DocumentList


def test_a_list_asks_only_for_what_is_seen() -> None:
    asked: set[int] = set()

    def line(row: int, cells: int, here: bool) -> Line:
        asked.add(row)
        return [(f"{'>' if here else ' '} {row}", "")]

    async def go(app: Held, pilot: Any) -> None:
        listed = app.widget
        listed.show(1_000_000)
        await pilot.pause()
        assert max(asked) < 20
        listed.focus()
        asked.clear()
        await pilot.press("end")
        await pilot.pause()
        assert listed.cursor == 999_999
        assert min(r for r in asked if r > 20) > 999_980
        asked.clear()
        await pilot.press("pageup", "up")
        assert listed.cursor == 999_999 - (listed.size.height - 1) - 1
        await pilot.press("home", "down", "down")
        assert listed.cursor == 2
        await pilot.click("#l", offset=(3, 5))
        assert listed.cursor == 5
        await pilot.click("#l", offset=(3, 5))
        await pilot.pause()

    app = held(DocumentList(line, "l"), go)
    assert app.heard == [("opened", 5)]
