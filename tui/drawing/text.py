"""Text for a terminal. What comes from data is hostile: it is written out, and measured."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len

WIDE_OK = ("Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
           "Sm", "Sc", "Sk", "So", "Zs")  # fmt: skip
MARKS_IN_A_ROW = 2  # more are a way to draw over other lines
INVISIBLE = "\u115f\u1160\u2800\u3164\uffa0"  # letters by their class, blanks by their looks


JOINERS = "\u200c\u200d"
TIE = "\u2040"  # in place of what joins two pictures: terminals differ on how wide those are
# Beginnings of the names of letters whose shape a joiner chooses: without it words are not words.
JOINING = (
    "ARABIC", "SYRIAC", "MONGOLIAN", "NKO", "DEVANAGARI", "BENGALI", "GURMUKHI", "GUJARATI",
    "ORIYA", "TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "SINHALA", "KHMER", "MYANMAR", "TIBETAN",
)  # fmt: skip


def visible(text: str) -> str:
    """Text whose every character takes room of its own: what is invisible, moves the cursor or
    reorders a line is written out as an escape. Line ends and tabs stay, and so do joiners between
    letters of scripts that are written with them."""
    return made_visible(text, 0)[0]


def made_visible(text: str, marks: int) -> tuple[str, int]:
    """The same after so many combining marks in a row; and how many there are at its end."""
    if text.isascii() and text.isprintable():
        return text, 0 if text else marks
    found: list[str] = []
    text = text.replace("\r\n", "\n")
    for at, c in enumerate(text):
        if c in JOINERS and 0 < at < len(text) - 1:
            found.append(_joiner(text[at - 1], c, text[at + 1]))
            continue
        category = unicodedata.category(c)
        shown = category in WIDE_OK and c.isprintable() and c not in INVISIBLE
        if c in "\n\t" or (shown and (c.isascii() or cell_len(c) > 0)):
            marks = 0
            found.append(c)
        elif category in ("Mn", "Mc") and marks < MARKS_IN_A_ROW and not _is_selector(c):
            marks += 1
            found.append(c)
        else:
            found.append(ascii(c)[1:-1])
    return "".join(found), marks


def _joiner(before: str, joiner: str, after: str) -> str:
    """As it is between letters of a script that is written with it, a tie between two pictures, and
    written out anywhere else, where it would hide."""
    names = [unicodedata.name(c, "") for c in (before, after)]
    if all(name.startswith(JOINING) for name in names):
        return joiner
    kinds = [unicodedata.category(c) in ("So", "Sk") or _is_selector(c) for c in (before, after)]
    return TIE if all(kinds) and joiner == "\u200d" else ascii(joiner)[1:-1]


def _is_selector(c: str) -> bool:
    """Variation selectors change how wide a terminal draws what is before them."""
    return "\ufe00" <= c <= "\ufe0f" or "\U000e0100" <= c <= "\U000e01ef"


def line_of(text: str) -> str:
    """The same on one line."""
    return visible(" ".join(text.split()))


def width(text: str) -> int:
    """Terminal cells."""
    return len(text) if text.isascii() else cell_len(text)


def fit(text: str, cells: int, right: bool = False) -> str:
    """Cut, with a mark, or padded to exactly so many cells."""
    if cells <= 0:
        return ""
    size = width(text)
    if size > cells:
        text = cut(text, cells - 1) + "~"
        size = width(text)
    room = " " * (cells - size)
    return room + text if right else text + room


def cut(text: str, cells: int) -> str:
    """The longest beginning that takes no more cells, whole characters with their marks."""
    if text.isascii():
        return text[: max(0, cells)]
    used = 0
    for at, c in enumerate(text):
        used += cell_len(c)
        if used > cells:
            return text[:at]
    return text


def wrap(text: str, cells: int, most: int) -> list[str]:
    """Lines of at most so many cells, at most so many of them; tabs are four cells at most."""
    lines: list[str] = []
    for paragraph in visible(text).split("\n"):
        rest = paragraph.replace("\t", "    ")
        while True:
            if len(lines) >= most:
                return lines
            head = cut(rest, cells)
            if len(head) == len(rest):
                lines.append(rest)
                break
            space = head.rfind(" ")
            if space > cells // 2:
                head = head[: space + 1]
            head = head or rest[:1]
            lines.append(head)
            rest = rest[len(head) :]
    return lines
