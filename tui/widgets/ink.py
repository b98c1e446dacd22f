"""Ink: the styles of the theme in hand, for pictures, tables and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.style import Style
from rich.text import Text
from textual.app import App
from textual.theme import Theme

from mlxprune_tui.drawing.cells import Span
from mlxprune_tui.drawing.colours import styles
from mlxprune_tui.drawing.text import visible

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
