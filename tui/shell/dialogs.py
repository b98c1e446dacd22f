"""Dialogs: a question, a line of text, help. Escape always closes them."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from mlxprune_tui.drawing.cells import Line, Span
from mlxprune_tui.shell.help_texts import ScreenHelp
from mlxprune_tui.shell.keys import EVERYWHERE, Key
from mlxprune_tui.widgets.panes import Words


class Confirm(ModalScreen[bool]):
    """Yes or no; what will be kept is said before."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)"),
        Binding("n,escape", "answer(False)"),
    ]

    def __init__(self, question: str, told: str) -> None:
        super().__init__()
        self.question, self.told = question, told

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Words("question")
            with Horizontal(classes="answers"):
                yield Button("yes (y)", id="yes", variant="primary", compact=True)
                yield Button("no (n, esc)", id="no", compact=True)

    def on_mount(self) -> None:
        self.query_one(Words).tell([(self.question, "bold"), (f"\n\n{self.told}\n", "")])
        self.query_one("#no").focus()  # a stray enter asks nothing of a run

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class Ask(ModalScreen[str | None]):
    """One line of text."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close")]

    def __init__(self, title: str, given: str, hint: str) -> None:
        super().__init__()
        self.prompt, self.given, self.hint = title, given, hint

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self.prompt, markup=False, classes="prompt")
            yield Input(self.given, compact=True)
            yield Static(self.hint, markup=False, classes="hint")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)

    def action_close(self) -> None:
        self.dismiss(None)


class Help(ModalScreen[None]):
    """What a screen shows, its signs and words, and its keys; a key that can do nothing says
    why."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "close"),
        Binding("j,down", "scroll(1)", show=False),
        Binding("k,up", "scroll(-1)", show=False),
    ]

    def __init__(self, screen: str, told: ScreenHelp, keys: list[tuple[Key, str | None]]) -> None:
        super().__init__()
        self.about, self.told, self.rows = screen, told, keys

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog"):
            yield Words("help")

    def on_mount(self) -> None:
        self.query_one(Words).tell(self.spans())
        self.query_one(VerticalScroll).focus()

    def spans(self) -> list[Span]:
        found: Line = [(f"{self.about.capitalize()}\n", "title"), (f"{self.told.about}\n", "")]
        if self.told.signs:
            found.append(("\nSigns\n", "title"))
        for sample, style, meaning in self.told.signs:
            found += [(f"{sample:>6}", style), (f"  {meaning}\n", "")]
        if self.told.words:
            found.append(("\nWords\n", "title"))
        for word, meaning in self.told.words:
            found += [(f"  {word}", "bold"), (f": {meaning}\n", "")]
        for title, everywhere in (("Keys here", False), ("Keys everywhere", True)):
            found.append((f"\n{title}\n", "title"))
            for key, why in self.rows:
                if (key.screen == EVERYWHERE) != everywhere or key.action.startswith("as_"):
                    continue
                found += [(f"{key.shown:>9}", "bold" if why is None else "dim")]
                found += [(f"  {key.told}", "" if why is None else "dim")]
                found += [(f" (now: {why})" if why else "", "dim"), ("\n", "")]
        found.append(("\nh j k l g G move as the arrows, home and end do. esc closes this.", "dim"))
        return found

    def action_scroll(self, way: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=way * 3, animate=False)

    def action_close(self) -> None:
        self.dismiss(None)
