"""A picture draws what changed, bears its drawer's errors, is selected and clicked."""

from __future__ import annotations

from typing import Any

from textual.geometry import Offset
from textual.selection import Selection

from mlxprune_tui.drawing.cells import Line
from mlxprune_tui.testing import Held, held
from mlxprune_tui.widgets.picture import Picture
from mlxprune_tui.widgets.table import Column


def numbered(cells: int, rows: int) -> list[Line]:
    return [[(f"row {n} ", ""), ("\u4f60\u597d", "bold")] for n in range(rows)]


def test_only_what_changed_is_drawn_again() -> None:
    lines = numbered(40, 10)

    async def go(app: Held, pilot: Any) -> None:
        asked: list[Any] = []
        app.widget.refresh = lambda *regions, **more: asked.append(regions)
        app.widget.renew()
        assert asked == []
        lines[3] = [("another", "")]
        app.widget.renew()
        ((region,),) = asked
        assert (region.y, region.height) == (3, 1)

    held(Picture(lambda cells, rows: list(lines), "p"), go)


def test_a_picture_that_cannot_be_drawn_says_so() -> None:
    def draw(cells: int, rows: int) -> list[Line]:
        raise ZeroDivisionError("odd \x1b[31m")

    async def go(app: Held, pilot: Any) -> None:
        app.widget.renew()
        assert "cannot be drawn" in app.widget.lines[0][0][0]
        assert "\x1b" not in app.widget.lines[0][0][0]

    held(Picture(draw, "p"), go)


def test_text_of_a_picture_is_selected() -> None:
    async def go(app: Held, pilot: Any) -> None:
        picked = app.widget.get_selection(Selection(Offset(0, 1), Offset(5, 2)))
        assert picked is not None
        assert picked[0] == "row 1 \u4f60\u597d\nrow 2"
        app.screen.selections = {app.widget: Selection(Offset(4, 1), Offset(7, 1))}
        await pilot.pause()
        strip = app.widget.render_line(1)
        assert strip.text.startswith("row 1 \u4f60\u597d")
        assert strip.cell_length == 40

    held(Picture(numbered, "p"), go)


def test_a_chart_answers_the_mouse() -> None:
    async def go(app: Held, pilot: Any) -> None:
        await pilot.hover("#p", offset=(7, 2))
        await pilot.click("#p", offset=(9, 3))
        await pilot.mouse_down("#p", offset=(5, 4))
        await pilot.hover("#p", offset=(8, 4))
        await pilot.mouse_up("#p", offset=(12, 4))
        await pilot.pause()

    app = held(Picture(numbered, "p", chart=True), go)
    assert ("hovered", 7) in app.heard
    assert ("clicked", 9, 3) in app.heard
    assert ("dragged", 5, 8, False) in app.heard
    assert ("dragged", 5, 12, True) in app.heard


COLUMNS = (Column("name", most=8), Column("figure", right=True))
