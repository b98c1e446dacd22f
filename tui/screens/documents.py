"""Documents: any slice of millions, to read: a list that asks only for the rows it shows."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np

from mlxprune.experiment.document_explanation import TokenLosses
from mlxprune.records import record_of
from mlxprune.run.folder import RunFolder
from mlxprune.units import count
from mlxprune_tui.drawing.cells import Line, pad, sparkline
from mlxprune_tui.drawing.text import cut, fit, line_of, made_visible, width, wrap
from mlxprune_tui.readers import document_table
from mlxprune_tui.readers.document_table import DocumentTable
from mlxprune_tui.screens.page import TALL, WIDE, Answer, Ask, Layout, Page, Pane, Split, empty

PREVIEW_TOKENS = 60
READ_TOKENS = 1200
HEAT_TOKENS = 600
HEAT_STEPS = (1.0, 2.5, 4.5, 7.0, 10.0)  # nats a token from which the next shade begins
HEAT_SECONDS = 120
FILTERS = "domain:code nll>4 ppl<90 tokens>100 kept dropped; other words are searched, !word not"


class Documents(Page):
    name = "documents"
    defaults = {"sort": "score", "reverse": False, "kept": "all", "filter": ""}  # noqa: RUF012
    choices = {"sort": document_table.SORTS, "kept": ("all", "kept", "dropped")}  # noqa: RUF012

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.library: DocumentTable | None = None
        self.rows = np.zeros(0, np.int64)
        self.at = self.top = self.scrolled = 0
        self.page_rows = 10
        self.domain: str | None = None
        self.slice = 0
        self.told = ""
        self.trouble: str | None = None
        self.loading: Any = None
        self.losses: dict[int, Any] = {}  # by row: losses, or why there are none
        self.asking: int | None = None  # the row whose losses are under way
        self.query = 0  # counts the questions: a late answer to an older one is not wanted
        self.heat = False
        self.previews: dict[int, str] = {}

    # --- what it rests on

    def ready(self) -> bool:
        found = self.in_hand()
        if isinstance(found, str):
            self.trouble = found
            return False
        view, config = found
        states = view.state.stages
        wanted = (str(view.run.path), *(states[s].state for s in ("tokens", "score",
                                                                     "selection")))  # fmt: skip
        if self.loading != wanted and not (view.run.tokens() / "tokens.json").exists():
            self.trouble = "the corpus has no tokens yet"
            return self.library is not None
        if self.loading != wanted:
            self.loading, self.trouble = wanted, None
            run = view.run

            def load() -> Any:
                try:
                    return document_table.open_document_table(run, config)
                except Exception as error:  # a file that is being replaced, or older
                    return str(error) or type(error).__name__

            self.context.later(load, self._loaded)
        return self.library is not None

    def _loaded(self, found: Any) -> None:
        if isinstance(found, str):
            self.trouble = found
            return
        self.library = found
        self.previews.clear()
        self.losses.clear()
        if self.find() is not None:  # one that was kept from another run
            self.options["filter"], self.domain = "", None
            self.find()

    def slice_name(self) -> str | None:
        names = list(self.library.kept) if self.library else []
        return names[self.slice % len(names)] if names else None

    def find(self) -> str | None:
        """Apply filter and sort; returns what is wrong with them."""
        held = self.library
        assert held is not None
        try:
            query = document_table.parse(self.options["filter"])
            if self.options["kept"] != "all" and query.kept is None:
                query = document_table.Query(
                    **{**query.__dict__, "kept": self.options["kept"] == "kept"}
                )
            if self.domain is not None and query.domain is None:
                query = document_table.Query(**{**query.__dict__, "domain": self.domain})
            mask = document_table.mask_of(held, query, self.slice_name())
        except ValueError as error:
            return str(error)
        self.query += 1
        rows = document_table.ordered(held, mask, self.options["sort"], self.options["reverse"])
        self.told = f"{len(rows):,} of {len(held):,}"
        self.at = self.top = self.scrolled = 0
        self.rows = rows
        if query.words or query.without:
            self.told, self.rows = "searching ...", rows[:0]
            number = self.query

            def wanted() -> bool:
                return number == self.query

            def found(result: tuple[np.ndarray, str]) -> None:
                if wanted():
                    self.rows = result[0]
                    self.told = f"{len(self.rows):,} hold the words; {result[1]}"

            self.context.later(lambda: document_table.search(held, rows, query, wanted), found)
        return None

    # --- panes

    def layout(self, cells: int, rows: int) -> Layout:
        if not self.ready():
            told = self.trouble or "reading the scores ..."
            return empty(f"Documents: {line_of(told)}.")
        listed = Pane(self._title(), self.draw_list)
        text = Pane(self._text_title(), self._text)
        if cells >= WIDE:
            return Split(True, [(0.55, listed), (0.45, text)])
        share = 0.5 if rows < TALL else 0.45
        return Split(False, [(share, listed), (1 - share, text)])

    def _title(self) -> str:
        sort = self.options["sort"]
        scored = self.library is not None and self.library.scored
        words = [self.told, f"by {sort}" if scored or sort != "score" else "not scored yet"]
        if self.options["reverse"]:
            words[-1] += ", turned"
        name = line_of(self.slice_name() or "(no slice yet)")
        if self.options["kept"] != "all":
            words.append(f"{self.options['kept']} by {name}")
        elif self.library is not None and self.library.kept:
            words.append(f"Kept, Dropped by {name}")
        if self.domain is not None:
            words.append(f"domain {line_of(self.domain)}")
        if self.options["filter"]:
            words.append(f"filter {line_of(self.options['filter'])}")
        return "; ".join(words)

    def draw_list(self, cells: int, rows: int) -> list[Line]:
        held = self.library
        assert held is not None
        self.page_rows = max(1, rows - 1)
        self.at = min(max(0, self.at), max(0, len(self.rows) - 1))
        self.top = min(max(self.top, self.at - self.page_rows + 1), self.at)
        if not len(self.rows):
            return [[("no document is left by this filter: esc clears it", "dim")]]
        lines: list[Line] = [[("  log ppl tokens K domain     text", "head")]]
        kept = held.kept.get(self.slice_name() or "")
        for place in range(self.top, min(self.top + self.page_rows, len(self.rows))):
            row = int(self.rows[place])
            chosen = place == self.at
            mark = self.context.glyphs.arrow if chosen else " "
            inside = " " if kept is None else ("K" if kept[row] else "D")
            nll = held.nll[row]
            score = f"{nll:7.3f}" if math.isfinite(nll) else "      -"
            domain = fit(line_of(held.domains[int(held.domain[row])]), 10)
            head = f"{mark} {score} {count(held.tokens[row]):>6} {inside} {domain} "
            text = cut(self._preview(row), max(0, cells - width(head)))
            style = "select" if chosen else ("kept" if inside == "K" else "")
            lines.append(pad([(head, style), (text, style if chosen else "")], cells))
        return lines

    def _preview(self, row: int) -> str:
        assert self.library is not None
        if row not in self.previews:
            if len(self.previews) > 2000:
                self.previews.clear()
            document = int(self.library.numbers[row])
            text = "(not in the corpus)"
            if document >= 0:
                text = line_of(self.library.texts.text(document, 0, PREVIEW_TOKENS))
            self.previews[row] = text
        return self.previews[row]

    def chosen_row(self) -> int | None:
        return int(self.rows[self.at]) if self.at < len(self.rows) else None

    def _text_title(self) -> str:
        row, held = self.chosen_row(), self.library
        if row is None or held is None or held.numbers[row] < 0:
            return "text"
        facts = held.facts.of(int(held.numbers[row]))
        nll = held.nll[row]
        score = f", {nll:.3f} nats, perplexity {math.exp(min(nll, 700)):.4g}" if nll == nll else ""
        name = line_of(facts.id)[:40]
        return f"{name} ({line_of(facts.source)}, row {facts.row}){score}"

    def _text(self, cells: int, rows: int) -> list[Line]:
        row, held = self.chosen_row(), self.library
        if row is None or held is None or held.numbers[row] < 0:
            return []
        if self.heat:
            return self._warm(row, cells, rows)
        document = int(held.numbers[row])
        text = held.texts.text(document, 0, READ_TOKENS)
        lines = wrap(text, cells, self.scrolled + rows)
        self.scrolled = min(self.scrolled, max(0, len(lines) - 1))
        shown: list[Line] = [[(line, "")] for line in lines[self.scrolled : self.scrolled + rows]]
        left = int(held.tokens[row]) - READ_TOKENS
        if left > 0 and len(shown) < rows:
            shown.append([(f"({left:,} more tokens)", "dim")])
        return shown

    def _warm(self, row: int, cells: int, rows: int) -> list[Line]:
        """The text with every token shaded by its loss, and the losses as a line."""
        assert self.library is not None
        found = self.losses.get(row)
        if found is None:
            self.ask_losses(row)
            told = "asking the reference, which loads in a process of its own; h shows the text"
            return [[(line, "dim")] for line in wrap(told, cells, rows)]
        if isinstance(found, str):
            return [[(line, "warn")] for line in wrap(found, cells, rows)]
        pieces, losses = found
        known = [v for v in losses if v is not None]
        worst = max(range(len(losses)), key=lambda i: losses[i] or 0.0) if known else 0
        at = line_of(pieces[worst]) if worst < len(pieces) else ""
        lines: list[Line] = [
            [(f"largest {losses[worst] or 0:.1f} nats at '{at[:20]}'; underlined from 7", "dim")],
            [(sparkline(losses, cells, self.context.glyphs), "")],
        ]  # fmt: skip
        return lines + shaded(pieces, losses, cells)[self.scrolled : self.scrolled + rows - 2]

    def ask_losses(self, row: int) -> None:
        """One at a time: each loads the reference."""
        view, held = self.context.view, self.library
        assert view is not None
        assert held is not None
        if self.asking is not None:
            return
        self.asking = row
        document, run = int(held.numbers[row]), view.run

        def answered(found: Any) -> None:
            self.asking = None
            if self.library is held:
                self.losses[row] = found

        def ask() -> Any:
            try:
                return _losses(run, held, document)
            except Exception as error:  # what a file or a process can do
                return str(error) or type(error).__name__

        self.context.later(ask, answered)

    # --- keys

    def why_not(self, action: str) -> str | None:
        if self.library is None:
            return self.trouble or "the documents are not read yet"
        if action in ("kept", "slice") and not self.library.kept:
            return "nothing is selected yet"
        if action == "slice" and len(self.library.kept) < 2:
            return "the run has one slice"
        if action == "heat":
            view = self.context.view
            config = view.config if view else None
            if view is None or config is None:
                return "no run is open"
            if not self.library.scored:
                return "nothing is scored yet: the reference is not done"
        return None

    def do_down(self) -> None:
        self._move(1)

    def do_up(self) -> None:
        self._move(-1)

    def do_page_down(self) -> None:
        self._move(self.page_rows)

    def do_page_up(self) -> None:
        self._move(-self.page_rows)

    def do_first(self) -> None:
        self._move(-len(self.rows))

    def do_last(self) -> None:
        self._move(len(self.rows))

    def _move(self, step: int) -> None:
        self.at = min(max(0, self.at + step), max(0, len(self.rows) - 1))
        self.scrolled = 0

    def do_text_down(self) -> None:
        self.scrolled += 5

    def do_text_up(self) -> None:
        self.scrolled = max(0, self.scrolled - 5)

    def do_filter(self) -> Answer:
        def take(given: str) -> Answer:
            before = self.options["filter"]
            self.options["filter"] = given.strip()
            wrong = self.find()
            if wrong is None:
                return None
            self.options["filter"] = before
            return Ask("Filter", given, take, wrong)

        return Ask("Filter", self.options["filter"], take, FILTERS)

    def back(self) -> bool:
        """Escape clears the filter before it leaves."""
        if not self.options["filter"] and self.domain is None:
            return False
        self.options["filter"], self.domain = "", None
        self.find()
        return True

    def do_kept(self) -> str | None:
        self.cycle("kept", ["all", "kept", "dropped"])
        return self.find()

    def do_domain(self) -> str | None:
        assert self.library is not None
        names: list[str | None] = [None, *self.library.domains]
        self.domain = names[(names.index(self.domain) + 1) % len(names)]
        return self.find()

    def do_sort(self) -> str | None:
        self.cycle("sort", ["score", "tokens", "corpus"])
        return self.find()

    def do_reverse(self) -> str | None:
        self.options["reverse"] = not self.options["reverse"]
        return self.find()

    def do_slice(self) -> str | None:
        self.slice += 1
        if self.options["kept"] != "all" or "kept" in self.options["filter"]:
            self.find()
        return f"kept and dropped by {self.slice_name()}"

    def do_jump(self) -> Answer:
        def take(given: str) -> str | None:
            try:
                share = float(given.strip().rstrip("%")) / 100
            except ValueError:
                return f"{given!r} is no percentile"
            if not 0 <= share <= 1:
                return "a percentile is from 0 to 100"
            self.at = round(share * max(0, len(self.rows) - 1))
            self.top = max(0, self.at - self.page_rows // 2)
            return None

        return Ask("Go to percentile of this list", "50", take, "0 is the first, 100 the last")

    def do_heat(self) -> None:
        self.heat = not self.heat
        self.scrolled = 0

    def clicked(self, pane: str, x: int, y: int) -> None:
        if pane == self._title() and y >= 1:
            self.at = min(self.top + y - 1, max(0, len(self.rows) - 1))
            self.scrolled = 0

    def copied(self) -> str | None:
        row, held = self.chosen_row(), self.library
        if row is None or held is None or held.numbers[row] < 0:
            return None
        return held.facts.of(int(held.numbers[row])).id


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
    pieces = held.texts.pieces(document, HEAT_TOKENS)
    if len(told.nll) != len(held.texts.tokens.document(document)):
        pieces = [str(number) for number in told.ids[:HEAT_TOKENS]]  # another tokenizer's
    return pieces, told.nll[:HEAT_TOKENS]


def shaded(pieces: list[str], losses: list[float | None], cells: int) -> list[Line]:
    """Lines of text in which the style of a token is its loss; the largest are underlined, too."""
    lines: list[Line] = [[]]
    used = marks = 0
    for piece, loss in zip(pieces, losses, strict=False):
        step = sum((loss or 0.0) >= limit for limit in HEAT_STEPS)
        style = f"heat{step}" if loss is not None else "dim"
        text, marks = made_visible(piece, marks)
        text = text.replace("\t", "  ")
        for number, part in enumerate(text.split("\n")):
            if number:
                lines.append([])
                used = 0
            while part:
                head = cut(part, cells - used)
                if not head:
                    lines.append([])
                    used = 0
                    head = cut(part, cells) or part[:1]
                lines[-1].append((head, style))
                used += width(head)
                part = part[len(head) :]
    return lines
