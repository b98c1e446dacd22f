"""Panes: the parts of a screen: a title with a rule, facts by name, a headline, a status line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from mlxprune_tui.drawing.cells import Glyphs, Line, Span
from mlxprune_tui.drawing.text import fit, line_of, visible, width
from mlxprune_tui.widgets.ink import text_of

Facts = Sequence[tuple[str, str, str]]  # name, what is told of it, style


class Pane(Vertical):
    """A title, a rule to its right, then content; the key for zooming fills the screen with it."""

    ALLOW_MAXIMIZE = True

    def __init__(self, title: str, *children: Widget, ident: str, classes: str = "") -> None:
        super().__init__(*children, id=ident, classes=classes)
        self.entitle(title)

    def entitle(self, title: str) -> None:
        told = Content(_fitted(line_of(title), self.size.width - 4))
        if self.border_title != told.markup:
            self.border_title = told.markup


def _fitted(title: str, cells: int) -> str:
    return fit(title, cells).rstrip() if 0 < cells < width(title) else title


class Words(Static):
    """Spans of text that are renewed where they have changed, and can be selected."""

    def __init__(self, ident: str, classes: str = "") -> None:
        super().__init__(id=ident, classes=classes, markup=False)
        self.told: tuple[list[Span], str] = ([], "")

    def tell(self, spans: Sequence[Span]) -> None:
        told = (list(spans), self.app.theme)
        if told != self.told:
            self.told = told
            self.update(text_of(self.app, spans))

    def tell_facts(self, facts: Facts) -> None:
        """Rows of a name and what is told of it, which goes on under itself."""
        room = max((len(name) for name, _, _ in facts), default=0) + 2
        spans: list[Span] = []
        cells = max(8, (self.content_size.width or 60) - room)
        for number, (name, words, style) in enumerate(facts):
            head = f"{name:<{room}}"
            spans.append((("\n" if number else "") + head, "head"))
            for row, line in enumerate(_lines(line_of(words), cells)):
                spans.append((("\n" + " " * room if row else "") + line, style))
        self.tell(spans)

    @property
    def plain_text(self) -> str:
        return "".join(words for words, _ in self.told[0])


def _lines(text: str, cells: int) -> list[str]:
    """Broken between words; a word that is longer than a line goes on in the next."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > cells:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
        while len(line) > cells:
            lines.append(line[:cells])
            line = line[cells:]
    return [*lines, line] if line or not lines else lines


class ScrolledWords(VerticalScroll):
    """Words of which there may be more than fit."""

    def __init__(self, ident: str) -> None:
        super().__init__(id=ident)
        self.words = Words(f"{ident}-words")

    def compose(self) -> list[Words]:  # type: ignore[override]
        return [self.words]

    def tell(self, spans: Sequence[Span]) -> None:
        self.words.tell(spans)

    def tell_facts(self, facts: Facts) -> None:
        self.words.tell_facts(facts)


@dataclass(frozen=True)
class Headline:
    """What answers the moment: a sentence, what stands behind it, the key of the likeliest next
    step; ``tone`` is good, bad, warn or plain."""

    said: str
    behind: str = ""
    tone: str = ""
    next_step: str = ""

    def spans(self, glyphs: Glyphs) -> Line:
        marks = {"good": glyphs.down_mark, "bad": glyphs.up_mark, "warn": "~"}
        mark = f"{marks[self.tone]} " if self.tone in marks else ""
        line: Line = [(mark, self.tone), (visible(self.said), "bold")]
        if self.next_step:
            line.append((f"  {visible(self.next_step)}", "title"))
        if self.behind:
            line.append((f"\n{visible(self.behind)}", ""))
        return line
