"""Arm styles: colour, line and glyph of every kind of arm, one meaning wherever they are drawn."""

from __future__ import annotations

from typing import NamedTuple


class ArmStyle(NamedTuple):
    """``colour`` on white, with at least 4.5 to 1; ``line`` and ``marker`` as matplotlib names
    them; ``glyph`` for text."""

    colour: str
    line: str
    marker: str
    glyph: str


# Colours that Okabe and Ito chose to be told apart with any sight, darker where text needs it.
STYLES = {
    "pruned": ArmStyle("#00695c", "-", "o", "\N{BLACK CIRCLE}"),
    "random": ArmStyle("#5f5f5f", "--", "s", "\N{WHITE CIRCLE}"),
    "matched": ArmStyle("#7b3294", ":", "D", "\N{WHITE DIAMOND}"),
    "by-domain": ArmStyle("#00558c", "-.", "^", "\N{BLACK UP-POINTING TRIANGLE}"),
    "zlib": ArmStyle("#8a5a00", (0, (5, 1)), "v", "z"),  # type: ignore[arg-type]
    "unigram": ArmStyle("#a33c00", (0, (3, 1, 1, 1)), "P", "u"),  # type: ignore[arg-type]
    "shuffled": ArmStyle("#6b6b00", (0, (1, 3)), "x", "s"),  # type: ignore[arg-type]
    "none": ArmStyle("#000000", "-", "*", "n"),
    "all": ArmStyle("#3f3fbf", "--", "h", "a"),
    "base": ArmStyle("#5f5f5f", "-.", "s", "b"),
}
BETTER, WORSE, UNDECIDED = "#00664a", "#a32a00", "#7a5c00"  # each beside its word or sign
NOISE = "#d9d9d9"  # the band of a control's noise


def style_of(kind: str) -> ArmStyle:
    return STYLES.get(kind, STYLES["base"])
