from __future__ import annotations

from mlxprune_tui.drawing.cells import plain
from mlxprune_tui.screens import comparison
from mlxprune_tui.screens.page import AppContext, Pane, Split, places, render
from mlxprune_tui.testing import BRAILLE


def test_an_odd_option_is_not_used() -> None:
    context = AppContext(None, BRAILLE, options={"compare": {"what": "nothing", "axis": "steps"}})
    assert comparison.Compare(context).options == {
        "what": "verdicts",
        "axis": "steps",
        "relative": False,
    }


def test_what_is_clicked_is_what_is_drawn() -> None:
    panes = [Pane(f"pane {n}", lambda cells, rows: []) for n in range(3)]
    split = Split(False, [(5, panes[0]), (1.0, Split(True, [(0.5, panes[1]), (0.5, panes[2])]))])
    lines = plain(render(split, 80, 20, 0, False, BRAILLE)).split("\n")
    for place in places(split, 0, 0, 80, 20):
        assert place.pane.title in lines[place.y][place.x : place.x + place.cells]
    assert lines[0][0] == BRAILLE.bold[0] and lines[5][0] == BRAILLE.corners[0]
