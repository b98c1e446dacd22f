"""A text is scrolled to its end, and selected."""

from __future__ import annotations

from typing import Any

from textual.geometry import Offset
from textual.selection import Selection

from mlxprune_tui.testing import Held, held
from mlxprune_tui.widgets.text_view import TextView


def test_a_text_is_scrolled_and_selected() -> None:
    async def go(app: Held, pilot: Any) -> None:
        view = app.widget
        view.show(500)
        view.focus()
        await pilot.press("pagedown")
        await pilot.pause()
        assert view.scroll_offset.y >= 9
        await pilot.press("end")
        await pilot.pause()
        assert "line 499" in view.render_line(view.size.height - 1).text
        picked = view.get_selection(Selection(Offset(0, 3), Offset(6, 4)))
        assert picked is not None
        assert picked[0] == "line 3\nline 4"

    held(TextView(lambda row: [(f"line {row}", "")], "v"), go)
