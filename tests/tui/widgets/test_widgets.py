"""The widgets by themselves: what is shown, chosen, scrolled, selected and clicked."""

from __future__ import annotations

import asyncio
from typing import Any

from textual.app import App, ComposeResult
from textual.geometry import Offset
from textual.selection import Selection

from mlxprune_tui.drawing.cells import Line
from mlxprune_tui.widgets.document_list import DocumentList
from mlxprune_tui.widgets.panes import Pane, ScrolledWords, Words
from mlxprune_tui.widgets.picture import Picture
from mlxprune_tui.widgets.table import Column, Table, TableRow
from mlxprune_tui.widgets.text_view import TextView


class Held(App[None]):
    """One widget, and what it says."""

    CSS = "Picture, Table, DocumentList, TextView { width: 40; height: 10; }"

    def __init__(self, widget: Any) -> None:
        super().__init__()
        self.widget, self.heard = widget, []

    def compose(self) -> ComposeResult:
        yield self.widget

    def on_picture_clicked(self, event: Picture.Clicked) -> None:
        self.heard.append(("clicked", event.x, event.y))

    def on_picture_dragged(self, event: Picture.Dragged) -> None:
        self.heard.append(("dragged", event.from_x, event.x, event.ended))

    def on_picture_wheeled(self, event: Picture.Wheeled) -> None:
        self.heard.append(("wheeled", event.up))

    def on_picture_hovered(self, event: Picture.Hovered) -> None:
        self.heard.append(("hovered", event.x))

    def on_document_list_opened(self, event: DocumentList.Opened) -> None:
        self.heard.append(("opened", self.widget.cursor))


def held(widget: Any, go: Any) -> Held:
    app = Held(widget)

    async def run() -> None:
        async with app.run_test(size=(60, 20)) as pilot:
            await pilot.pause()
            await go(app, pilot)

    asyncio.run(run())
    return app


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


def rows(count: int, add: int = 0) -> list[TableRow]:
    return [TableRow(f"k{n}", ((f"[b]n{n}", ""), (str(n + add), "bold"))) for n in range(count)]


def test_a_table_keeps_the_row_that_is_chosen() -> None:
    async def go(app: Held, pilot: Any) -> None:
        table = app.widget
        table.show(COLUMNS, rows(5))
        table.choose("k3")
        await pilot.pause()
        assert table.chosen_key() == "k3"
        table.show(COLUMNS, rows(5, 100))  # other figures
        assert table.chosen_key() == "k3"
        assert table.as_rows()[4] == ["[b]n3", "103"]
        table.show(COLUMNS, list(reversed(rows(4))))  # another order
        assert table.chosen_key() == "k3"
        table.show(COLUMNS, rows(2))  # it is gone
        assert table.chosen_key() in ("k0", "k1")
        assert "[b]n1" in "".join(table.render_line(y).text for y in range(4))
        await pilot.press("end")
        assert table.chosen_key() == "k1"
        await pilot.press("home")
        assert table.chosen_key() == "k0"
        picked = table.get_selection(Selection(Offset(0, 1), Offset(6, 1)))
        assert picked is not None
        assert "[b]n0" in picked[0]

    held(Table("t"), go)


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


def test_words_are_broken_under_their_name() -> None:
    class Two(Held):
        CSS = "Words { width: 30; } Pane { height: 8; }"

        def compose(self) -> ComposeResult:
            yield Pane("[b]title[/b]", Words("w"), ScrolledWords("s"), ident="pane")

    async def run() -> None:
        app = Two(None)
        async with app.run_test(size=(60, 20)) as pilot:
            await pilot.pause()
            words = app.query_one("#w", Words)
            words.tell_facts([("name", "a value that is longer than its line", ""), ("b", "c", "")])
            lines = words.plain_text.split("\n")
            assert lines[0].startswith("name  a value")
            assert lines[1].startswith("      ")
            assert all(len(line) <= 30 for line in lines)
            app.query_one(Pane).entitle("\x1b[31m[red]x" + "y" * 90)
            await pilot.pause()
            assert "\x1b" not in str(app.query_one(Pane).border_title)

    asyncio.run(run())
