"""Times on the screens are lengths, and said once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mlxprune_tui.drawing.cells import plain
from mlxprune_tui.screens.phrases import finish_words, status_line
from mlxprune_tui.testing import (
    BRAILLE,
    view_of,
)


def test_times_are_no_times_of_day(make_run: Callable[[str], Path]) -> None:
    from mlxprune.run import forecast

    view = view_of(make_run("live"))
    view.finish = lambda: forecast.Finish(3600.0, 7200.0, 10800.0)  # type: ignore[method-assign]
    told = finish_words(view)
    at = time.strftime("%H:%M", time.localtime(view.now() + 7200))
    assert "2h00m (1h00m to 3h00m)" in told
    assert told.endswith(f"at {at}")
    line = plain([status_line(view, BRAILLE, 160, 40)])
    assert "8/10 final" in line
    assert "2h00m left" in line
