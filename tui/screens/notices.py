"""Notices: what is told of a run unasked: its end, memorising, the title of the window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlxprune.run.phrases import memorising_words
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.screens.headlines import headline_of
from mlxprune_tui.shell.outside import Window
from mlxprune_tui.shell.session import Session

ENDS = ("done", "failed", "stopped", "crashed")
Notify = Callable[..., Any]  # as that of an app


class Notices:
    """Each thing is told once. ``standing`` and ``memorising`` are what is known of the run."""

    def __init__(self, session: Session, window: Window) -> None:
        self.session, self.window = session, window
        self.standing: str | None = None
        self.memorising: set[str] = set()

    def forget(self) -> None:
        """Another run is in hand."""
        self.standing, self.memorising = None, set()

    def begin(self, view: View) -> None:
        """What is known of a run when it is opened is no news."""
        self.standing, self.memorising = view.standing, set(view.state.memorising)

    def tell(self, view: View, notify: Notify) -> None:
        self._end(view, notify)
        self._memorising(view, notify)
        self._show(view)

    def _end(self, view: View, notify: Notify) -> None:
        before, self.standing = self.standing, str(view.standing)
        if before == view.standing or before is None:
            return
        if view.standing in ENDS:
            bad = view.standing in ("failed", "crashed")
            headline = headline_of(view, self.session)
            title = f"{line_of(view.name)}: {view.standing}"
            kind: Any = "error" if bad else "information"
            notify(headline.said, title=title, severity=kind, timeout=8, markup=False)
            self.window.notice(f"{title}. {headline.said}")
        elif view.standing in ("paused", "stale"):
            notify(line_of(f"{view.name}: {view.standing}"), markup=False)

    def _memorising(self, view: View, notify: Notify) -> None:
        """Once a model: that it learns its text by heart is what one would come back for."""
        for model in set(view.state.memorising) - self.memorising:
            if view.is_present(model):
                told = memorising_words(model, view.state.memorising[model])
                notify(
                    line_of(told), title="memorising", severity="warning", timeout=8, markup=False
                )
        self.memorising = set(view.state.memorising)

    def _show(self, view: View) -> None:
        stages = view.state.stages.values()
        ended = sum(str(stage.state) in ("done", "reused") for stage in stages)
        share = sum(
            (stage.done or 0) / stage.total
            for stage in stages
            if str(stage.state) == "running" and stage.total
        )
        whole = (ended + share) / max(1, len(view.state.stages)) if view.live else None
        self.window.show(f"{view.name}: {view.standing}", whole, view.standing == "failed")
