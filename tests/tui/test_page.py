from __future__ import annotations

from conftest_tui import GLYPHS

from mlxprune_tui import (
    comparing,
    draw,
)
from mlxprune_tui import page as pages


def test_an_odd_option_is_not_used() -> None:
    desk = pages.Desk(None, GLYPHS, options={"compare": {"what": "nothing", "axis": "steps"}})
    assert comparing.Compare(desk).options == {
        "what": "verdicts",
        "axis": "steps",
        "relative": False,
    }


def test_what_is_clicked_is_what_is_drawn() -> None:
    panes = [pages.Pane(f"pane {n}", lambda cells, rows: []) for n in range(3)]
    split = pages.Split(
        False, [(5, panes[0]), (1.0, pages.Split(True, [(0.5, panes[1]), (0.5, panes[2])]))]
    )
    lines = draw.plain(pages.render(split, 80, 20, 0, False, GLYPHS)).split("\n")
    for place in pages.places(split, 0, 0, 80, 20):
        assert place.pane.title in lines[place.y][place.x : place.x + place.cells]
    assert lines[0][0] == GLYPHS.bold[0] and lines[5][0] == GLYPHS.corners[0]
