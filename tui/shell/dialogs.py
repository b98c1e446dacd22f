"""Dialogs: a question, a line of text, the sheet of keys. Escape always closes them."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from mlxprune_tui.drawing.text import line_of, visible
from mlxprune_tui.shell.keys import EVERYWHERE, Key

STYLE = """
ModalScreen { align: center middle; }
ModalScreen > Vertical, ModalScreen > VerticalScroll {
    width: 90%; max-width: 96; height: auto; max-height: 90%;
    border: round $primary; padding: 0 1; background: $surface;
}
ModalScreen Input { border: none; height: 1; padding: 0; }
"""


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
        with Vertical():
            yield Static(Text(line_of(self.question), style="bold"))
            yield Static(Text(visible(self.told)))
            yield Static(Text("\ny: yes    n or esc: no"))

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class Prompt(ModalScreen[str | None]):
    """One line of text."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close")]

    def __init__(self, title: str, given: str, hint: str) -> None:
        super().__init__()
        self.prompt, self.given, self.hint = title, given, hint

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(self.prompt, style="bold"))
            yield Input(self.given)
            yield Static(Text(visible(self.hint), style="dim"))

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)

    def action_close(self) -> None:
        self.dismiss(None)


class Help(ModalScreen[None]):
    """The keys of a screen, from the one table of them; what can do nothing now says why."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "close")]

    def __init__(self, screen: str, keys: list[tuple[Key, str | None]]) -> None:
        super().__init__()
        self.about, self.rows = screen, keys

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(Text(f"Keys of {self.about}", style="bold"))
            yield Static(self._table(lambda key: key.screen != EVERYWHERE))
            yield Static(Text("\nEverywhere", style="bold"))
            yield Static(self._table(lambda key: key.screen == EVERYWHERE))
            yield Static(Text("\nesc closes this", style="dim"))

    def _table(self, wanted: object) -> Text:
        text = Text()
        assert callable(wanted)
        for key, why in self.rows:
            if wanted(key):
                text.append(f"{key.shown:>9}  ", style="bold")
                text.append(key.told, style="dim" if why else "")
                text.append(f" ({why})" if why else "", style="dim italic")
                text.append("\n")
        text.rstrip()
        return text

    def action_close(self) -> None:
        self.dismiss(None)
