"""Reader: one document on the whole screen, all of it, with what each token costs on request."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Input

from mlxprune.experiment.document_explanation import TokenLosses
from mlxprune.records import record_of
from mlxprune.run.folder import RunFolder
from mlxprune_tui.drawing.cells import Line, sparkline
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers.document_lines import HEAT_STEPS, DocumentLines, shaded
from mlxprune_tui.readers.document_table import DocumentTable
from mlxprune_tui.screens.base import RunScreen
from mlxprune_tui.shell import keys
from mlxprune_tui.shell.session import Session
from mlxprune_tui.widgets.panes import Headline, Words
from mlxprune_tui.widgets.text_view import TextView

HEAT_SECONDS = 120
PEAKS = 200  # of a document, that the key goes through
COPIES = ("command", "id", "text", "place")


class Reader(RunScreen):
    """``step`` gives the row before or after one in the list that it was opened from, None at its
    end."""

    NAME = keys.READER
    BINDINGS: ClassVar[list[BindingType]] = keys.bindings(keys.READER)
    FOCUS = "#text"
    TABBED: ClassVar[bool] = False
    DEFAULTS: ClassVar = {"copies": "command"}
    CHOICES: ClassVar = {"copies": COPIES}

    def __init__(
        self, session: Session, held: DocumentTable, row: int, slice_name: str | None,
        step: Callable[[int, int], int | None],
    ) -> None:  # fmt: skip
        super().__init__(session)
        self.held, self.slice_name, self.step = held, slice_name, step
        self.losses: dict[int, tuple[list[str], list[float | None]] | str] = {}
        self.asking = False
        self.heat = False
        self.open(row)

    def open(self, row: int) -> None:
        self.row, self.match = row, 0
        self.document = int(self.held.numbers[row])
        self.lines = DocumentLines(self.held.texts, self.document, 80)
        self.hot: tuple[list[Line], list[int]] | None = None
        self.peak = -1

    def body(self) -> Iterator[Widget]:
        yield Words("heat-words")
        yield TextView(self.line_of_row, "text")
        yield Input(placeholder="words in this document", id="find", compact=True)

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(Input).display = False
        self.query_one("#text").focus()
        self.call_after_refresh(self.lay_out)

    def on_resize(self) -> None:
        self.call_after_refresh(self.lay_out)

    @property
    def text(self) -> TextView:
        return self.query_one("#text", TextView)

    def lay_out(self, top: int | None = None) -> None:
        """The lines for the width that there is; the place that is read stays."""
        view, cells = self.text, max(10, self.text.size.width - 2)
        if cells != self.lines.cells:
            place = self.lines.spans[view.scroll_offset.y][0] if self.lines.spans else 0
            self.lines.rewrap(cells)
            self.hot = None
            if place and top is None:
                top = self.lines.line_of_place(place)
        if self.heat and self.pieces() is not None:
            if self.hot is None:
                pieces, losses = self.pieces() or ([], [])
                self.hot = shaded(pieces, losses, cells)
            view.show(len(self.hot[0]), top)
        else:
            self.lines.read_to((top or view.scroll_offset.y) + 3 * max(10, view.size.height))
            view.show(len(self.lines.spans), top)
        self.renew()

    def on_text_view_scrolled(self, event: TextView.Scrolled) -> None:
        if not self.heat and not self.lines.is_whole:
            wanted = self.text.scroll_offset.y + 3 * max(10, self.text.size.height)
            if wanted > len(self.lines.spans):
                self.lines.read_to(wanted)
                self.text.show(len(self.lines.spans))
        self.query_one("#heat-words", Words).tell(self._heat_words())

    def line_of_row(self, row: int) -> Line:
        if self.heat and self.hot is not None:
            return self.hot[0][row] if row < len(self.hot[0]) else []
        return self.lines.line(row, self.match if self.lines.matches else None)

    def pieces(self) -> tuple[list[str], list[float | None]] | None:
        found = self.losses.get(self.row)
        return found if isinstance(found, tuple) else None

    def nothing(self) -> str | None:
        return None

    def headline(self) -> Headline:
        facts = self.held.facts.of(self.document)
        nll = float(self.held.nll[self.row])
        said = f"{line_of(facts.id)[:60]}"
        if math.isfinite(nll):
            said += f": {nll:.3f} nats, perplexity {math.exp(min(nll, 700)):.4g}"
        behind = (
            f"{line_of(facts.source)}, row {facts.row}; {int(self.held.tokens[self.row]):,} tokens"
        )
        behind += f"; {line_of(self.held.domains[int(self.held.domain[self.row])])}"
        return Headline(said, f"{behind}. {self.why_kept()}", "", "v heat")

    def why_kept(self) -> str:
        """Where its score lies, and what the slice makes of that."""
        nll, held = float(self.held.nll[self.row]), self.held
        if not math.isfinite(nll):
            return "It has no score yet."
        known = held.nll[np.isfinite(held.nll)]
        below = 100 * float((known < nll).mean())
        told = f"{below:.0f} % of the pool has a lower score"
        kept = held.kept.get(self.slice_name or "")
        if kept is None:
            return f"{told}."
        inside = held.nll[kept & np.isfinite(held.nll)]
        verb = "Kept" if kept[self.row] else "Dropped"
        if len(inside):
            told += (
                f"; {self.slice_name} keeps scores from {inside.min():.2f} to {inside.max():.2f}"
            )
        return f"{verb}: {told}."

    def renew_body(self) -> None:
        self.query_one("#heat-words", Words).tell(self._heat_words())

    def _heat_words(self) -> Line:
        total = len(self.hot[0]) if self.heat and self.hot is not None else len(self.lines.spans)
        more = "" if self.lines.is_whole or self.heat else "+"
        at = self.text.scroll_offset.y
        spans: Line = [(f"line {min(at + 1, total):,} of {total:,}{more}   ", "dim")]
        if self.lines.words:
            count = len(self.lines.matches)
            here = f"match {self.match + 1} of {count:,}" if count else "no match"
            spans.append((f"'{self.lines.words[:24]}': {here}   ", "bold"))
        if not self.heat:
            return spans
        found = self.losses.get(self.row)
        if found is None:
            return [
                *spans,
                ("asking the reference, which loads in a process of its own ...", "warn"),
            ]
        if isinstance(found, str):
            return [*spans, (found, "bad")]
        names = ["<1", *(f"{step:g}+" for step in HEAT_STEPS)]
        for step, name in enumerate(names):
            spans.append((f" {name} ", f"heat{step}"))
        spans.append((" nats   ", "dim"))
        cells = max(10, self.size.width - sum(len(t) for t, _ in spans) - 2)
        return [*spans, (sparkline(found[1], cells, self.glyphs), "")]

    # --- what the tokens cost

    def ask_losses(self) -> None:
        view, row, held = self.view, self.row, self.held
        if view is None or self.asking or row in self.losses:
            return
        self.asking = True
        run, document = view.run, self.document

        def answered(found: Any) -> None:
            self.asking = False
            self.losses[row] = found
            if self.is_built and self.row == row and self.heat:
                share = self.text.scroll_offset.y / max(1, self.text.count)
                self.lay_out(None)
                self.text.scroll_to(y=round(share * self.text.count), animate=False)

        def ask() -> Any:
            try:
                return _losses(run, held, document)
            except Exception as error:  # what a file or a process can do
                return line_of(str(error)) or type(error).__name__

        self.host.later(ask, answered)

    # --- keys

    def why_not_here(self, action: str) -> str | None:
        if action == "heat" and not self.held.scored:
            return "nothing is scored yet: the reference is not done"
        if action in ("next_match", "previous_match") and not self.lines.matches:
            return "nothing is searched: / asks for words"
        if action == "peak" and not (self.heat and self.pieces() is not None):
            return "it goes from one costly token to the next: v shows what they cost"
        if action == "next_document" and self.step(self.row, 1) is None:
            return "it is the last of the list"
        if action == "previous_document" and self.step(self.row, -1) is None:
            return "it is the first of the list"
        return None

    def do_heat(self) -> None:
        share = self.text.scroll_offset.y / max(1, self.text.count)
        self.heat = not self.heat
        if self.heat:
            self.ask_losses()
        self.lay_out(None)
        self.text.scroll_to(y=round(share * self.text.count), animate=False)

    def do_peak(self) -> None:
        """The next one of the tokens that cost most, in the order of the text."""
        found = self.pieces()
        assert found is not None
        assert self.hot is not None
        losses = np.array([value if value is not None else -1.0 for value in found[1]])
        highest = np.sort(np.argsort(-losses, kind="stable")[: min(PEAKS, 1 + len(losses) // 50)])
        later = highest[highest > self.peak]
        self.peak = int(later[0]) if len(later) else int(highest[0])
        begins = self.hot[1]
        if self.peak < len(begins):
            self.text.scroll_to(
                y=max(0, begins[self.peak] - self.text.size.height // 3), animate=False
            )
            piece = line_of(found[0][self.peak])[:30]
            self.host.say(f"'{piece}' costs {losses[self.peak]:.1f} nats")

    def do_search(self) -> None:
        field = self.query_one(Input)
        field.display = True
        field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.input.display = False
        self.text.focus()
        self.heat = False
        count = self.lines.search(event.value)
        self.match = 0
        self.lay_out(self._line_of_match() if count else None)

    def typed_over(self) -> Widget:
        return self.text

    def _line_of_match(self) -> int:
        return max(0, self.lines.line_of_match(self.match) - self.text.size.height // 3)

    def do_next_match(self) -> None:
        self._to_match(1)

    def do_previous_match(self) -> None:
        self._to_match(-1)

    def _to_match(self, step: int) -> None:
        self.match = (self.match + step) % len(self.lines.matches)
        self.heat = False
        self.lay_out(self._line_of_match())

    def do_next_document(self) -> None:
        self._to_document(1)

    def do_previous_document(self) -> None:
        self._to_document(-1)

    def _to_document(self, step: int) -> None:
        row = self.step(self.row, step)
        if row is not None:
            words = self.lines.words
            self.open(row)
            self.lines.cells = 0
            if words:
                self.lines.search(words)
            if self.heat:
                self.ask_losses()
            self.lay_out(0)

    def back(self) -> bool:
        field = self.query_one(Input)
        if field.display:
            field.display = False
            self.text.focus()
        elif self.lines.words:
            self.lines.words, self.lines.matches = "", []
            self.text.refresh()
            self.renew()
        else:
            self.dismiss()
        return True

    def do_which(self) -> str:
        return f"y copies the {self.cycle('copies', COPIES)}"

    def copied(self) -> tuple[str, str] | None:
        if self.view is None:
            return None
        facts, what = self.held.facts.of(self.document), self.options["copies"]
        if what == "id":
            return facts.id, "the id"
        if what == "place":
            return f"{facts.source}:{facts.row}", "file and row"
        if what == "text":
            text, at = "", 0
            while at < self.lines.tokens:
                told, at = self.held.texts.stretch(self.document, at, 50_000)
                text += told
            return text, "the text"
        return self.view.command("explain", "--", facts.id), "the command that explains it"


def _losses(run: RunFolder, held: DocumentTable, document: int) -> Any:
    """(pieces, losses) of a document, from the reference in a process of its own; or why not."""
    command = [sys.executable, "-m", "mlxprune", "explain", str(run.path.absolute())]
    try:
        done = subprocess.run(
            [*command, "--losses", "--json", "--", f"#{document}"],
            capture_output=True, text=True, timeout=HEAT_SECONDS, stdin=subprocess.DEVNULL,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        return f"the reference did not answer: {error}"
    if done.returncode:
        return line_of(done.stderr) or "the reference did not answer"
    try:
        told = record_of(json.loads(done.stdout), TokenLosses)
    except ValueError:
        return "the reference answered what cannot be read"
    length = len(held.texts.tokens.document(document))
    pieces = held.texts.pieces(document, length)
    if len(told.nll) != length:
        pieces = [str(number) for number in told.ids]  # another tokenizer's
    return pieces, told.nll
