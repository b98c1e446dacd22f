"""Scoring: log-perplexity as it grows, the band that would be kept, the domains, the pace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from mlxprune.run import forecast
from mlxprune.run.event_kinds import StageStatus
from mlxprune.units import count, short_duration
from mlxprune_tui.drawing import histogram
from mlxprune_tui.drawing.cells import Line, sparkline
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.readers.live_histogram import ScoredDomain, domain_counts
from mlxprune_tui.screens import pictures
from mlxprune_tui.screens.base import RunScreen
from mlxprune_tui.screens.headlines import edge_words
from mlxprune_tui.shell import keys
from mlxprune_tui.shell.session import Session
from mlxprune_tui.widgets.panes import Headline, Pane, ScrolledWords, Words
from mlxprune_tui.widgets.picture import Picture
from mlxprune_tui.widgets.table import Column, Table, TableRow

WEIGHTS = ("documents", "tokens", "bytes")
SORTS = ("documents", "mean", "kept", "domain")
FIRST_HOUR = 3600.0
MINI = 12  # columns of a domain's own histogram


NOTHING = "Nothing is scored yet: the histogram grows here."
REFERENCE = (
    "\n\n  The reference is at {:.3f} bits per byte of held-out text by now. The axis will be the"
    "\n  mean negative log-likelihood of each document, in nats a token."
)


class Scoring(RunScreen):
    NAME = "scoring"
    BINDINGS: ClassVar[list[BindingType]] = keys.bindings("scoring")
    FOCUS = "#bars"
    DEFAULTS: ClassVar = {"weight": "documents", "log": False, "sort": "documents", "whole": False}
    CHOICES: ClassVar = {"weight": WEIGHTS, "sort": SORTS}

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.looked: float | None = None  # a value that the mouse is on

    def body(self) -> Iterator[Widget]:
        with Horizontal(id="scoring-parts"):
            with Vertical(id="scoring-left"):
                yield Pane(
                    "",
                    Picture(self.draw_bars, "bars", chart=True, focusable=True),
                    Words("under-bars"),
                    ident="bars-pane",
                )
            with Vertical(id="scoring-right"):
                yield Pane("Domains", Table("domains"), ident="domains-pane")
                yield Pane("Pace", ScrolledWords("pace"), ident="pace-pane")

    def nothing(self) -> str | None:
        view = self.view
        if (why := super().nothing()) is not None or view is None:
            return why
        found = view.state.histogram
        if found is None or pictures.histogram_range(self.session, False) is None:
            state = view.state.stages["score"].state
            told = {
                "running": "The workers load the model; the first documents draw the first bars.",
                "reused": "The scores were there before; this log holds no histogram of them.",
            }
            bits, said = self._reference(), told.get(state, NOTHING)
            return said if bits is None else said + REFERENCE.format(bits)
        return None

    def _reference(self) -> float | None:
        view = self.view
        assert view is not None
        for name, curve in view.state.curves.items():
            if name.startswith("references/"):
                last = curve.validation.last("bits_per_byte")
                return float(last) if last is not None else None
        return None

    def headline(self) -> Headline:
        view, shown = self.view, self.session.slice
        assert view is not None
        assert shown is not None
        stage = view.state.stages["score"]
        done, total = stage.done or 0, stage.total or 0
        running = stage.state == StageStatus.RUNNING and view.live
        said = f"Scoring {100 * done / total:.0f} %" if running and total else "All is scored"
        left = forecast.left(stage)
        if running and left is not None:
            said += f", {short_duration(left)} left"
        edge = edge_words(self.session)
        said += f". {edge}" if edge else "."
        found = view.state.histogram
        documents = sum((found.documents if found else None) or [])
        whole = shown.documents()
        behind = f"{documents:,} documents are scored"
        if running and whole:
            behind = f"A random sample of {documents:,} of about {whole:,.0f} documents"
            hand = int(pictures.in_hand_of(found).sum()) if found is not None else 0
            behind += f"; {hand:,} in hand" if hand else ""
        return Headline(said, f"{behind}.", "", "3 what if")

    def renew_body(self) -> None:
        view = self.view
        assert view is not None
        found = view.state.histogram
        assert found is not None
        documents = sum(found.documents or [])
        by = "" if self.options["weight"] == "documents" else f", by {self.options['weight']}"
        logged = ", log heights" if self.options["log"] else ""
        self.query_one("#bars-pane", Pane).entitle(
            f"Log-perplexity of {documents:,} documents, nats a token{by}{logged}"
        )
        self.pictures("bars")
        self.query_one("#under-bars", Words).tell(self._legend())
        self._domains()
        self.query_one("#pace", ScrolledWords).tell_facts(self.pace())

    def draw_bars(self, cells: int, rows: int) -> list[Line]:
        return pictures.histogram_lines(self.session, self.options, cells, rows)

    def _legend(self) -> Line:
        glyphs, view = self.glyphs, self.view
        assert view is not None
        found = view.state.histogram
        assert found is not None
        if self.looked is not None:
            return self._reading(self.looked)
        spans: Line = [(glyphs.kept, "kept"), (" kept  ", "dim"), (glyphs.dropped, "dropped"),
                       (" dropped  ", "dim")]  # fmt: skip
        if sum(found.in_hand or []):
            spans += [
                (glyphs.provisional, "provisional"),
                (" in hand, not yet a fair sample  ", "dim"),
            ]
        before = self.session.ghost.scaled(found)
        if before is not None and view.state.stages["score"].state == "running":
            spans += [(glyphs.ghost, "ghost"), (f" {short_duration(before[0])} ago", "dim")]
        return spans

    def _reading(self, value: float) -> Line:
        """What lies under the mouse: how many documents are below."""
        found = self.view.state.histogram if self.view is not None else None
        assert found is not None
        counts, edges = np.array(found.documents, np.float64), np.array(found.edges)
        sums = np.concatenate([[0.0], np.cumsum(counts)])
        below = float(np.interp(value, edges, sums)) / max(1.0, sums[-1])
        perplexity = np.exp(min(value, 50))
        told = f"{value:.2f} nats, perplexity {perplexity:.4g}: {100 * below:.1f} % lie below"
        return [(told, "bold")]

    def _domains(self) -> None:
        view, shown = self.view, self.session.slice
        assert view is not None
        assert shown is not None
        found = view.state.histogram
        assert found is not None
        rows, sure = shown.rows()
        whole = shown.whole(rows)
        key = self.options["sort"]
        rows.sort(key=lambda r: r.domain if key == "domain" else -(getattr(r, key) or 0))
        label = shown.choice.label if shown.choice is not None else ""
        self.query_one("#domains-pane", Pane).entitle(f"Domains, by {key}; kept by {label}")
        columns = (
            Column("domain", most=16), Column("", told="histogram"),
            Column("kept" if sure else "about", True),
            *(() if sure else (Column("±", True),)),
            Column("mean", True), Column("docs", True),
        )  # fmt: skip
        made = []
        for row in rows:
            mark = f" {self.glyphs.up_mark}" if row.is_lost(whole) else ""
            style = "warn" if mark else ""
            kept = f"{100 * row.kept:.0f} %" if row.kept is not None else "-"
            settled = f"{100 * row.settled:.0f}" if row.settled is not None else ""
            made.append(
                TableRow(
                    row.domain,
                    (
                        ((line_of(row.domain)[:16], style), (mark, "bad")),
                        tuple(self._mini(row)), (kept, style),
                        *(() if sure else ((settled, "dim"),)),
                        (_two(row.mean), ""), (count(row.documents), ""),
                    ),
                )
            )  # fmt: skip
        self.query_one("#domains", Table).show(columns, made)

    def _mini(self, row: ScoredDomain) -> Line:
        """A domain's own histogram in some cells, the kept part in its colour."""
        span = pictures.histogram_range(self.session, False)
        found, shown = self.view.state.histogram if self.view else None, self.session.slice
        if span is None or found is None or shown is None:
            return [("", "")]
        low, high = span
        edges = np.array(found.edges, np.float64)
        counts = histogram.rebinned(domain_counts(found, row.domain), edges, low, high, MINI)
        band = shown.band()
        kept = np.zeros(MINI) if band is None else pictures.columns_inside(band, low, high, MINI)
        return histogram.mini_histogram(counts, kept, self.glyphs)

    def pace(self) -> list[tuple[str, str, str]]:
        view = self.view
        assert view is not None
        stage = view.state.stages["score"]
        points = zip(stage.rates["t"], stage.rates["rate"], strict=True)
        rates = [(t, r or 0.0) for t, r in points if t is not None]
        facts = []
        if stage.rate:
            now = f"{count(stage.rate)} {stage.unit or 'tokens'}/s over 20 s"
            hour = against_first_hour(rates)
            facts.append(("rate", f"{now}{', ' + hour if hour else ''}", ""))
            cells = max(8, (self.query_one("#pace", ScrolledWords).size.width or 40) - 10)
            facts.append(("", sparkline([r for _, r in rates], cells, self.glyphs), "dim"))
        if (ranks := self._ranks()) is not None:
            facts.append(("ranks", ranks, ""))
        for name, value, what in (
            ("padding", stage.padding_share, "of token slots are empty"),
            ("waiting", stage.input_wait_share, "of the time for input"),
            ("use", stage.utilisation, "of this machine's fastest products"),
        ):
            if value is not None and value <= 1:
                facts.append((name, f"{100 * value:.0f} % {what}", "dim"))
        return facts

    def _ranks(self) -> str | None:
        view = self.view
        assert view is not None
        told = []
        for name, curve in view.state.curves.items():
            known = [r for r in curve.validation["rank_correlation"] if r is not None]
            if name.startswith("references/") and known:
                told.append(f"{known[-1]:.3f} of {line_of(name.partition('/')[2])}")
        return f"{', '.join(told)}, against the validation before" if told else None

    # --- mouse and keys

    def on_picture_hovered(self, event: Picture.Hovered) -> None:
        span = pictures.histogram_range(self.session, self.options["whole"])
        self.looked = None
        if span is not None and event.x >= 0:
            self.looked = histogram.value_at(event.x, *span, event.picture.content_size.width)
        if self.nothing() is None:
            self.query_one("#under-bars", Words).tell(self._legend())

    def on_picture_clicked(self, event: Picture.Clicked) -> None:
        self.host.go("selection")

    def on_picture_wheeled(self, event: Picture.Wheeled) -> None:
        self.options["whole"] = not event.up
        self.renew()

    def do_what_if(self) -> None:
        self.host.go("selection")

    def do_weight(self) -> str | None:
        weight = self.cycle("weight", WEIGHTS)
        found = self.view.state.histogram if self.view else None
        return None if not found or getattr(found, weight) else f"this log does not tell {weight}"

    def do_log(self) -> None:
        self.options["log"] = not self.options["log"]

    def do_sort(self) -> None:
        self.cycle("sort", SORTS)

    def do_fit(self) -> None:
        self.options["whole"] = not self.options["whole"]

    def copied(self) -> tuple[str, str] | None:
        if self.view is None:
            return None
        return self.view.command("status", "--json"), "the command that tells these figures"


def against_first_hour(rates: list[tuple[float, float]]) -> str | None:
    """The newest tenth of the rates over those of the first hour; None before there is more."""
    if len(rates) < 10 or rates[-1][0] - rates[0][0] <= FIRST_HOUR:
        return None
    began = rates[0][0]
    first = [r for t, r in rates if t - began <= FIRST_HOUR]
    last = [r for _, r in rates[-max(3, len(rates) // 10) :]]
    share = (sum(last) / len(last)) / (sum(first) / len(first)) if sum(first) else 1.0
    return f"{share:.2f} of hour 1"


def _two(value: float | None) -> str:
    return f"{value:.2f}" if value is not None and value == value else "-"
