"""Pass strip: what every pass over the same text did, from learning to memorising."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxprune_tui.drawing.cells import Glyphs, Line, pad
from mlxprune_tui.drawing.text import fit

NAMES = 12  # cells for the words at the left
CELL = 8
TIGHT = 5


@dataclass(frozen=True)
class PassCell:
    """One pass: bits per byte of training at its end and of validation, None where none fell into
    it; ``worth`` the share of a fresh token that the repeat law gives one of its tokens."""

    number: int
    train: float | None
    validation: float | None
    worth: float | None

    @property
    def gap(self) -> float | None:
        if self.train is None or self.validation is None:
            return None
        return self.validation - self.train


def pass_strip(
    passes: Sequence[PassCell], memorising: bool, cells: int, rows: int, glyphs: Glyphs
) -> list[Line]:
    """A column a pass, the last ones where not all fit: train, validation with the best marked,
    gap, and what the law predicts. Two rows say validation and gap alone."""
    size = TIGHT if cells < 60 else CELL
    room = max(1, (cells - NAMES) // size)
    best = min(
        (p for p in passes if p.validation is not None),
        key=lambda p: p.validation or 0.0,
        default=None,
    )
    shown = _thinned(passes, best, room)
    names = ("pass", "train", "validation", "gap", "law: worth")
    wanted = {1: (2,), 2: (2, 3), 3: (0, 2, 3), 4: (0, 1, 2, 3)}.get(rows, (0, 1, 2, 3, 4))
    lines: list[Line] = []
    digits = 2 if size == TIGHT else 3
    for row in wanted:
        line: Line = [(fit(names[row], NAMES), "head")]
        for one in shown:
            line.append(_cell(one, row, one is best, size, digits, passes, memorising, glyphs))
        lines.append(pad(line, cells))
    return (lines + [[]] * rows)[:rows]


def _thinned(passes: Sequence[PassCell], best: PassCell | None, room: int) -> list[PassCell]:
    """The first, the best, and as many of the last as there is room for."""
    if len(passes) <= room:
        return list(passes)
    fixed = [passes[0]] if room > 3 else []
    if (
        best is not None
        and best not in passes[-(room - 2) :]
        and best is not passes[0]
        and room > 4
    ):
        fixed.append(best)
    return [*fixed, *passes[-(room - len(fixed)) :]]


def _cell(
    one: PassCell,
    row: int,
    is_best: bool,
    size: int,
    digits: int,
    passes: Sequence[PassCell],
    memorising: bool,
    glyphs: Glyphs,
) -> tuple[str, str]:
    if row == 0:
        return f"{one.number:>{size}}", "head"
    if row == 1:
        return _number(one.train, size, digits), "train"
    if row == 2:
        mark = glyphs.down_mark if is_best else ""
        return _number(one.validation, size, digits, mark), "good" if is_best else "valid"
    if row == 3:
        sign, style = _gap_sign(one, passes, memorising, glyphs)
        return _number(one.gap, size, digits, sign), style
    told = "" if one.worth is None else f"{one.worth:.2f}".removeprefix("0")
    return f"{told:>{size}}", "dim"


def _gap_sign(
    one: PassCell, passes: Sequence[PassCell], memorising: bool, glyphs: Glyphs
) -> tuple[str, str]:
    """Whether validation still falls in this pass; a sign, since colour alone does not tell."""
    before = [p.validation for p in passes if p.number < one.number and p.validation is not None]
    if one.validation is None or not before:
        return "", "dim"
    if one.validation > min(before):
        return glyphs.up_mark, "bad" if memorising else "warn"
    return "", "good"


def _number(value: float | None, size: int, digits: int, mark: str = "") -> str:
    text = "-" if value is None else f"{value:.{digits}f}"
    if len(mark + text) > size - 1:
        text = text[: size - 1 - len(mark)]
    return f"{mark + text:>{size}}"
