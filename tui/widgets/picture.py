"""Picture: a widget whose lines a function of its size draws. Its text can be selected; a chart
tells where it is clicked, dragged, wheeled and looked at."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from mlxprune_tui.drawing.cells import Line, pad, plain
from mlxprune_tui.drawing.colours import strip
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.widgets.ink import ink_of, selected

Draw = Callable[[int, int], list[Line]]


class Picture(Widget):
    """``draw`` gives lines for a size in cells and rows. ``chart``: the mouse is for the picture,
    not for selecting text."""

    class At(Message):
        """Where the mouse is on a picture, in cells from its corner."""

        def __init__(self, picture: Picture, x: int, y: int) -> None:
            super().__init__()
            self.picture, self.x, self.y = picture, x, y

        @property
        def control(self) -> Picture:
            return self.picture

    class Clicked(At):
        """Pressed and let go at one place."""

    class Hovered(At):
        """Moved over it, no button down; x is -1 where it left."""

    class Dragged(At):
        """Moved with the button down, that was pressed at ``from_x``."""

        def __init__(self, picture: Picture, x: int, y: int, from_x: int, ended: bool) -> None:
            super().__init__(picture, x, y)
            self.from_x, self.ended = from_x, ended

    class Wheeled(At):
        """The wheel, up or down."""

        def __init__(self, picture: Picture, x: int, y: int, up: bool) -> None:
            super().__init__(picture, x, y)
            self.up = up

    def __init__(
        self,
        draw: Draw,
        ident: str,
        chart: bool = False,
        focusable: bool = False,
    ) -> None:
        super().__init__(id=ident)
        self.draw, self.is_chart, self.can_focus = draw, chart, focusable
        self.lines: list[Line] = []
        self._drawn: tuple[int, int] = (0, 0)
        self._pressed: int | None = None

    @property
    def allow_select(self) -> bool:
        return not self.is_chart

    def renew(self) -> None:
        """Draw anew; only rows that have changed are sent to the terminal."""
        cells, rows = self.content_size
        if not (cells and rows and self.is_on_screen):
            return
        try:
            lines = self.draw(cells, rows)[:rows]
        except Exception as error:  # odd values of a log must not end who looks at it
            lines = [[(f"cannot be drawn: {line_of(repr(error))}", "warn")]]
        before, self.lines = self.lines, lines
        if self._drawn != (cells, rows) or len(before) != len(lines):
            self._drawn = (cells, rows)
            self.refresh()
            return
        x, y = self.gutter.left, self.gutter.top
        changed = [
            Region(x, y + row, cells, 1)
            for row, (old, new) in enumerate(zip(before, lines, strict=True))
            if old != new
        ]
        if changed:
            self.refresh(*changed)

    def forget(self) -> None:
        """Nothing that was drawn stays."""
        self.lines, self._drawn = [], (0, 0)
        self.refresh()

    def set_rows(self, rows: int | None) -> None:
        """So many rows, and no more; None: all that there is room for."""
        wanted = "1fr" if rows is None else str(rows)
        if str(self.styles.height) != wanted:
            self.styles.height = wanted

    def on_resize(self) -> None:
        self.renew()

    def on_show(self) -> None:
        self.renew()

    def notify_style_update(self) -> None:
        self._drawn = (0, 0)
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        cells, ink = self.content_size.width, ink_of(self.app)
        line = self.lines[y] if y < len(self.lines) else []
        made = strip(pad(line, cells), cells, ink)
        if self.is_chart:
            return made
        made = selected(self, made, line, y, cells)
        return made.apply_offsets(0, y)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        return selection.extract(plain(self.lines)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()

    # --- the mouse

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if self.is_chart and event.button == 1:
            self._pressed = event.x
            self.capture_mouse()

    def on_mouse_up(self, event: events.MouseUp) -> None:
        if self._pressed is None:
            return
        self.release_mouse()
        began, self._pressed = self._pressed, None
        if abs(event.x - began) <= 0:
            self.post_message(self.Clicked(self, event.x, event.y))
        else:
            self.post_message(self.Dragged(self, event.x, event.y, began, True))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if not self.is_chart:
            return
        if self._pressed is not None:
            self.post_message(self.Dragged(self, event.x, event.y, self._pressed, False))
        else:
            self.post_message(self.Hovered(self, event.x, event.y))

    def on_leave(self) -> None:
        if self.is_chart:
            self.post_message(self.Hovered(self, -1, -1))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        if self.is_chart:
            event.stop()
            self.post_message(self.Wheeled(self, event.x, event.y, True))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        if self.is_chart:
            event.stop()
            self.post_message(self.Wheeled(self, event.x, event.y, False))
