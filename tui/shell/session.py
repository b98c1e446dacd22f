"""Session: what all screens share: the run in hand, how it is drawn, what was chosen before."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlxprune_tui.drawing.cells import GLYPHS, Glyphs
from mlxprune_tui.readers.live_histogram import Ghost, SliceShown
from mlxprune_tui.readers.run_view import View


@dataclass
class Session:
    """``start`` is what the app was opened on, ``folder`` where runs are looked for; ``marked`` are
    runs to compare, by folder; ``seen`` is when this run was last looked at."""

    start: Path
    glyphs: Glyphs = GLYPHS["braille"]
    read_only: bool = False
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # by screen
    view: View | None = None
    slice: SliceShown | None = None  # of the run in hand
    ghost: Ghost = field(default_factory=Ghost)
    folder: Path | None = None
    marked: list[str] = field(default_factory=list)
    seen: float | None = None

    def open(self, view: View, seen: float | None) -> None:
        self.view, self.seen = view, seen
        self.slice, self.ghost = SliceShown(view), Ghost()
