"""Ink: the styles of the theme in hand, for pictures, tables and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.style import Style
from rich.text import Text
from textual.app import App
from textual.strip import Strip
from textual.theme import Theme
from textual.widget import Widget

from mlxprune_tui.drawing.cells import Line, Span
from mlxprune_tui.drawing.colours import styles
from mlxprune_tui.drawing.text import visible, width

_made: dict[str, dict[str, Style]] = {}  # by the name of a theme
_bare: dict[str, dict[str, Style]] = {}  # the same without a ground


def _of_theme(theme: Theme) -> dict[str, Style]:
    if theme.name not in _made:
        _made[theme.name] = styles(theme)
    return _made[theme.name]


def _on_any_ground(theme: Theme) -> dict[str, Style]:
    """The same without a ground, but for those whose ground tells something."""
    if theme.name not in _bare:
        _bare[theme.name] = {
            name: style
            if name.startswith(("heat", "match", "select"))
            else Style(color=style.color, bold=style.bold, dim=style.dim)
            for name, style in _of_theme(theme).items()
        }
    return _bare[theme.name]


def ink_of(app: App[Any]) -> dict[str, Style]:
    return _of_theme(app.current_theme)


def text_of(app: App[Any], spans: Sequence[Span], right: bool = False) -> Text:
    """Spans as a text of Rich; what a terminal would obey is written out."""
    known = _on_any_ground(app.current_theme)
    text = Text(justify="right" if right else "left", no_wrap=False)
    for words, style in spans:
        text.append(visible(words), known.get(style, known[""]))
    return text


def selected(widget: Widget, made: Strip, line: Line, row: int, cells: int) -> Strip:
    """A row as it is drawn, with what a person selected of it lit."""
    selection = widget.text_selection
    span = selection.get_span(row) if selection is not None else None
    if span is None:
        return made
    text = "".join(words for words, _ in line)
    first = min(width(text[: span[0]]), cells)
    last = min(max(first, width(text if span[1] == -1 else text[: span[1]])), cells)
    lit = widget.screen.get_component_rich_style("screen--selection")
    middle = made.crop(first, last).apply_style(lit)
    return Strip.join([made.crop(0, first), middle, made.crop(last, cells)])
