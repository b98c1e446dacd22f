"""Words: text for a terminal. What comes from data is hostile: it is written out, and measured."""

from __future__ import annotations

import math
import unicodedata

from rich.cells import cell_len

WIDE_OK = ("Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
           "Sm", "Sc", "Sk", "So", "Zs")  # fmt: skip
MARKS_IN_A_ROW = 2  # more are a way to draw over other lines
INVISIBLE = "\u115f\u1160\u2800\u3164\uffa0"  # letters by their class, blanks by their looks


def visible(text: str) -> str:
    """Text whose every character takes room of its own: what is invisible, moves the cursor,
    reorders a line or joins its neighbours is written out as an escape. Line ends and tabs stay."""
    return made_visible(text, 0)[0]


def made_visible(text: str, marks: int) -> tuple[str, int]:
    """The same after so many combining marks in a row; and how many there are at its end."""
    if text.isascii() and text.isprintable():
        return text, 0 if text else marks
    found = []
    for c in text.replace("\r\n", "\n"):
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


def clock(seconds: float | None) -> str:
    """07:05, 1:02:03, 3 d 04 h."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24:02d} h"
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes:02d}:{whole % 60:02d}"


def count(number: float | None, cells: int = 6) -> str:
    """1,234 where it fits, else 1.2M."""
    if number is None or not math.isfinite(number):
        return "-"
    whole = f"{number:,.0f}"
    if len(whole) <= cells:
        return whole
    for size, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            value = number / size
            return f"{value:.2f}{suffix}" if value < 10 else f"{value:.1f}{suffix}"
    return whole


def size(number: float | None) -> str:
    """Bytes as 1.2 GB."""
    if number is None or not math.isfinite(number):
        return "-"
    for unit, suffix in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(number) >= unit:
            return f"{number / unit:.1f} {suffix}"
    return f"{number:.0f} B"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def ago(seconds: float) -> str:
    """Seconds for people, coarser the longer."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
