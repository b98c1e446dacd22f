"""Document list: any number of rows, of which only those on the screen are ever asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mlxprune_tui.drawing.cells import Line, pad
from mlxprune_tui.drawing.colours import strip
from mlxprune_tui.widgets.ink import ink_of

RowLine = Callable[[int, int, bool], Line]


class DocumentList(ScrollView, can_focus=True):
    """``line_of_row`` gives the line of a row for a width, and whether the cursor is on it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "end(False)", show=False),
        Binding("end", "end(True)", show=False),
    ]
    cursor: reactive[int] = reactive(0)

    class Moved(Message):
        """The cursor is on another row."""

    class Opened(Message):
        """A row was clicked that the cursor was on."""

    def __init__(self, line_of_row: RowLine, ident: str) -> None:
        super().__init__(id=ident)
        self.line_of_row, self.count = line_of_row, 0

    def show(self, count: int, cursor: int = 0) -> None:
        """So many rows, of other things than before."""
        self.count = count
        self.virtual_size = Size(0, count)
        self.set_reactive(DocumentList.cursor, min(max(0, cursor), max(0, count - 1)))
        self.scroll_to(y=max(0, self.cursor - self.size.height // 2), animate=False)
        self.refresh()
        self.post_message(self.Moved())

    def on_resize(self) -> None:
        self.virtual_size = Size(0, self.count)

    def validate_cursor(self, cursor: int) -> int:
        return min(max(0, cursor), max(0, self.count - 1))

    def watch_cursor(self, before: int, now: int) -> None:
        if before == now:
            return
        self.scroll_to_region(
            Region(0, now, 1, 1), animate=False, force=True, spacing=None, immediate=True
        )
        self.refresh()
        self.post_message(self.Moved())

    def render_line(self, y: int) -> Strip:
        cells, ink = self.scrollable_content_region.width, ink_of(self.app)
        row = self.scroll_offset.y + y
        line = self.line_of_row(row, cells, row == self.cursor) if row < self.count else []
        return strip(pad(line, cells), cells, ink)

    def action_move(self, step: int) -> None:
        self.cursor += step

    def action_page(self, way: int) -> None:
        self.cursor += way * max(1, self.size.height - 1)

    def action_end(self, last: bool) -> None:
        self.cursor = self.count - 1 if last else 0

    def on_click(self, event: events.Click) -> None:
        row = self.scroll_offset.y + event.y
        if row < self.count:
            if row == self.cursor:
                self.post_message(self.Opened())
            self.cursor = row
