"""Table: Textual's DataTable that is told its rows as a whole, and renews what has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.selection import Selection
from textual.strip import Strip
from textual.widgets import DataTable

from mlxprune_tui.drawing.cells import Line
from mlxprune_tui.drawing.text import fit, line_of, width
from mlxprune_tui.widgets.ink import text_of


@dataclass(frozen=True)
class Column:
    """``most`` cells of its width; None: as wide as what it holds. ``told``: its name in a file,
    where it has none on the screen."""

    name: str
    right: bool = False
    most: int | None = None
    told: str = ""


@dataclass(frozen=True)
class TableRow:
    """``key`` tells it from the others whatever its place; a cell is text with a style, or several
    pieces of that."""

    key: str
    cells: tuple[tuple[str, str] | tuple[tuple[str, str], ...], ...]


class Table(DataTable[object], inherit_bindings=False):
    """``cursor``: whether rows are chosen. Enter is the screen's, as are left and right."""

    ALLOW_SELECT = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "cursor_up", show=False),
        Binding("down", "cursor_down", show=False),
        Binding("pageup", "page_up", show=False),
        Binding("pagedown", "page_down", show=False),
        Binding("home", "scroll_home", show=False),
        Binding("end", "scroll_end", show=False),
    ]

    def __init__(self, ident: str, cursor: bool = True) -> None:
        super().__init__(
            id=ident,
            cursor_type="row" if cursor else "none",
            show_cursor=cursor,
            zebra_stripes=False,
        )
        self.cell_padding = 1
        self.asked: tuple[tuple[Column, ...], list[TableRow]] = ((), [])
        self.shown: tuple[tuple[Column, ...], list[TableRow]] = ((), [])  # what of it fits
        self._theme = ""
        self._chosen: str | None = None

    def show(self, columns: Sequence[Column], rows: Sequence[TableRow]) -> None:
        """These rows; the cursor stays on the row that it is on, wherever that is now."""
        self.asked = (tuple(columns), list(rows))
        columns, rows = self._fitting()
        before_columns, before = self.shown
        if (columns, rows) == self.shown and self._theme == self.app.theme:
            return
        same = columns == before_columns and [r.key for r in rows] == [r.key for r in before]
        self.shown = (columns, rows)
        if same and self._theme == self.app.theme:
            for at, (old, new) in enumerate(zip(before, rows, strict=True)):
                for place, (one, other) in enumerate(zip(old.cells, new.cells, strict=True)):
                    if one != other:
                        self.update_cell_at(
                            Coordinate(at, place), self._cell(other, columns[place]),
                            update_width=True,
                        )  # fmt: skip
            return
        self._theme = self.app.theme
        here = self.chosen_key(before)
        top = self.scroll_offset.y
        self.clear(columns=columns != before_columns)
        if columns != before_columns:
            for column in columns:
                head = text_of(self.app, [(column.name, "head")], column.right)
                self.add_column(head, width=None)
        self._chosen = None
        for row in rows:
            self.add_row(
                *(self._cell(cell, c) for cell, c in zip(row.cells, columns, strict=True)),
                key=row.key,
            )
        if here is not None and here in [r.key for r in rows]:
            self.move_cursor(row=[r.key for r in rows].index(here), scroll=False)
            self.scroll_to(y=top, animate=False)

    def _fitting(self) -> tuple[tuple[Column, ...], list[TableRow]]:
        """The columns that fit whole, from the left, at least two; a figure that is cut is another
        figure."""
        columns, rows = self.asked
        room = self.size.width
        if not room:
            return columns, rows
        used = kept = 0
        for place, column in enumerate(columns):
            widths = [_width(row.cells[place]) for row in rows]
            widest = max([width(column.name), *widths])
            cells = min(widest, column.most + 2) if column.most is not None else widest
            used += cells + 2 * self.cell_padding
            if used > room and place >= 2 and column.right:
                break
            kept = place + 1
            if used > room:
                break
        return columns[:kept], [TableRow(row.key, row.cells[:kept]) for row in rows]

    def on_resize(self) -> None:
        if self.asked[0]:
            self.show(*self.asked)

    def _cell(self, cell: object, column: Column) -> object:
        spans: Line = [cell] if isinstance(cell[0], str) else list(cell)  # type: ignore[index,list-item,call-overload]
        if column.most is not None and len(spans) == 1:
            text, style = spans[0]
            told = line_of(text)
            spans = [
                (fit(told, column.most).rstrip() if width(told) > column.most else told, style)
            ]
        return text_of(self.app, spans, column.right)

    def chosen_key(self, rows: Sequence[TableRow] | None = None) -> str | None:
        """The key of the row that the cursor is on."""
        known = self.shown[1] if rows is None else rows
        at = self.cursor_row
        return known[at].key if self.show_cursor and 0 <= at < len(known) else None

    def choose(self, key: str) -> None:
        """The cursor on this row, and in sight; once, so that a wheel may turn away from it."""
        keys = [row.key for row in self.shown[1]]
        if key not in keys or self._chosen == key:
            return
        self._chosen = key
        self.move_cursor(row=keys.index(key), scroll=False)
        self.call_after_refresh(self._in_sight)

    def _in_sight(self) -> None:
        room = self.scrollable_content_region.height - self.header_height
        top, at = self.scroll_offset.y, self.cursor_row
        if room > 0 and not top <= at < top + room:
            self.scroll_to(y=max(0, at - room + 1), animate=False)

    def action_scroll_home(self) -> None:
        """home and g: the first row, as in every list."""
        self.move_cursor(row=0)

    def action_scroll_end(self) -> None:
        self.move_cursor(row=max(0, self.row_count - 1))

    def as_rows(self) -> list[list[str]]:
        """Head and cells of all that was asked for as plain text, for files and for copying."""
        columns, rows = self.asked
        found = [[column.name or column.told for column in columns]]
        for row in rows:
            found.append(
                [
                    cell[0] if isinstance(cell[0], str) else "".join(text for text, _ in cell)  # type: ignore[misc,str-unpack]
                    for cell in row.cells
                ]
            )
        return found

    # --- text of it can be selected with the mouse

    def render_line(self, y: int) -> Strip:
        made = super().render_line(y)
        return made.apply_offsets(0, y)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        lines = [DataTable.render_line(self, y).text.rstrip() for y in range(self.size.height)]
        return selection.extract("\n".join(lines)), "\n"


def _width(cell: object) -> int:
    spans = [cell] if isinstance(cell[0], str) else list(cell)  # type: ignore[index,call-overload]
    return sum(width(line_of(text)) if text.strip() else len(text) for text, _ in spans)  # type: ignore[str-unpack,misc]
