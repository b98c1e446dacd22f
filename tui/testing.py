"""Runs in every state that the app can meet, made from the events of a real one, and the app on
them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.app import App, ComposeResult

from mlxprune.run.segments import packed
from mlxprune.run.state import Curve, RunState
from mlxprune_tui.app import Monitor
from mlxprune_tui.drawing.cells import GLYPHS
from mlxprune_tui.drawing.text import width
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.widgets.document_list import DocumentList
from mlxprune_tui.widgets.picture import Picture

BRAILLE = GLYPHS["braille"]
STATES = ("empty", "starting", "live", "stale", "crashed", "failed", "done")


def write_segment(folder: Path, records: list[dict[str, Any]]) -> Path:
    """A segment that holds these events, after the snapshot of nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "000001-test.msgpack"
    first = {"v": 1, "seq": 0, "t": 0.0, "writer": "test", "kind": "snapshot", "stage": None}
    written = [{**first, "state": RunState().as_json()}, *records]
    path.write_bytes(b"".join(map(packed, written)))
    return path


def shifted(records: list[dict[str, Any]], last: float) -> list[dict[str, Any]]:
    """The same events, the last of them at a moment."""
    by = last - records[-1]["t"] if records else 0.0
    return [{**r, "t": r["t"] + by} for r in records]


def view_of(folder: Path, now: Callable[[], float] = time.time) -> View:
    """A run, read to the end of its log."""
    seen = View(folder, now)
    while seen.read(5.0):
        pass
    seen.look(at_once=True)
    return seen


async def until(
    pilot: Any, condition: Callable[[], bool], seconds: float = 20.0, what: str = ""
) -> None:
    """Wait for a condition, not for a time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come about {what}"
        await pilot.pause(0.02)


def frame(app: Monitor) -> str:
    """What the terminal shows, as text."""
    return "\n".join(row_texts(app))


def row_texts(app: Monitor) -> list[str]:
    """The rows of the screen in hand, each exactly as wide as the terminal."""
    screen = app.screen
    rows = screen.size.height
    strips = screen._compositor.render_strips()
    return [strip.text for strip in strips[:rows]]


async def opened(app: Monitor, pilot: Any) -> None:
    await until(pilot, lambda: app.current_mode in app.pages)
    await until(pilot, lambda: app.session.view is None or app.session.view.loaded)
    await pilot.pause(0.05)


async def show(app: Monitor, pilot: Any, name: str) -> None:
    app.go(name)
    await until(pilot, lambda: app.current_mode == name and app.pages[name].is_current)
    app.pages[name].renew()
    await pilot.pause(0.05)


def check_frame(app: Monitor, cells: int, rows: int) -> None:
    """Exactly the screen, every line exactly its width, nothing that a terminal would obey."""
    lines = row_texts(app)
    assert len(lines) == rows
    for line in lines:
        assert width(line) == cells, line
        assert all(c.isprintable() for c in line), ascii(line)


def curve_of(
    train: list[list[Any]], validation: list[list[Any]], total: float | None = None
) -> Curve:
    """A curve from rows of points."""
    curve = Curve(total_targets=total)
    curve.train.take(train)
    curve.validation.take(validation)
    return curve


def passes_curve(validation: list[tuple[int, float]]) -> Curve:
    """Of a model that trains for two passes."""
    train = [
        [t, 4.0 - t / 1000, 1e-3, 1 + (t > 600), t // 100, 1.0 * t, 0.5, 9.0, 0.4]
        for t in range(100, 1300, 100)
    ]
    return curve_of(train, [[t, b, None, 1.0 * t] for t, b in validation], 1200)


class Held(App[None]):
    """One widget, and what it says."""

    CSS = "Picture, Table, DocumentList, TextView { width: 40; height: 10; }"

    def __init__(self, widget: Any) -> None:
        super().__init__()
        self.widget = widget
        self.heard: list[Any] = []

    def compose(self) -> ComposeResult:
        yield self.widget

    def on_picture_clicked(self, event: Picture.Clicked) -> None:
        self.heard.append(("clicked", event.x, event.y))

    def on_picture_dragged(self, event: Picture.Dragged) -> None:
        self.heard.append(("dragged", event.from_x, event.x, event.ended))

    def on_picture_wheeled(self, event: Picture.Wheeled) -> None:
        self.heard.append(("wheeled", event.up))

    def on_picture_hovered(self, event: Picture.Hovered) -> None:
        self.heard.append(("hovered", event.x))

    def on_document_list_opened(self, event: DocumentList.Opened) -> None:
        self.heard.append(("opened", self.widget.cursor))


def held(widget: Any, go: Any) -> Held:
    app = Held(widget)

    async def run() -> None:
        async with app.run_test(size=(60, 20)) as pilot:
            await pilot.pause()
            await go(app, pilot)

    asyncio.run(run())
    return app


def on_screen(folder: Path, screen: str, go: Callable[[Any, Any], Awaitable[None]],
       size: tuple[int, int] = (120, 40)) -> None:  # fmt: skip
    """A screen of the app on a run, once it has something to show."""

    async def run() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=size) as pilot:
            await opened(app, pilot)
            await show(app, pilot, screen)
            await until(pilot, lambda: app.page.nothing() is None)
            app.page.renew()
            await go(app, pilot)

    asyncio.run(run())
