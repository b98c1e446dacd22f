"""Colours: that of a style in a theme. Every style has one: an unset one breaks NO_COLOR."""

from __future__ import annotations

from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.color import Color, ColorParseError
from textual.strip import Strip
from textual.theme import Theme

from mlxprune_tui.drawing.cells import Line, pad
from mlxprune_tui.drawing.text import line_of

# Okabe and Ito's colours, which are told apart with any sight; darker ones on light ground.
DARK = ("#e69f00", "#56b4e9", "#35b779", "#cc79a7", "#f0e442", "#d55e00", "#a0a0ff", "#bbbbbb")
LIGHT = ("#9a6700", "#005a8c", "#00664a", "#8c3a6b", "#6b6300", "#a03c00", "#3f3fbf", "#555555")
ANSI = ("yellow", "cyan", "green", "magenta", "bright_yellow", "red", "blue", "white")


def styles(theme: Theme) -> dict[str, Style]:
    """The Rich style of every name that pictures use."""
    if theme.name.startswith("ansi"):
        return _ansi()
    ground = _hex(theme.background, "#121212" if theme.dark else "#f5f5f5")
    text = _hex(theme.foreground, "#e0e0e0" if theme.dark else "#1b1b1b")
    faint = _mixed(text, ground, 0.45)

    def style(colour: str, **more: Any) -> Style:
        return Style(color=colour, bgcolor=ground, **more)

    primary = _hex(theme.primary, text)
    series = DARK if theme.dark else LIGHT
    # What themes call success, warning and error is for dark ground.
    good = _hex(theme.success, series[2]) if theme.dark else series[2]
    found = {
        "": style(text),
        "dim": style(faint),
        "bold": style(text, bold=True),
        "head": style(_mixed(text, ground, 0.25)),
        "title": style(primary, bold=True),
        "border": style(_mixed(text, ground, 0.65)),
        "focus": style(primary),
        "kept": style(good),
        "dropped": style(_mixed(text, ground, 0.6)),
        "good": style(good),
        "warn": style(_hex(theme.warning, series[0]) if theme.dark else series[0]),
        "bad": style(_hex(theme.error, series[5]) if theme.dark else series[5], bold=True),
        "bar": Style(color=text, bgcolor=_mixed(ground, text, 0.1)),
        "bar_bold": Style(color=text, bgcolor=_mixed(ground, text, 0.1), bold=True),
        "bar_dim": Style(color=faint, bgcolor=_mixed(ground, text, 0.1)),
        "tab": Style(color=ground, bgcolor=primary, bold=True),
        "select": Style(color=text, bgcolor=_mixed(ground, primary, 0.35), bold=True),
    }
    found |= {letter: style(series[n]) for n, letter in enumerate("abcdefgh")}
    # The loss of a token: the warmer, the larger.
    warm = _hex(theme.error, "#d55e00")
    found |= {
        f"heat{n}": Style(color=text, bgcolor=_mixed(ground, warm, n / 8), underline=n >= 4)
        for n in range(6)
    }
    return found


def _ansi() -> dict[str, Style]:
    """The terminal's own sixteen colours and ground."""
    plain = Style(color="default", bgcolor="default")

    def style(colour: str, **more: Any) -> Style:
        return Style(color=colour, bgcolor="default", **more)

    found = {
        "": plain,
        "dim": style("bright_black"),
        "bold": style("default", bold=True),
        "head": style("default", dim=True),
        "title": style("cyan", bold=True),
        "border": style("bright_black"),
        "focus": style("cyan"),
        "kept": style("green"),
        "dropped": style("bright_black"),
        "good": style("green"),
        "warn": style("yellow"),
        "bad": style("red", bold=True),
        "bar": style("default", reverse=True),
        "bar_bold": style("default", reverse=True, bold=True),
        "bar_dim": style("default", reverse=True, dim=True),
        "tab": style("cyan", reverse=True, bold=True),
        "select": style("cyan", reverse=True),
    }
    found |= {letter: style(ANSI[n]) for n, letter in enumerate("abcdefgh")}
    heat = ("default", "bright_black", "yellow", "bright_yellow", "red", "bright_red")
    return found | {
        f"heat{n}": style(colour, reverse=n > 1, underline=n >= 4) for n, colour in enumerate(heat)
    }


def strip(line: Line, cells: int, known: dict[str, Style]) -> Strip:
    """A line as the terminal gets it; a style that has no colour is plain text."""
    safe = [(t if t.isprintable() else line_of(t), style) for t, style in line if t]
    if any(mine != theirs for (mine, _), (theirs, _) in zip(safe, line, strict=False)):
        safe = pad(safe, cells)  # the last wall: nothing that a terminal would obey comes through
    return Strip([Segment(text, known.get(style, known[""])) for text, style in safe], cells)


def _hex(colour: str | None, otherwise: str) -> str:
    try:
        return Color.parse(colour).hex6 if colour else otherwise
    except (ColorParseError, AttributeError):
        return otherwise


def _mixed(one: str, other: str, share: float) -> str:
    return Color.parse(one).blend(Color.parse(other), share).hex6
