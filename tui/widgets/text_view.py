"""Text view: lines of a text that are asked for as they are looked at; scrolled, selected."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from mlxprune_tui.drawing.cells import Line, pad, plain
from mlxprune_tui.drawing.colours import strip
from mlxprune_tui.widgets.ink import ink_of, selected


class TextView(ScrollView, can_focus=True):
    """``line_of_row`` gives the line of a row; ``count`` how many there are so far."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", show=False),
        Binding("down", "scroll_down", show=False),
        Binding("pageup", "page_up", show=False),
        Binding("pagedown", "page_down", show=False),
        Binding("home", "scroll_home", show=False),
        Binding("end", "scroll_end", show=False),
    ]

    class Scrolled(Message):
        """Another part of the text is looked at."""

    def __init__(self, line_of_row: Callable[[int], Line], ident: str) -> None:
        super().__init__(id=ident)
        self.line_of_row, self.count = line_of_row, 0

    def show(self, count: int, top: int | None = None) -> None:
        """So many lines; ``top`` is the first one that is seen, None leaves it where it is."""
        self.count = count
        self.virtual_size = Size(0, count)
        if top is not None:
            self.scroll_to(y=max(0, top), animate=False, force=True)
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.post_message(self.Scrolled())

    def render_line(self, y: int) -> Strip:
        cells, ink = self.scrollable_content_region.width, ink_of(self.app)
        row = self.scroll_offset.y + y
        line = self.line_of_row(row) if row < self.count else []
        made = strip(pad(line, cells), cells, ink)
        made = selected(self, made, line, row, cells)
        return made.apply_offsets(0, row)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        lines = [self.line_of_row(row) for row in range(self.count)]
        return selection.extract(plain(lines)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()
