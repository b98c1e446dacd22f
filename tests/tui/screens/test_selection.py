"""An edge is dragged, and the text around it is that of its documents."""

from __future__ import annotations

from typing import Any

from mlxprune.run.folder import RunFolder
from mlxprune_tui.drawing import histogram
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.testing import (
    BRAILLE,
    frame,
    on_screen,
    until,
)


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

    on_screen(tiny_run.path, "selection", go)


def test_the_text_around_an_edge_is_that_of_its_documents(tiny_run: RunFolder) -> None:
    async def go(app: Any, pilot: Any) -> None:
        what = app.page.now
        table = app.page.query_one("#around")
        shown = table.as_rows()[1:]
        found = what.table.around(what.choice, what.kept, app.page.is_upper(), len(shown), 0)
        for (row, inside), (_, kept, _, text) in zip(found, shown, strict=True):
            assert line_of(what.texts.text(int(what.numbers[row]), 0, 60))[:40] == text[:40]
            assert kept == ("K" if inside else "D")

    on_screen(tiny_run.path, "selection", go)
