"""Canvas: all lines of the app as one widget; only lines that changed go to the terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from mlxprune_tui.drawing import colours
from mlxprune_tui.drawing.cells import Line


class Picture(Widget, can_focus=True):
    """All lines of the app; only those that changed are drawn again."""

    DEFAULT_CSS = "Picture { width: 100%; height: 100%; }"

    def __init__(
        self, clicked: Callable[[int, int], None], scrolled: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.clicked, self.scrolled = clicked, scrolled
        self.lines: list[Line] = []
        self.strips: list[Strip] = []
        self._styles: tuple[str, dict[str, Style]] = ("", {})

    @property
    def known(self) -> dict[str, Style]:
        """The colours of the theme in use."""
        theme = self.app.current_theme
        if self._styles[0] != theme.name:
            self._styles = (theme.name, colours.styles(theme))
        return self._styles[1]

    def show(self, lines: list[Line], renew: bool) -> None:
        cells = self.size.width
        changed = []
        strips = []
        for y, line in enumerate(lines):
            same = not renew and y < len(self.lines) and self.lines[y] == line
            strips.append(self.strips[y] if same else colours.strip(line, cells, self.known))
            if not same:
                changed.append(Region(0, y, cells, 1))
        if len(lines) != len(self.lines):
            changed = [Region(0, 0, cells, max(1, self.size.height))]
        self.lines, self.strips = lines, strips
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        if y < len(self.strips):
            return self.strips[y]
        return colours.strip([(" " * self.size.width, "")], self.size.width, self.known)

    def on_click(self, event: events.Click) -> None:
        self.clicked(event.x, event.y)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.scrolled("down")

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.scrolled("up")
