"""Stage table: what ``mlxprune run`` draws on a terminal, a row a stage with a bar, redrawn in
place; other lines stand above it."""

from __future__ import annotations

import atexit
import time
from typing import TYPE_CHECKING, Any, TextIO

from mlxprune.errors import one_line
from mlxprune.run import forecast
from mlxprune.run.event_kinds import StageStatus
from mlxprune.run.folder import STAGES
from mlxprune.run.state import RunState, StageState
from mlxprune.units import duration, short_count

if TYPE_CHECKING:
    from rich.table import Table

REDRAW_SECONDS = 0.25
BAR_CELLS, NAME_CELLS, TIME_CELLS = 12, 10, 12
SIGNS = {
    StageStatus.DONE: ("\N{CHECK MARK}", "green"),
    StageStatus.REUSED: ("\N{CHECK MARK}", "dim"),
    StageStatus.RUNNING: ("\N{BLACK RIGHT-POINTING SMALL TRIANGLE}", "bold cyan"),
    StageStatus.FAILED: ("\N{MULTIPLICATION SIGN}", "red"),
    StageStatus.STOPPED: ("\N{BLACK SQUARE}", "yellow"),
    StageStatus.PENDING: ("\N{MIDDLE DOT}", "dim"),
}
PLAIN_SIGNS = {
    StageStatus.DONE: "+",
    StageStatus.REUSED: "+",
    StageStatus.RUNNING: ">",
    StageStatus.FAILED: "x",
    StageStatus.STOPPED: "#",
    StageStatus.PENDING: ".",
}


class StageTable:
    """Open from the first event that it is shown until ``close``."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console as Rich
        from rich.live import Live

        rich = Rich(file=out, highlight=False)
        self.plain = not rich.encoding.lower().startswith("utf")  # the terminal knows no signs
        self.live = Live(console=rich, auto_refresh=False)
        self.drawn = 0.0
        self.is_open = False

    def show(self, state: RunState, at_once: bool = False) -> None:
        """Draw it anew, four times a second at most."""
        now = time.monotonic()
        if not at_once and now - self.drawn < REDRAW_SECONDS:
            return
        self.drawn = now
        if not self.is_open:
            self.live.start()
            self.is_open = True
            atexit.register(self.close)  # a second Ctrl-C: the cursor comes back
        self.live.update(stage_rows(state, time.time(), self.plain), refresh=True)

    def say(self, line: str) -> None:
        """A line above the table."""
        from rich.text import Text

        self.live.console.print(Text(line))

    def close(self) -> None:
        """Leave the table as it stands."""
        if self.is_open:
            self.live.stop()
            self.is_open = False


def stage_rows(state: RunState, now: float, plain: bool = False) -> Table:
    """The table as it is drawn: sign, stage, bar, how far and how fast, time."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    for width in (1, NAME_CELLS, BAR_CELLS):
        table.add_column(no_wrap=True, width=width)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)  # what is left of the width
    table.add_column(no_wrap=True, width=TIME_CELLS, justify="right")
    for name in STAGES:
        stage = state.stages.get(name) or StageState()
        sign, style = SIGNS[stage.state]
        table.add_row(
            Text(PLAIN_SIGNS[stage.state] if plain else sign, style=style),
            Text(name, style="" if stage.state == StageStatus.RUNNING else style),
            _bar(stage),
            Text(_told(stage)),
            Text(_time(stage)),
        )
    left = forecast.finish(state, now).likely
    if left is not None and forecast.running_stage(state):
        table.add_row("", "", "", Text("about, to the end", style="dim"), Text(duration(left)))
    return table


def _bar(stage: StageState) -> Any:
    from rich.progress_bar import ProgressBar

    if stage.state != StageStatus.RUNNING or not stage.total:
        return ""
    return ProgressBar(total=float(stage.total), completed=float(stage.done or 0), width=BAR_CELLS)


def _told(stage: StageState) -> str:
    """Of the running stage how far, how fast, and on what; of one that is over how fast."""
    parts = []
    if stage.state == StageStatus.RUNNING and stage.total:
        unit = one_line(stage.unit or "")
        parts.append(f"{short_count(stage.done or 0)} / {short_count(stage.total)} {unit}".rstrip())
        if stage.rate:
            parts.append(f"{short_count(stage.rate)}/s")
        if stage.what:
            parts.append(one_line(stage.what))
    elif stage.state in (StageStatus.REUSED, StageStatus.FAILED, StageStatus.STOPPED):
        parts.append(str(stage.state))
    elif stage.utilisation and stage.rate:
        parts.append(f"{short_count(stage.rate)}/s")
    return ", ".join(parts)


def _time(stage: StageState) -> str:
    if stage.state == StageStatus.RUNNING:
        return "" if stage.eta_seconds is None else f"{duration(stage.eta_seconds)} left"
    return "" if stage.seconds is None else duration(stage.seconds)
