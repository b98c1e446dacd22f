"""Colours: that of a style in a theme. Every style has one: an unset one breaks NO_COLOR."""

from __future__ import annotations

from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.color import Color, ColorParseError
from textual.strip import Strip
from textual.theme import Theme

from mlxprune.experiment.arm_styles import BETTER, STYLES, UNDECIDED, WORSE
from mlxprune_tui.drawing.cells import Line, pad
from mlxprune_tui.drawing.text import line_of

# Of each kind of arm, as in the report: lighter on dark ground, the same on light.
DARK_ARMS = {
    "pruned": "#2fc4a0", "random": "#a8a8a8", "matched": "#c58ae0", "by-domain": "#56b4e9",
    "zlib": "#e6b800", "unigram": "#f0905a", "shuffled": "#c8c850", "none": "#ffffff",
    "all": "#a0a0ff", "base": "#9a9a9a",
}  # fmt: skip
ANSI_ARMS = {
    "pruned": "green", "random": "default", "matched": "magenta", "by-domain": "cyan",
    "zlib": "yellow", "unigram": "red", "shuffled": "bright_yellow", "none": "default",
    "all": "blue", "base": "default",
}  # fmt: skip
# Okabe and Ito's colours, which are told apart with any sight; darker ones on light ground.
DARK = ("#e69f00", "#56b4e9", "#35b779", "#cc79a7", "#f0e442", "#d55e00", "#a0a0ff", "#bbbbbb")
LIGHT = ("#9a6700", "#005a8c", "#00664a", "#8c3a6b", "#6b6300", "#a03c00", "#3f3fbf", "#555555")
ANSI = ("yellow", "cyan", "green", "magenta", "bright_yellow", "red", "blue", "white")


def styles(theme: Theme) -> dict[str, Style]:
    """The Rich style of every name that pictures use."""
    if theme.name.startswith("ansi"):
        return _ansi()
    dark = theme.dark
    ground = _hex(theme.background, "#121212" if dark else "#f5f5f5")
    text = _hex(theme.foreground, "#e0e0e0" if dark else "#1b1b1b")
    faint = _mixed(text, ground, 0.4)
    series = DARK if dark else LIGHT

    def style(colour: str, **more: Any) -> Style:
        return Style(color=colour, bgcolor=ground, **more)

    primary = _hex(theme.primary, text)
    good = "#35c98a" if dark else BETTER
    kept = DARK_ARMS["pruned"] if dark else STYLES["pruned"].colour
    slate = "#9aa4b8" if dark else "#4f5868"
    found = {
        "": style(text),
        "dim": style(faint),
        "bold": style(text, bold=True),
        "head": style(_mixed(text, ground, 0.25)),
        "title": style(primary, bold=True),
        "border": style(_mixed(text, ground, 0.65)),
        "grid": style(_mixed(text, ground, 0.8)),
        "focus": style(primary),
        "kept": style(kept),
        "dropped": style(slate),
        "dropped_cap": style(_mixed(slate, ground, 0.25)),  # as bright as its texture
        "provisional": style(kept),
        "ghost": style(text if dark else "#333333"),
        "noise": style(_mixed(text, ground, 0.5)),
        "good": style(good),
        "warn": style("#f0c040" if dark else UNDECIDED),
        "bad": style("#ff6a4d" if dark else WORSE, bold=True),
        "train": style("#e69f00" if dark else "#8a5a00"),
        "valid": style("#56b4e9" if dark else "#00558c"),
        "select": Style(color=text, bgcolor=_mixed(ground, primary, 0.35), bold=True),
        "match": Style(color="#000000", bgcolor="#f0c040", bold=True),
        "match_here": Style(color="#000000", bgcolor="#ff8a3d", bold=True, underline=True),
    }
    found |= {letter: style(series[n]) for n, letter in enumerate("abcdefgh")}
    arms = DARK_ARMS if dark else {kind: one.colour for kind, one in STYLES.items()}
    found |= {f"arm-{kind}": style(colour) for kind, colour in arms.items()}
    # The loss of a token: the warmer, the larger.
    warm = "#d55e00" if dark else "#e8743b"
    found |= {
        f"heat{n}": Style(color=text, bgcolor=_mixed(ground, warm, n / 8), underline=n >= 4)
        for n in range(6)
    }
    return found


def _ansi() -> dict[str, Style]:
    """The terminal's own sixteen colours and ground."""

    def style(colour: str, **more: Any) -> Style:
        return Style(color=colour, bgcolor="default", **more)

    found = {
        "": style("default"),
        "dim": style("bright_black"),
        "bold": style("default", bold=True),
        "head": style("default", dim=True),
        "title": style("cyan", bold=True),
        "border": style("bright_black"),
        "grid": style("bright_black"),
        "focus": style("cyan"),
        "kept": style("green"),
        "dropped": style("default"),
        "dropped_cap": style("default", dim=True),
        "provisional": style("green", dim=True),
        "ghost": style("default"),
        "noise": style("bright_black"),
        "good": style("green"),
        "warn": style("yellow"),
        "bad": style("red", bold=True),
        "train": style("yellow"),
        "valid": style("cyan"),
        "select": style("cyan", reverse=True),
        "match": style("yellow", reverse=True),
        "match_here": style("red", reverse=True, underline=True),
    }
    found |= {letter: style(ANSI[n]) for n, letter in enumerate("abcdefgh")}
    found |= {f"arm-{kind}": style(colour) for kind, colour in ANSI_ARMS.items()}
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
