"""Columns: a long series of points as equally long columns with names, thinned as it grows."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

Cell = float | int | None


class Columns:
    """Points whose first column is the axis; spikes of the column ``height`` survive thinning."""

    def __init__(self, names: Sequence[str], height: str) -> None:
        self.names, self.height = tuple(names), height
        self.cells: dict[str, list[Cell]] = {name: [] for name in self.names}

    def __len__(self) -> int:
        return len(self.cells[self.names[0]])

    def __getitem__(self, name: str) -> list[Cell]:
        return self.cells[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Columns) and self.cells == other.cells

    __hash__ = None  # type: ignore[assignment]

    def last(self, name: str) -> Cell:
        return self.cells[name][-1] if len(self) else None

    def add(self, point: Sequence[Cell], most: int) -> None:
        """Append; a resumed run overwrites what it repeats; a long series is thinned."""
        place = point[0]
        if not isinstance(place, int | float) or place != place:
            return  # it has no place on the axis
        axis: list[Any] = self.cells[self.names[0]]
        if axis and axis[-1] >= place:
            first = bisect.bisect_left(axis, place)
            for column in self.cells.values():
                del column[first:]
        for column, cell in zip(self.cells.values(), point, strict=True):
            column.append(cell)
        if len(axis) > most:
            self._thin(most // 4)

    def _thin(self, stretches: int) -> None:
        """Of every of so many equal stretches of the axis the lowest and the highest point, so that
        no spike is lost and the beginning stays as dense as the end; and both ends."""
        axis: list[Any] = self.cells[self.names[0]]
        width = (axis[-1] - axis[0]) / stretches or 1.0
        ends: dict[int, list[int]] = {}  # by stretch: where its lowest and its highest point are
        for at, place in enumerate(axis):
            pair = ends.setdefault(int((place - axis[0]) / width), [at, at])
            height = self._height(at)
            if height is None:
                continue
            low, high = (self._height(end) for end in pair)
            if low is None or height < low:
                pair[0] = at
            if high is None or height >= high:
                pair[1] = at
        kept = sorted({0, len(axis) - 1, *(at for pair in ends.values() for at in pair)})
        self.cells = {name: [column[at] for at in kept] for name, column in self.cells.items()}

    def _height(self, at: int) -> float | None:
        """None of a point that has no height: it is neither the lowest nor the highest."""
        value = self.cells[self.height][at]
        return float(value) if isinstance(value, int | float) and value == value else None

    def rows(self) -> list[list[Cell]]:
        """The points one by one."""
        return [list(row) for row in zip(*self.cells.values(), strict=True)]

    def take(self, told: object) -> None:
        """Columns by name, or rows as older logs have them: what such a row lacks is None."""
        if isinstance(told, dict):
            columns = {n: told[n] for n in self.names if isinstance(told.get(n), list)}
            count = len(columns.get(self.names[0], []))
            for name in self.names:
                column = columns.get(name, [])
                self.cells[name] = column if len(column) == count else [None] * count
        elif isinstance(told, list):
            rows = [row for row in told if isinstance(row, list) and row]
            for number, name in enumerate(self.names):
                self.cells[name] = [row[number] if len(row) > number else None for row in rows]
