"""App: the screens on a terminal, one run in hand. It reads, and writes commands when asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App
from textual.markup import escape
from textual.theme import Theme

from mlxprune.errors import MlxpruneError, one_line
from mlxprune.run.folder import COMMANDS, newest_run, runs_under
from mlxprune.run.status import ENDED_EARLY
from mlxprune_tui.drawing.cells import GLYPHS
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.screens import overview
from mlxprune_tui.screens.base import RunScreen
from mlxprune_tui.screens.comparison import Compare
from mlxprune_tui.screens.documents import Documents
from mlxprune_tui.screens.notices import Notices
from mlxprune_tui.screens.overview import Overview
from mlxprune_tui.screens.runs import Runs, start
from mlxprune_tui.screens.scoring import Scoring
from mlxprune_tui.screens.selection import Selection
from mlxprune_tui.screens.training import Training
from mlxprune_tui.shell import clipboard, dialogs, keys, outside, palette, settings, steering
from mlxprune_tui.shell.palette import Choice, Choices
from mlxprune_tui.shell.session import Session

SLICE_SECONDS = 0.02  # of reading between two looks at the keyboard
HERTZ = 4.0
KEEP_SECONDS = 30.0  # between two times that settings are kept: a terminal can end at any moment
THEMES = ("textual-dark", "textual-light", "ansi-dark", "ansi-light", "nord", "gruvbox",
          "solarized-light", "catppuccin-latte")  # fmt: skip
SCREENS: dict[str, type[RunScreen]] = {
    kind.NAME: kind for kind in (Overview, Scoring, Selection, Training, Compare, Documents, Runs)
}


class Monitor(App[None]):
    """``folder`` is a run, a folder of runs, or where one is going to be. ``now`` is a clock, so
    that tests can stop it; ``read_only`` takes no commands."""

    CSS_PATH = "app.tcss"
    TITLE = "mlxprune"
    COMMANDS = {Choices}  # noqa: RUF012 (of the library)
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
        self.session = Session(folder, GLYPHS[own], read_only, self.kept.options)
        self.pages: dict[str, RunScreen] = {}
        for name, kind in SCREENS.items():
            self.add_mode(name, partial(self._page, name, kind))
        self.before: list[str] = []
        self.wanted = ""  # the screen that is asked for
        self._renewed = 0.0
        self._terminal = _terminal()
        self._waiting = False
        window = outside.Window(self._to_terminal, os.environ.get("TERM_PROGRAM", ""))
        self.notices = Notices(self.session, window)

    def get_css_variables(self) -> dict[str, str]:
        """With the colour of what is in hand: the blue of sixteen colours cannot be read on
        black."""
        found = super().get_css_variables()
        is_ansi = self.theme.startswith("ansi")
        return found | {"in-hand": "ansi_cyan" if is_ansi else found.get("primary", "#0178d4")}

    def _page(self, name: str, kind: type[RunScreen]) -> RunScreen:
        self.pages[name] = kind(self.session)
        return self.pages[name]

    async def on_mount(self) -> None:
        wanted = self.kept.theme or ("ansi-dark" if _few_colours() else "textual-dark")
        self.theme = wanted if wanted in self.available_themes else "textual-dark"
        self.theme_changed_signal.subscribe(self, self._theme_changed)
        screen = self.kept.screen if self.kept.screen in SCREENS else "overview"
        screen = self._open_start(screen)
        self.wanted = screen
        await self.switch_mode(screen)
        self.set_keymap(self.kept.keys)
        hertz = self.kept.hertz or HERTZ
        self.set_interval(1 / hertz, self.tick)
        self.set_interval(1.0, self._look_at_terminal)
        self.set_interval(KEEP_SECONDS, self._keep)

    def _open_start(self, screen: str) -> str:
        """Open the run that was asked for, the only one, or the one that works; which screen."""
        start = self.session.start
        if (start / "run.json").exists():
            self.session.folder = start.absolute().parent
            self.open_run(start)
            return screen
        self.session.folder = start.absolute()
        found = runs_under(start) if start.exists() else []
        live = [r for r in found if View(r.path, self.now).pid]
        if len(found) == 1 or len(live) == 1:
            self.open_run((live or found)[0].path)
            return screen
        self._waiting = not found
        return "runs" if found else "overview"

    @property
    def page(self) -> RunScreen:
        """The screen in hand, below any dialog."""
        return self.pages[self.current_mode]

    # --- the run in hand

    def open_run(self, folder: Path) -> None:
        self._note_seen()
        view = View(Path(folder), self.now)
        view.look()
        seen = self.kept.seen.get(str(view.run.path.absolute()))
        self.session.open(view, float(seen) if isinstance(seen, int | float) else None)
        for page in self.pages.values():
            page.forget()
        self.notices.forget()
        load: Callable[[], Awaitable[None]] = partial(self._load, view)
        self.run_worker(load, exclusive=True, group="load")

    async def _load(self, view: View) -> None:
        """Read a long log in slices, so that keys are answered meanwhile."""
        while not view.loaded and self.session.view is view:
            view.read(SLICE_SECONDS)
            self.session.ghost.note(view.state.histogram)
            self._renew()
            await asyncio.sleep(0)
        view.look(at_once=True)
        self.notices.begin(view)
        self._renew()

    def tick(self) -> None:
        """Take in what is new, and draw what changed; a clock moves once a second."""
        if self._waiting:
            self._look_for_run()
        view, changed = self.session.view, False
        if view is not None and view.loaded:
            changed = view.read(SLICE_SECONDS)
            self.session.ghost.note(view.state.histogram)
            changed |= view.look()
            self.notices.tell(view, self.notify)
        if self.current_mode not in self.pages:
            return
        changed |= self.page.tick()
        moves = view is not None and view.live and not view.frozen
        if changed or (moves and time.monotonic() - self._renewed >= 1.0):
            self._renew()

    def _look_for_run(self) -> None:
        """What was named is not there yet: open it once it is."""
        found = newest_run(self.session.start)
        if found is not None:
            self._waiting = False
            self.session.folder = found.absolute().parent
            self.open_run(found)
            self.go("overview")

    def _renew(self) -> None:
        self._renewed = time.monotonic()
        if self.current_mode in self.pages:
            self.page.renew()
            top = self.screen
            if isinstance(top, RunScreen) and top is not self.page:
                top.renew()

    def _to_terminal(self, sequence: str) -> None:
        driver = self._driver
        if driver is not None and not self.is_headless and self._terminal is not None:
            driver.write(sequence)

    def _look_at_terminal(self) -> None:
        """A terminal that is gone without a signal would otherwise keep a core busy for ever. An
        orderly end would write to it, and wait."""
        if self._terminal is not None and not os.isatty(self._terminal):
            self._keep()
            os._exit(1)

    # --- what screens ask for

    def go(self, screen: str) -> None:
        if screen in SCREENS and screen != self.wanted:
            self.before.append(self.wanted)
            self._switch(screen)

    def _switch(self, screen: str) -> None:
        """One after another: two that are under way at once may end in either order."""
        self.wanted = self.kept.screen = screen
        self.call_later(self._switched, screen)

    async def _switched(self, screen: str) -> None:
        if self.current_mode != screen:
            await self.switch_mode(screen)

    def say(self, sentence: str, bad: bool = False) -> None:
        kind: Any = "error" if bad else "information"
        self.notify(line_of(sentence), timeout=5, severity=kind, markup=False)

    def copy(self, text: str, what: str) -> None:
        where = clipboard.copy(text, super().copy_to_clipboard)
        self.say(f"copied {what}, {where}: {one_line(text)[:80]}")

    def copy_to_clipboard(self, text: str) -> None:
        """Of a selection by mouse."""
        clipboard.copy(text, super().copy_to_clipboard)

    def ask(self, title: str, given: str, hint: str, then: Callable[[str], object]) -> None:
        def take(answer: str | None) -> None:
            if answer is None:
                return
            try:
                told = then(answer)
            except (ValueError, RuntimeError, OSError, MlxpruneError) as error:
                told = line_of(str(error)) or "that cannot be understood"
            if isinstance(told, str):
                self.say(told)
            self._renew()

        self.push_screen(dialogs.Ask(title, given, hint), take)

    def later(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """``work`` in a thread that nobody waits for when the app ends; ``done`` here."""

        def finish(found: Any, error: Exception | None) -> None:
            try:
                if error is not None:
                    raise error
                done(found)
            except Exception as problem:  # a reader must survive what it reads
                self.say(one_line(problem) or type(problem).__name__, bad=True)
            self._renew()

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

    # --- keys that mean the same everywhere

    def press(self, action: str) -> None:
        if action.startswith("show_"):
            self.go(action.removeprefix("show_"))
        elif action in COMMANDS:
            self._ask_to(action)
        else:
            getattr(self, f"press_{action}")()

    def press_palette(self) -> None:
        self.action_command_palette()

    def press_leave(self) -> None:
        self.exit()

    def press_back(self) -> None:
        if self.before:
            self._switch(self.before.pop())

    def press_hold(self) -> None:
        if self.session.view is not None:
            self.session.view.frozen = not self.session.view.frozen

    def press_theme(self) -> None:
        known = [t for t in THEMES if t in self.available_themes]
        at = known.index(self.theme) if self.theme in known else -1
        self.choose_theme(known[(at + 1) % len(known)])
        self.say(self.theme)

    def press_open_report(self) -> None:
        view = self.session.view
        if view is not None:
            report = view.run.path / "report.html"
            self.say(outside.open_path((report if report.exists() else view.run.path).absolute()))

    def press_previous_run(self) -> None:
        self._other_run(-1)

    def press_next_run(self) -> None:
        self._other_run(1)

    def _other_run(self, step: int) -> None:
        folder = self.session.folder
        found = [r.path.absolute() for r in runs_under(folder)] if folder is not None else []
        if not found:
            self.say("no other run in this folder")
            return
        view = self.session.view
        here = view.run.path.absolute() if view else None
        at = found.index(here) if here in found else -1
        self.open_run(found[(at + step) % len(found)])

    def _ask_to(self, verb: str) -> None:
        view = self.session.view
        assert view is not None
        again = verb == "resume" and view.standing in ENDED_EARLY

        def answered(yes: bool | None) -> None:
            if not yes:
                return
            if again:
                words = [str(view.run.config), "--dir", str(view.run.path)]
                self.later(lambda: start(words, None), self.say)
                self.say("starting ...")
                return
            try:
                self.say(steering.send(view, verb))
            except OSError as error:
                self.say(f"the command cannot be written: {error.strerror or error}", bad=True)

        question = f"Go on with {line_of(view.name)}?" if again else (
            f"{verb.capitalize()} {line_of(view.name)}?"
        )  # fmt: skip
        self.push_screen(
            dialogs.Confirm(question, steering.consequences(view, verb, again)), answered
        )

    # --- the palette

    def choices(self) -> list[Choice]:
        """Everything that can be done; texts of data are made harmless."""
        found = list(palette.key_choices(self.current_mode, self._from_palette))
        view = self.session.view
        if view is not None:
            for arm in view.arms():
                name = f"arm {line_of(arm.name)}"
                found.append(Choice(name, "its training", partial(self._show_arm, arm.name)))
            for stage in view.state.stages:
                where = overview.SCREEN_OF.get(stage, "overview")
                found.append(Choice(f"stage {line_of(stage)}", where, partial(self.go, where)))
        folder = self.session.folder
        for run in runs_under(folder) if folder is not None and folder.exists() else []:
            found.append(
                Choice(
                    f"open {line_of(run.path.name)}", escape(line_of(str(run.path))),
                    partial(self.open_run, run.path),
                )
            )  # fmt: skip
        for theme in self.available_themes:
            found.append(Choice(f"theme {theme}", "colours", partial(self.choose_theme, theme)))
        for glyphs in GLYPHS:
            told = "what pictures are made of"
            found.append(Choice(f"glyphs {glyphs}", told, partial(self.choose_glyphs, glyphs)))
        return found

    def _from_palette(self, key: keys.Key) -> None:
        if key.screen not in (keys.EVERYWHERE, self.current_mode):
            self.go(key.screen)
        self.call_after_refresh(self._do_here, key)

    def _do_here(self, key: keys.Key) -> None:
        why = self.page.why_not(key.action)
        if why is not None:
            self.say(f"{key.shown}: {why}")
        else:
            self.page.action_do(key.action)

    def _show_arm(self, name: str) -> None:
        self.go("training")

        def choose() -> None:
            page = self.pages["training"]
            if isinstance(page, Training):
                page.model = f"final/{name}"
                page.options["all"] = False
                page.renew()

        self.call_after_refresh(choose)

    def choose_theme(self, name: str) -> None:
        self.theme = self.kept.theme = name

    def choose_glyphs(self, name: str) -> None:
        self.kept.glyphs = name
        self.session.glyphs = GLYPHS[name]
        self._renew()

    def _theme_changed(self, theme: Theme) -> None:
        self.call_after_refresh(self._renew)

    # --- the end

    def _note_seen(self) -> None:
        if self.session.view is not None:
            self.kept.seen[str(self.session.view.run.path.absolute())] = self.now()

    def _keep(self) -> None:
        self._note_seen()
        if self.remember:
            settings.save(self.kept)

    def on_unmount(self) -> None:
        self.notices.window.close()
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
