"""App: the screens on a terminal, one run in hand. It reads, and writes commands when asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import events
from textual.app import App, ComposeResult, SystemCommand
from textual.screen import Screen

from mlxprune.errors import MlxpruneError, one_line
from mlxprune.run.folder import COMMANDS, runs_under
from mlxprune_tui.drawing.cells import GLYPHS, Line
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.screens.comparison import Compare
from mlxprune_tui.screens.documents import Documents
from mlxprune_tui.screens.overview import Overview
from mlxprune_tui.screens.page import AppContext, Ask, Page, places
from mlxprune_tui.screens.runs import Runs
from mlxprune_tui.screens.scoring import Scoring
from mlxprune_tui.screens.selection import Selection
from mlxprune_tui.screens.training import Training
from mlxprune_tui.shell import bars, dialogs, keys, palette, settings, steering
from mlxprune_tui.shell.canvas import Picture

SLICE_SECONDS = 0.02  # of reading between two looks at the keyboard
HERTZ = 4.0
KEEP_SECONDS = 30.0  # between two times that settings are kept: a terminal can end at any moment
LEAST = (60, 15)  # cells and rows: below this, one line of status
THEMES = ("textual-dark", "textual-light", "ansi-dark", "ansi-light", "nord", "gruvbox",
          "solarized-light", "catppuccin-latte")  # fmt: skip
PAGES: dict[str, type[Page]] = {
    page.name: page for page in (Overview, Scoring, Selection, Training, Compare, Documents, Runs)
}


class Monitor(App[None]):
    """``folder`` is a run or a folder of runs. ``now`` is a clock, so that tests can stop it;
    ``read_only`` takes no commands."""

    CSS = dialogs.STYLE
    TITLE = "mlxprune"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[Any]] = []

    def __init__(
        self,
        folder: Path,
        read_only: bool = False,
        kept: settings.Settings | None = None,
        now: Callable[[], float] = time.time,
        remember: bool = True,
    ) -> None:
        super().__init__()
        self.kept = kept or (settings.load() if remember else settings.Settings())
        self.remember, self.read_only, self.now = remember, read_only, now
        own = settings.glyphs_of(self.kept, dict(os.environ))
        self.context = AppContext(None, GLYPHS[own], options=self.kept.options)
        self.context.later, self.context.open = self._later, self.open_run
        self.context.go = self.show_page
        self.context.tell = lambda sentence: self._answered(sentence)
        self.pages = {name: page(self.context) for name, page in PAGES.items()}
        self.runs_page.read_only = read_only
        screen = self.kept.screen
        self.page = self.pages[screen if screen in self.pages else "overview"]
        self.before: list[str] = []
        self.start = folder
        self._painted: tuple[Any, ...] | None = None
        self._painted_at = 0.0
        self.told: str | None = None
        self._terminal = _terminal()

    def compose(self) -> ComposeResult:
        yield Picture(self.clicked, self.scrolled)

    async def on_mount(self) -> None:
        wanted = self.kept.theme or ("ansi-dark" if _few_colours() else "textual-dark")
        self.theme = wanted if wanted in self.available_themes else "textual-dark"
        self.picture.focus()
        if (self.start / "run.json").exists():
            self.context.folder = self.start.absolute().parent
            self.open_run(self.start)
        else:
            self.context.folder = self.start.absolute()
            self._open_only_run()
        hertz = self.kept.hertz or HERTZ
        self.set_interval(1 / hertz, self.tick)
        self.set_interval(1.0, self._look_at_terminal)
        self.set_interval(KEEP_SECONDS, self._keep)
        self.call_after_refresh(self.paint)

    @property
    def runs_page(self) -> Runs:
        page = self.pages["runs"]
        assert isinstance(page, Runs)
        return page

    def _open_only_run(self) -> None:
        found = runs_under(self.start)
        live = [r for r in found if View(r.path, self.now).pid]
        if len(found) == 1 or len(live) == 1:
            self.open_run((live or found)[0].path)
        else:
            self.page = self.pages["runs"]

    @property
    def picture(self) -> Picture:
        return self.screen_stack[0].query_one(Picture)

    # --- the run in hand

    def open_run(self, folder: Any) -> None:
        self._note_seen()
        path = Path(folder)
        self.context.view = View(path, self.now)
        self.context.view.look()
        seen = self.kept.seen.get(str(path.absolute()))
        self.context.seen = float(seen) if isinstance(seen, int | float) else None
        for name, page in PAGES.items():
            if name != "runs":
                self.pages[name] = page(self.context)
        self.page = self.pages[self.page.name]
        self.told = None
        load: Callable[[], Awaitable[None]] = partial(self._load, self.context.view)
        self.run_worker(load, exclusive=True, group="load")

    async def _load(self, view: View) -> None:
        """Read a long log in slices, so that keys are answered meanwhile."""
        while not view.loaded and self.context.view is view:
            view.read(SLICE_SECONDS)
            self.paint()
            await asyncio.sleep(0)
        view.look(at_once=True)
        self.told = view.standing
        self.paint()

    def tick(self) -> None:
        """Take in what is new, and draw what changed; a clock moves once a second."""
        view, changed = self.context.view, False
        if view is not None and view.loaded:
            changed = view.read(SLICE_SECONDS)
            changed |= view.look()
            self.tell_ends(view)
        changed |= self.page.tick()
        moves = view is not None and view.live and not view.frozen
        if changed or (moves and time.monotonic() - self._painted_at >= 1.0):
            self.paint()

    def tell_ends(self, view: View) -> None:
        before, self.told = self.told, view.standing
        if before == view.standing or before is None:
            return
        if view.standing in ("done", "failed", "stopped", "crashed"):
            bad = view.standing in ("failed", "crashed")
            error = view.state.error
            told = one_line((error and error.problem) or "") or f"to go on: {view.again}"
            if view.standing == "done":
                told = "its report is written: report.html in the run's folder"
            kind: Any = "error" if bad else "information"
            title = line_of(f"{view.name}: {view.standing}").replace("[", "(")
            self.notify(told, title=title, severity=kind, timeout=8, markup=False)
            self.bell()
        elif view.standing in ("paused", "stale"):
            self.notify(line_of(f"{view.name}: {view.standing}"), markup=False)

    def _look_at_terminal(self) -> None:
        """A terminal that is gone without a signal would otherwise keep a core busy for ever. An
        orderly end would write to it, and wait."""
        if self._terminal is not None and not os.isatty(self._terminal):
            self._keep()
            os._exit(1)

    def _later(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """``work`` in a thread that nobody waits for when the app ends; ``done`` here."""

        def finish(found: Any, error: Exception | None) -> None:
            try:
                if error is not None:
                    raise error
                done(found)
            except Exception as problem:  # a reader must survive what it reads
                told = one_line(problem) or type(problem).__name__
                self.notify(told, severity="error", markup=False)
            self.paint()

        def run() -> None:
            found, problem = None, None
            try:
                found = work()
            except Exception as error:
                problem = error
            with contextlib.suppress(RuntimeError):  # the app has ended
                loop.call_soon_threadsafe(finish, found, problem)

        loop = asyncio.get_running_loop()
        threading.Thread(target=run, daemon=True).start()

    # --- drawing

    def frame(self, cells: int, rows: int) -> list[Line]:
        """Every line of the app for a size."""
        view, glyphs = self.context.view, self.context.glyphs
        if cells < LEAST[0] or rows < LEAST[1]:
            return [bars.tiny(view, glyphs, cells)]
        top = bars.status(view, glyphs, cells)
        tab_line, _ = bars.tabs(self.page.name, cells)
        shown = keys.line(self.page.name, self.kept.keys, cells - 2)
        key_line = bars.keys([(key, self.why_not(key) is None) for key in shown], cells)
        if view is not None and not view.loaded and self.page.name != "runs":
            body: list[Line] = [[] for _ in range(rows - 3)]
        else:
            body = self.page.draw(cells, rows - 3)
        return [top, tab_line, *body, key_line]

    def paint(self, renew: bool = False) -> None:
        if not self.screen_stack or not self.screen_stack[0].query(Picture):
            return
        picture = self.picture
        cells, rows = picture.size
        if not cells or not rows:
            return
        key = (cells, rows, self.theme)
        self._painted_at = time.monotonic()
        self.picture.show(self.frame(cells, rows), renew or key != self._painted)
        self._painted = key

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self.paint, True)

    def watch_theme(self, theme: str) -> None:
        if self.screen_stack:
            self.call_after_refresh(self.paint, True)

    # --- keys

    async def on_key(self, event: events.Key) -> None:
        if len(self.screen_stack) > 1:
            return
        known = {k.key: k for k in keys.of_screen(self.page.name, self.kept.keys)}
        found = known.get(event.key) or known.get(event.character or "")
        if found is not None:
            event.stop()
            event.prevent_default()
            self.do(found)

    def why_not(self, key: keys.Key) -> str | None:
        """Why a key can do nothing now."""
        if key.action in COMMANDS and key.screen == keys.EVERYWHERE:
            return steering.why_not(self.context.view, key.action, self.read_only)
        if key.screen == keys.EVERYWHERE:
            if key.action == "copy" and self.page.copied() is None:
                return "there is nothing to copy yet"
            return None
        return self.page.why_not(key.action)

    def do(self, key: keys.Key) -> None:
        why = self.why_not(key)
        if why is not None:
            self.notify(f"{key.shown}: {why}", severity="warning", timeout=4, markup=False)
            return
        if key.screen != keys.EVERYWHERE:
            if self.page.name == "overview" and key.action == "open":
                assert isinstance(self.page, Overview)
                self.show_page(self.page.opened())
            else:
                self._answered(self.page.press(key.action))
        elif key.action.startswith("show_"):
            self.show_page(key.action.removeprefix("show_"))
        elif key.action in COMMANDS:
            self._ask_to(key.action)
        else:
            getattr(self, f"key_{key.action}_pressed")()
        self.paint()

    def _answered(self, answer: Any) -> None:
        if isinstance(answer, str):
            self.notify(answer, timeout=5, markup=False)
        elif isinstance(answer, Ask):

            def take(given: str | None) -> None:
                if given is None:
                    return
                try:
                    self._answered(answer.then(given))
                except (ValueError, RuntimeError, OSError, MlxpruneError) as error:
                    self._answered(line_of(str(error)) or "that cannot be understood")
                self.paint()

            self.push_screen(dialogs.Prompt(answer.title, answer.given, answer.hint), take)

    def show_page(self, name: str) -> None:
        if name in self.pages and name != self.page.name:
            self.before.append(self.page.name)
            self.page = self.pages[name]
            self.kept.screen = name
        self.paint()

    def key_help_pressed(self) -> None:
        rows = [(key, self.why_not(key)) for key in keys.of_screen(self.page.name, self.kept.keys)]
        self.push_screen(dialogs.Help(self.page.name, rows))

    def key_palette_pressed(self) -> None:
        self.action_command_palette()

    def key_detach_pressed(self) -> None:
        self.exit()

    def key_back_pressed(self) -> None:
        if self.page.zoomed:
            self.page.zoomed = False
        elif not self.page.back() and self.before:
            self.page = self.pages[self.before.pop()]

    def key_next_pane_pressed(self) -> None:
        self.page.held += 1

    def key_previous_pane_pressed(self) -> None:
        self.page.held -= 1

    def key_zoom_pressed(self) -> None:
        self.page.zoomed = not self.page.zoomed

    def key_freeze_pressed(self) -> None:
        if self.context.view is not None:
            self.context.view.frozen = not self.context.view.frozen

    def key_theme_pressed(self) -> None:
        known = [t for t in THEMES if t in self.available_themes]
        at = known.index(self.theme) if self.theme in known else -1
        self.theme = self.kept.theme = known[(at + 1) % len(known)]
        self.notify(self.theme, timeout=2)

    def key_copy_pressed(self) -> None:
        text = self.page.copied()
        if text:
            self.copy_to_clipboard(text)
            self.notify(f"copied: {one_line(text)[:60]}", timeout=3, markup=False)

    def key_previous_run_pressed(self) -> None:
        self._other_run(-1)

    def key_next_run_pressed(self) -> None:
        self._other_run(1)

    def _other_run(self, step: int) -> None:
        found = [r.path.absolute() for r in runs_under(Path(self.context.folder))]
        if not found:
            self.notify("no other run in this folder", severity="warning")
            return
        view = self.context.view
        here = view.run.path.absolute() if view else None
        at = found.index(here) if here in found else -1
        self.open_run(found[(at + step) % len(found)])

    def _ask_to(self, verb: str) -> None:
        view = self.context.view
        assert view is not None

        def answered(yes: bool | None) -> None:
            if yes:
                try:
                    self.notify(steering.send(view, verb), timeout=4, markup=False)
                except OSError as error:
                    problem = f"the command cannot be written: {error.strerror or error}"
                    self.notify(problem, severity="error", markup=False)

        question = f"{verb.capitalize()} {view.name}?"
        self.push_screen(dialogs.Confirm(question, steering.consequences(view, verb)), answered)

    def clicked(self, x: int, y: int) -> None:
        cells, rows = self.picture.size
        if y == 1:
            _, where = bars.tabs(self.page.name, cells)
            for first, stop, name in where:
                if first <= x < stop:
                    self.show_page(name)
            return
        if not 2 <= y < rows - 1:
            return
        layout = self.page.layout(cells, rows - 3)
        for number, place in enumerate(places(layout, 0, 2, cells, rows - 3)):
            inside = place.x <= x < place.x + place.cells and place.y <= y < place.y + place.rows
            if inside and not self.page.zoomed:
                self.page.held = number
                self.page.clicked(place.pane.title, x - place.x - 1, y - place.y - 1)
        self.paint()

    def scrolled(self, way: str) -> None:
        if hasattr(self.page, f"do_{way}") and self.page.why_not(way) is None:
            self.page.press(way)
            self.paint()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        yield from palette.commands(
            self.context.folder, list(self.available_themes), self.from_palette, self.open_run,
            self.choose_theme, self.choose_glyphs,
        )  # fmt: skip

    def from_palette(self, key: keys.Key) -> None:
        if key.screen not in (keys.EVERYWHERE, self.page.name):
            self.show_page(key.screen)
        self.do(key)

    def choose_theme(self, name: str) -> None:
        self.theme = self.kept.theme = name

    def choose_glyphs(self, name: str) -> None:
        self.kept.glyphs = name
        self.context.glyphs = GLYPHS[name]
        self.paint(True)

    # --- the end

    def _note_seen(self) -> None:
        if self.context.view is not None:
            self.kept.seen[str(self.context.view.run.path.absolute())] = self.now()

    def _keep(self) -> None:
        self._note_seen()
        if self.remember:
            settings.save(self.kept)

    def on_unmount(self) -> None:
        self._keep()


def _terminal() -> int | None:
    """The descriptor of the terminal that is drawn on, where there is one."""
    try:
        return 0 if os.isatty(0) else None
    except OSError:
        return None


def _few_colours() -> bool:
    told = os.environ.get("TEXTUAL_COLOR_SYSTEM") or os.environ.get("COLORTERM", "")
    deep = told in ("truecolor", "24bit")
    return not deep and "256" not in os.environ.get("TERM", "")
