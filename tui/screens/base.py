"""Base: what every screen has: a status line, tabs, a headline, a body, and the footer of keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, Tab, Tabs

from mlxprune.config.schema import Config
from mlxprune.run.folder import COMMANDS
from mlxprune_tui.drawing.cells import Glyphs
from mlxprune_tui.drawing.text import visible
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.screens.phrases import status_line
from mlxprune_tui.shell import exporting, keys, steering
from mlxprune_tui.shell.dialogs import Help
from mlxprune_tui.shell.help_texts import HELP
from mlxprune_tui.shell.session import Session
from mlxprune_tui.widgets.ink import ink_of
from mlxprune_tui.widgets.key_footer import KeyFooter
from mlxprune_tui.widgets.panes import Headline, Pane, Words
from mlxprune_tui.widgets.picture import Picture
from mlxprune_tui.widgets.table import Table

BREAKPOINTS_ACROSS = [(0, "-tiny"), (60, "-narrow"), (100, "-wide"), (150, "-broad")]
TABS_WIDTH = 80  # cells that their whole names take
BREAKPOINTS_DOWN = [(0, "-flat"), (15, "-least"), (20, "-short"), (30, "-tall"), (48, "-high")]


class Host(Protocol):
    """What the app does for its screens."""

    session: Session

    def open_run(self, folder: Path) -> None: ...
    def go(self, screen: str) -> None: ...
    def say(self, sentence: str, bad: bool = False) -> None: ...
    def later(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None: ...
    def copy(self, text: str, what: str) -> None: ...
    def ask(self, title: str, given: str, hint: str, then: Callable[[str], object]) -> None: ...
    def press(self, action: str) -> None: ...


class RunScreen(Screen[None]):
    """A screen on the run in hand. A key's action is ``do_`` of it here, or what the app does under
    that name; ``why_not`` says why it can do nothing now."""

    NAME: ClassVar[str] = ""
    DEFAULTS: ClassVar[dict[str, Any]] = {}
    CHOICES: ClassVar[dict[str, Sequence[Any]]] = {}  # what an option can be, where few
    AUTO_FOCUS: ClassVar[str | None] = ""
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS_ACROSS
    VERTICAL_BREAKPOINTS = BREAKPOINTS_DOWN
    FOCUS: ClassVar[str] = ""  # a selector of what has the keys at first
    TABBED: ClassVar[bool] = True

    def __init__(self, session: Session) -> None:
        super().__init__(id=self.NAME)
        self.session = session
        kept = session.options.get(self.NAME, {})
        self.options = {
            key: kept[key] if self._sound(key, kept.get(key)) else usual
            for key, usual in self.DEFAULTS.items()
        }
        session.options[self.NAME] = self.options
        self._faint: tuple[str, ...] | None = None
        self.is_built = False
        self._theme_seen = ""

    @property
    def host(self) -> Host:
        return cast("Host", self.app)

    @property
    def glyphs(self) -> Glyphs:
        return self.session.glyphs

    @property
    def view(self) -> View | None:
        return self.session.view

    def _sound(self, key: str, value: Any) -> bool:
        """Whether an option that was kept can be used again."""
        usual, known = self.DEFAULTS[key], self.CHOICES.get(key)
        return type(value) is type(usual) and (known is None or value in known)

    def in_hand(self) -> tuple[View, Config] | str:
        """The run in hand with its configuration; or why there is none."""
        view = self.view
        if view is None:
            return "no run is open"
        config = view.config
        return (view, config) if config is not None else str(view.config_trouble)

    # --- what is on it

    def compose(self) -> ComposeResult:
        yield Words("status")
        if self.TABBED:
            yield Tabs(
                *(Tab(s.capitalize(), id=f"tab-{s}") for s in keys.SCREENS),
                active=f"tab-{self.NAME}", id="tabs",
            )  # fmt: skip
        yield Words("headline")
        yield Words("nothing")
        with Container(id="body"):
            yield from self.body()
        yield KeyFooter()

    def body(self) -> Iterator[Widget]:
        raise NotImplementedError

    def on_mount(self) -> None:
        if self.TABBED:
            self.query_one(Tabs).can_focus = False
        for widget in self.query("#headline, #status, #nothing"):
            widget.can_focus = False
        self.is_built = True
        self._name_tabs()

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        # Styles of a screen that was away are those that it had, but after another theme: to ask
        # for all of them anew takes as long as to draw it.
        event.refresh_styles = self._theme_seen != self.app.theme
        self._theme_seen = self.app.theme
        if self.TABBED:
            with self.prevent(Tabs.TabActivated):
                self.query_one(Tabs).active = f"tab-{self.NAME}"
        self.call_after_refresh(self.renew)

    def _focus(self) -> None:
        """What has the keys at first, once it is there to be seen."""
        wanted = self.query_one(self.FOCUS)
        if self.focused is None and wanted.focusable:
            wanted.focus()

    def on_tabs_tab_activated(self, event: Tabs.TabActivated) -> None:
        wanted = str(event.tab.id).removeprefix("tab-")
        if wanted != self.NAME and self.is_current:
            self.host.go(wanted)

    def on_resize(self) -> None:
        self._name_tabs()
        self.call_after_refresh(self.renew)

    def _name_tabs(self) -> None:
        """Whole names where they fit, else their beginnings."""
        if not self.TABBED or not self.is_built:
            return
        short = self.size.width < TABS_WIDTH
        for n, name in enumerate(keys.SCREENS, 1):
            word = name.capitalize()[:4] if short else name.capitalize()
            tab = self.query_one(f"#tab-{name}", Tab)
            if str(tab.label) != f"{n} {word}":
                tab.label = f"{n} {word}"  # type: ignore[assignment]

    def renew(self) -> None:
        """Everything anew from the state of the run; what has not changed is not drawn."""
        if not self.is_built or not (self.is_current or self.is_under_dialog):
            return
        cells, rows = self.size
        self.query_one("#status", Words).tell(status_line(self.view, self.glyphs, cells, rows))
        if cells < 60 or rows < 15:
            return
        nothing = self.nothing()
        if self.has_class("-nothing") and nothing is None:
            self.call_after_refresh(self.renew)  # once what appears has its size
        self.set_class(nothing is not None, "-nothing")
        self.set_class(self.glyphs.name == "ascii", "-ascii")
        if nothing is not None:
            self.query_one("#nothing", Words).tell([(f"\n  {visible(nothing)}\n", "")])
        else:
            self.query_one("#headline", Words).tell(self.headline().spans(self.glyphs))
            self.renew_body()
            if self.focused is None and self.FOCUS:
                self.call_after_refresh(self._focus)
        faint = tuple(k.action for k in keys.of_screen(self.NAME) if self.why_not(k.action))
        if faint != self._faint:
            self._faint = faint
            self.refresh_bindings()

    @property
    def is_under_dialog(self) -> bool:
        return self in self.app.screen_stack

    def nothing(self) -> str | None:
        """Why there is nothing to show yet, if so."""
        view = self.view
        if view is None:
            return "No run is open: 7 shows those that are here."
        if not view.loaded:
            return "Reading the log of the run ..."
        return None

    def headline(self) -> Headline:
        raise NotImplementedError

    def renew_body(self) -> None:
        raise NotImplementedError

    def forget(self) -> None:
        """Another run is in hand: nothing of the one before stays, nor is it seen any more."""
        self.reset()
        for picture in self.query(Picture):
            picture.forget()

    def reset(self) -> None:
        """What a screen keeps of a run."""

    def tick(self) -> bool:
        """Look at what is not in the log, now and then; whether anything is new."""
        return False

    def pictures(self, *names: str) -> None:
        """Draw these anew."""
        for name in names:
            self.query_one(f"#{name}", Picture).renew()

    # --- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action != "do":
            return super().check_action(action, parameters)
        return None if self.why_not(str(parameters[0])) else True

    def action_do(self, name: str) -> None:
        if name.startswith("as_"):
            self.app.simulate_key(name.removeprefix("as_"))
            return
        method = getattr(self, f"do_{name}", None)
        if method is not None:
            told = method()
            if isinstance(told, str):
                self.host.say(told)
        else:
            self.host.press(name)
        self.renew()

    def on_key(self, event: events.Key) -> None:
        """A key that nothing took: if it has a meaning here, why it does nothing now. Escape leaves
        a line that is typed."""
        field = self.focused
        if isinstance(field, Input):
            if event.key == "escape":
                event.stop()
                field.display = False
                self.typed_over().focus()
            return
        for key in keys.of_screen(self.NAME):
            if event.key == key.key:
                why = self.why_not(key.action)
                if why is not None:
                    event.stop()
                    self.host.say(f"{key.shown}: {why}")
                return

    def typed_over(self) -> Widget:
        """What has the focus after a line was typed."""
        raise NotImplementedError

    def why_not(self, action: str) -> str | None:
        """Why a key can do nothing now."""
        key = keys.of_action(self.NAME, action)
        if key is None:
            return None
        if action in COMMANDS:
            return steering.why_not(self.view, action, self.session.read_only)
        if action == "copy":
            return None if self.copied() is not None else "there is nothing to copy yet"
        if action == "open_report" and self.view is None:
            return "no run is open"
        # What means the same everywhere works everywhere, also where there is nothing to show.
        return None if key.screen == keys.EVERYWHERE else self.why_not_here(action)

    def why_not_here(self, action: str) -> str | None:
        return None

    def do_copy(self) -> None:
        found = self.copied()
        if found is not None:
            self.host.copy(*found)

    def copied(self) -> tuple[str, str] | None:
        """What the key for copying takes along, and what that is."""
        return None

    def do_help(self) -> None:
        rows = [(key, self.why_not(key.action)) for key in keys.of_screen(self.NAME)]
        self.app.push_screen(Help(self.NAME, HELP[self.NAME], rows))

    def do_maximise(self) -> None:
        if self.maximized is not None:
            self.minimize()
        else:
            pane = self.pane_in_hand()
            if pane is not None:
                self.maximize(pane, container=False)
        self.call_after_refresh(self.renew)

    def pane_in_hand(self) -> Pane | None:
        """The pane that has the keys; else the first one."""
        if self.focused is not None:
            for node in self.focused.ancestors_with_self:
                if isinstance(node, Pane):
                    return node
        return next((pane for pane in self.query(Pane) if pane.display), None)

    def do_back(self) -> None:
        if self.maximized is not None:
            self.minimize()
            self.call_after_refresh(self.renew)
        elif not self.back():
            self.host.press("back")

    def back(self) -> bool:
        """Undo what escape undoes first; whether there was anything."""
        return False

    def do_export(self) -> str | None:
        """Write the pane in hand: a table, a picture, or its words."""
        pane = self.pane_in_hand()
        if pane is None:
            return "there is nothing to write yet"
        part = str(pane.id).removesuffix("-pane")
        name = f"{self.view.name if self.view else 'runs'}-{self.NAME}-{part}"
        tables, pictures = list(pane.query(Table)), list(pane.query(Picture))
        if tables:
            suffixes: tuple[str, ...] = exporting.TABLE_SUFFIXES
            usual = ".csv"
        elif pictures:
            suffixes, usual = exporting.PICTURE_SUFFIXES, ".svg"
        else:
            suffixes, usual = (".txt",), ".txt"

        def write(given: str) -> str:
            path = Path(given).expanduser()
            suffix = path.suffix or usual
            if suffix not in suffixes:
                return f"this pane is written as {', '.join(suffixes)}"
            if tables:
                text = exporting.table_text(tables[0].as_rows(), suffix)
            elif pictures:
                text = exporting.picture_text(
                    pictures[0].lines, ink_of(self.app), suffix, str(pane.border_title)
                )
            else:
                text = "\n".join(words.plain_text for words in pane.query(Words)) + "\n"
            return exporting.save(path.with_suffix(suffix), text)

        safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
        self.host.ask(
            "Write this pane to", f"{safe}{usual}", f"as {', '.join(suffixes)}, by its name", write
        )
        return None

    def cycle(self, key: str, values: Sequence[Any], step: int = 1) -> Any:
        """The next value of an option."""
        now = self.options[key]
        at = list(values).index(now) if now in values else -1
        self.options[key] = values[(at + step) % len(values)]
        return self.options[key]

    async def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        await asyncio.sleep(0)
