"""A table keeps the row that is chosen, whatever comes."""

from __future__ import annotations

from typing import Any

from textual.geometry import Offset
from textual.selection import Selection

from mlxprune_tui.testing import Held, held
from mlxprune_tui.widgets.table import Column, Table, TableRow

COLUMNS = (Column("name", most=8), Column("figure", right=True))


def rows(count: int, add: int = 0) -> list[TableRow]:
    return [TableRow(f"k{n}", ((f"[b]n{n}", ""), (str(n + add), "bold"))) for n in range(count)]


def test_a_table_keeps_the_row_that_is_chosen() -> None:
    async def go(app: Held, pilot: Any) -> None:
        table = app.widget
        table.show(COLUMNS, rows(5))
        table.choose("k3")
        await pilot.pause()
        assert table.chosen_key() == "k3"
        table.show(COLUMNS, rows(5, 100))  # other figures
        assert table.chosen_key() == "k3"
        assert table.as_rows()[4] == ["[b]n3", "103"]
        table.show(COLUMNS, list(reversed(rows(4))))  # another order
        assert table.chosen_key() == "k3"
        table.show(COLUMNS, rows(2))  # it is gone
        assert table.chosen_key() in ("k0", "k1")
        assert "[b]n1" in "".join(table.render_line(y).text for y in range(4))
        await pilot.press("end")
        assert table.chosen_key() == "k1"
        await pilot.press("home")
        assert table.chosen_key() == "k0"
        picked = table.get_selection(Selection(Offset(0, 1), Offset(6, 1)))
        assert picked is not None
        assert "[b]n0" in picked[0]

    held(Table("t"), go)
