"""Documents: any slice of millions, in a list that asks only for the rows it shows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input

from mlxprune.units import count
from mlxprune_tui.drawing.cells import Line, pad
from mlxprune_tui.drawing.text import cut, fit, line_of, visible, width
from mlxprune_tui.readers import document_table
from mlxprune_tui.readers.document_lines import broken
from mlxprune_tui.readers.document_table import DocumentTable
from mlxprune_tui.screens.base import RunScreen
from mlxprune_tui.screens.reader import Reader
from mlxprune_tui.shell import exporting, keys
from mlxprune_tui.shell.session import Session
from mlxprune_tui.widgets.document_list import DocumentList
from mlxprune_tui.widgets.panes import Headline, Pane, Words
from mlxprune_tui.widgets.picture import Picture

PREVIEW_TOKENS = 60
READ_TOKENS = 1200
MOST_ROWS = 100_000  # of a list that is written
HEAD = "log-ppl tokens   domain     id           text"
FILTERS = "domain:code nll>4 ppl<90 tokens>100 kept dropped; other words are searched, !word not"


class Documents(RunScreen):
    NAME = "documents"
    BINDINGS: ClassVar[list[BindingType]] = keys.bindings("documents")
    FOCUS = "#list"
    DEFAULTS: ClassVar = {"sort": "score", "reverse": False, "kept": "all", "filter": ""}
    CHOICES: ClassVar = {"sort": document_table.SORTS, "kept": ("all", "kept", "dropped")}

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.reset()

    def reset(self) -> None:
        self.library: DocumentTable | None = None
        self.rows = np.zeros(0, np.int64)
        self.domain: str | None = None
        self.slice = 0
        self.told = ""
        self.trouble: str | None = None
        self.asked: Any = None
        self.query_number = 0  # counts the questions: a late answer to an older one is not wanted
        self.previews: dict[int, str] = {}

    def body(self) -> Iterator[Widget]:
        yield Input(placeholder=FILTERS, id="filter", compact=True)
        with Horizontal(id="documents-parts"):
            yield Pane(
                "", Words("list-head"), DocumentList(self.line_of_row, "list"), ident="list-pane"
            )
            yield Pane("", Picture(self.draw_text, "preview"), ident="preview-pane")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(Input).display = False

    @property
    def listed(self) -> DocumentList:
        return self.query_one("#list", DocumentList)

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
        if self.asked != wanted and not (view.run.tokens() / "tokens.json").exists():
            self.trouble = "the corpus has no tokens yet"
            return self.library is not None
        if self.asked != wanted:
            self.asked, self.trouble = wanted, None
            run = view.run

            def load() -> Any:
                try:
                    return document_table.open_document_table(run, config)
                except Exception as error:  # a file that is being replaced, or damaged
                    told = line_of(str(error))[:160] or type(error).__name__
                    return f"they cannot be read ({told}). To make them again: {view.again}"

            def loaded(found: Any) -> None:
                if self.asked != wanted:
                    return
                if isinstance(found, str):
                    self.trouble = found
                else:
                    self._loaded(found)
                self.renew()

            self.host.later(load, loaded)
        return self.library is not None

    def _loaded(self, found: DocumentTable) -> None:
        self.library = found
        self.previews.clear()
        if self.find() is not None:  # a filter that was kept from another run
            self.options["filter"], self.domain = "", None
            self.find()

    def slice_name(self) -> str | None:
        names = [*self.library.kept] if self.library else []
        return names[self.slice % len(names)] if names else None

    def find(self) -> str | None:
        """Apply filter and sort; returns what is wrong with them."""
        held = self.library
        assert held is not None
        try:
            query = document_table.parse(self.options["filter"])
            if self.options["kept"] != "all" and query.kept is None:
                query = replace(query, kept=self.options["kept"] == "kept")
            if self.domain is not None and query.domain is None:
                query = replace(query, domain=self.domain)
            mask = document_table.mask_of(held, query, self.slice_name())
        except ValueError as error:
            return str(error)
        self.query_number += 1
        rows = document_table.ordered(held, mask, self.options["sort"], self.options["reverse"])
        self.told = f"{len(rows):,} of {len(held):,} documents"
        if query.words or query.without:
            self.told = "searching ..."
            number = self.query_number

            def wanted() -> bool:
                return number == self.query_number

            def found(result: tuple[np.ndarray, str]) -> None:
                if wanted():
                    self.rows = result[0]
                    self.told = f"{len(self.rows):,} documents hold the words; {result[1]}"
                    self.listed.show(len(self.rows))
                    self.renew()

            self.host.later(lambda: document_table.search(held, rows, query, wanted), found)
            rows = rows[:0]
        self.rows = rows
        self.listed.show(len(rows))
        return None

    # --- what is shown

    def nothing(self) -> str | None:
        if (why := super().nothing()) is not None:
            return why
        if not self.ready():
            return f"Documents: {self.trouble or 'reading the scores ...'}."
        return None

    def headline(self) -> Headline:
        held = self.library
        assert held is not None
        name = line_of(self.slice_name() or "")
        said = self.told
        if self.options["kept"] != "all":
            said += f", {self.options['kept']} by {name}"
        if self.domain is not None:
            said += f", of {line_of(self.domain)}"
        if self.options["filter"]:
            said += f", filter {line_of(self.options['filter'])}"
        sort = {"score": "by score", "tokens": "by length", "corpus": "as in the corpus"}
        behind = sort[self.options["sort"]]
        if self.options["sort"] == "score" and not held.scored:
            behind = "not scored yet"
        behind += ", largest first" if self.options["reverse"] else ""
        if held.kept and self.options["kept"] == "all":
            behind += f"; K kept, D dropped by {name}"
        return Headline(f"{said}.", f"{behind[:1].upper()}{behind[1:]}.", "", "enter reads")

    def renew_body(self) -> None:
        at, total = self.listed.cursor + 1, len(self.rows)
        share = f", {100 * (at - 1) / max(1, total - 1):.0f} %" if total > 1 else ""
        self.query_one("#list-pane", Pane).entitle(f"{at if total else 0:,} of {total:,}{share}")
        self.query_one("#list-head", Words).tell([(HEAD, "head")])
        self.query_one("#preview-pane", Pane).entitle(self._title())
        self.pictures("preview")
        self.listed.refresh()

    def line_of_row(self, place: int, cells: int, here: bool) -> Line:
        held = self.library
        if held is None or place >= len(self.rows):
            return []
        row = int(self.rows[place])
        kept = held.kept.get(self.slice_name() or "")
        inside = " " if kept is None else ("K" if kept[row] else "D")
        nll = held.nll[row]
        score = f"{nll:7.3f}" if math.isfinite(nll) else "      -"
        domain = fit(line_of(held.domains[int(held.domain[row])]), 10)
        document = int(held.numbers[row])
        name = fit(line_of(held.facts.of(document).id), 12) if document >= 0 else " " * 12
        head = f"{score} {count(held.tokens[row]):>6} {inside} {domain} {name} "
        text = cut(self._preview(row), max(0, cells - width(head)))
        style = "select" if here else ("kept" if inside == "K" else "")
        return pad([(head, style), (text, style if here else "")], cells)

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
        at = self.listed.cursor
        return int(self.rows[at]) if at < len(self.rows) else None

    def _title(self) -> str:
        row, held = self.chosen_row(), self.library
        if row is None or held is None or held.numbers[row] < 0:
            return "text"
        facts = held.facts.of(int(held.numbers[row]))
        return f"{line_of(facts.id)[:30]}, {line_of(facts.source)}, row {facts.row}"

    def draw_text(self, cells: int, rows: int) -> list[Line]:
        row, held = self.chosen_row(), self.library
        if row is None or held is None:
            told = "no document is left by this filter: esc clears it" if held is not None else ""
            return [[(told, "dim")]]
        if held.numbers[row] < 0:
            return [[("it is not in the corpus of this run", "dim")]]
        document = int(held.numbers[row])
        told = held.texts.text(document, 0, READ_TOKENS)
        text = visible(told[: cells * rows * 4]).replace("\t", "    ")
        spans = broken(text, cells)[:rows]
        lines: list[Line] = [[(text[a:b], "")] for a, b in spans]
        left = int(held.tokens[row]) - READ_TOKENS
        if left > 0 and len(lines) < rows:
            lines.append([(f"({left:,} more tokens: enter reads all)", "dim")])
        return lines

    # --- keys

    def on_document_list_moved(self, event: DocumentList.Moved) -> None:
        if self.library is not None:
            self.renew()

    def on_document_list_opened(self, event: DocumentList.Opened) -> None:
        if self.why_not_here("read") is None:
            self.do_read()

    def why_not_here(self, action: str) -> str | None:
        if self.library is None:
            return self.trouble or "the documents are not read yet"
        if action in ("kept", "slice") and not self.library.kept:
            return "nothing is selected yet"
        if action == "slice" and len(self.library.kept) < 2:
            return "the run has one slice"
        if action == "read":
            row = self.chosen_row()
            if row is None or self.library.numbers[row] < 0:
                return "there is no document to read"
        return None

    def do_read(self) -> None:
        row, held = self.chosen_row(), self.library
        assert row is not None
        assert held is not None

        def step(now: int, way: int) -> int | None:
            places = np.flatnonzero(self.rows == now)
            at = int(places[0]) + way if len(places) else -1
            return int(self.rows[at]) if 0 <= at < len(self.rows) else None

        self.app.push_screen(Reader(self.session, held, row, self.slice_name(), step))

    def do_filter(self) -> None:
        field = self.query_one(Input)
        field.value = self.options["filter"]
        field.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Figures filter as they are typed; words are searched when the line is done."""
        if not event.input.has_focus:
            return
        try:
            query = document_table.parse(event.value)
        except ValueError:
            return
        if not query.words and not query.without:
            self._take_filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        wrong = self._take_filter(event.value)
        if wrong is not None:
            self.host.say(wrong, True)
            return
        event.input.display = False
        self.listed.focus()

    def _take_filter(self, given: str) -> str | None:
        before = self.options["filter"]
        self.options["filter"] = given.strip()
        wrong = self.find()
        if wrong is not None:
            self.options["filter"] = before
        self.renew()
        return wrong

    def typed_over(self) -> Widget:
        return self.listed

    def back(self) -> bool:
        """Escape clears the filter before it leaves."""
        field = self.query_one(Input)
        if field.display:
            field.display = False
            self.listed.focus()
            return True
        if not self.options["filter"] and self.domain is None:
            return False
        self.options["filter"], self.domain = "", None
        if self.library is not None:
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

    def do_jump(self) -> None:
        def take(given: str) -> str | None:
            try:
                share = float(given.strip().rstrip("%")) / 100
            except ValueError:
                return f"{given!r} is no percentile"
            if not 0 <= share <= 1:
                return "a percentile is from 0 to 100"
            self.listed.cursor = round(share * max(0, len(self.rows) - 1))
            return None

        self.host.ask("Go to percentile of this list", "50", "0 is the first, 100 the last", take)

    def do_export(self) -> str | None:
        """The list as it is filtered and sorted, as a table; the text of one is exported from the
        reader, all of it by ``mlxprune export``."""
        held, view = self.library, self.view
        if held is None or view is None or not len(self.rows):
            return "there is nothing to write yet"
        rows = self.rows[:MOST_ROWS]

        def write(given: str) -> str:
            path = Path(given).expanduser()
            suffix = path.suffix or ".csv"
            if suffix not in exporting.TABLE_SUFFIXES:
                return f"a list is written as {', '.join(exporting.TABLE_SUFFIXES)}"

            def work() -> str:
                text = exporting.table_text(listed(held, rows, self.slice_name()), suffix)
                return exporting.save(path.with_suffix(suffix), text)

            self.host.later(work, self.host.say)
            return f"writing {len(rows):,} rows ..."

        self.host.ask(
            "Write this list to", f"{view.name}-documents.csv",
            f"as {', '.join(exporting.TABLE_SUFFIXES)}; at most {MOST_ROWS:,} rows, without text",
            write,
        )  # fmt: skip
        return None

    def copied(self) -> tuple[str, str] | None:
        row, held, view = self.chosen_row(), self.library, self.view
        if row is None or held is None or view is None or held.numbers[row] < 0:
            return None
        facts = held.facts.of(int(held.numbers[row]))
        command = view.command("explain", "--", facts.id)
        return command, "the command that explains it"


def listed(held: DocumentTable, rows: np.ndarray, slice_name: str | None) -> list[list[str]]:
    """Rows of the list with where each document stands, the names of the columns first."""
    kept = held.kept.get(slice_name or "")
    table = [["id", "log_perplexity", "tokens", "kept", "domain", "source", "row"]]
    for row in rows.tolist():
        document = int(held.numbers[row])
        facts = held.facts.of(document) if document >= 0 else None
        nll = float(held.nll[row])
        table.append(
            [
                facts.id if facts else "", f"{nll:.6f}" if math.isfinite(nll) else "",
                str(int(held.tokens[row])), "" if kept is None else str(bool(kept[row])).lower(),
                held.domains[int(held.domain[row])], facts.source if facts else "",
                str(facts.row) if facts else "",
            ]
        )  # fmt: skip
    return table
