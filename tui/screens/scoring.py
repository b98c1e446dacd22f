"""Scoring: log-perplexity as it grows, the band that would be kept, the domains."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlxprune.config.slices import Slice
from mlxprune.records import read_record
from mlxprune.run import forecast
from mlxprune.run.event_kinds import Histogram, StageStatus
from mlxprune.selection.manifest import SliceManifest
from mlxprune.selection.ranking import rank_band
from mlxprune.units import clock, count
from mlxprune_tui.drawing import histogram
from mlxprune_tui.drawing.cells import Line, pad, sparkline, table
from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.screens.page import SHORT, TALL, WIDE, Layout, Page, Pane, Split, empty, say

WEIGHTS = ("documents", "tokens", "bytes")
SORTS = ("documents", "mean", "kept", "domain")
FIRST_HOUR = 3600.0
LOST = 0.1  # a domain that keeps less of its documents than this is marked


@dataclass(frozen=True)
class Band:
    """What a slice keeps, in nats; ``sure`` once the selection is made."""

    low: float
    high: float
    sure: bool


def band_of(choice: Slice, found: Histogram) -> Band | None:
    """The band of a slice by what is scored so far; None where one interval cannot show it."""
    if choice.metric != "perplexity" or choice.criterion == "soft" or choice.by != "corpus":
        return None
    if choice.absolute and choice.rate is None and choice.band is None:
        return None  # its share is known once all is scored
    weights = (found.tokens if choice.unit == "tokens" else found.documents) or []
    edges = np.array(found.edges, np.float64)
    total = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
    if total[-1] <= 0:
        return None
    low, high = (float(b) for b in rank_band(choice))
    return Band(_at(edges, total, low, False), _at(edges, total, high, True), False)


def _at(edges: np.ndarray, total: np.ndarray, share: float, upper: bool) -> float:
    if share <= 0:
        return float(edges[0])
    if share >= 1:
        return float(edges[-1])
    wanted = share * total[-1]
    at = int(np.searchsorted(total, wanted, side="left" if upper else "right"))
    at = min(max(at, 1), len(edges) - 1)
    inside = (wanted - total[at - 1]) / max(total[at] - total[at - 1], 1e-12)
    return float(edges[at - 1] + min(1.0, max(0.0, inside)) * (edges[at] - edges[at - 1]))


def inside(counts: np.ndarray, edges: np.ndarray, band: Band) -> float:
    """The share of counts in a band, spread evenly inside their bins."""
    total = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    if total[-1] <= 0:
        return 0.0
    low, high = np.interp([band.low, band.high], edges, total)
    return float((high - low) / total[-1])


@dataclass(frozen=True)
class ScoredDomain:
    """``mean`` and ``median`` in nats, ``kept`` the share of its documents; None: not known."""

    domain: str
    documents: int
    mean: float | None
    median: float | None
    kept: float | None


def domain_rows(found: Histogram, band: Band | None) -> list[ScoredDomain]:
    """Documents, mean, median and kept share of every domain scored so far."""
    edges = np.array(found.edges, np.float64)
    rows = []
    for name, told in (found.domains or {}).items():
        counts = np.zeros(len(edges) - 1)
        counts[told.first : told.first + len(told.counts)] = told.counts
        total = np.concatenate([[0.0], np.cumsum(counts)])
        mean = told.nll / told.tokens if told.tokens else float("nan")
        kept = inside(counts, edges, band) if band else None
        rows.append(ScoredDomain(name, int(total[-1]), mean, _at(edges, total, 0.5, True), kept))
    return rows


def exact_rows(manifest: SliceManifest) -> list[ScoredDomain]:
    """The same from a selection that is made."""
    return [
        ScoredDomain(
            domain=row.domain,
            documents=row.documents,
            mean=None,
            median=row.quantiles[1] if row.quantiles else None,
            kept=row.kept_documents / row.documents if row.documents else None,
        )
        for row in manifest.domains or []
    ]


class Scoring(Page):
    name = "scoring"
    defaults = {"weight": "documents", "log": False, "sort": "documents", "whole": False}  # noqa: RUF012
    choices = {"weight": WEIGHTS, "sort": SORTS}  # noqa: RUF012

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._sure: tuple[tuple[Any, ...], SliceManifest | None] | None = None

    def layout(self, cells: int, rows: int) -> Layout:
        view = self.context.view
        found = view.state.histogram if view else None
        if view is None or not found or not sum(found.documents or []):
            state = view.state.stages["score"].state if view else ""
            told = {
                "running": "Scoring has begun; the first batch draws the first bars.",
                "reused": "The scores were there before; this log holds no histogram of them.",
            }.get(state, "Nothing is scored yet: the histogram grows here.")
            return empty(told)
        total = sum(found.documents or [])
        picture = Pane(
            f"log perplexity, nats a token; {count(total, 12)} documents", self.draw_bars
        )
        config = view.config
        kept = f"; kept by {line_of(config.slices[0].label)}" if config is not None else ""
        domains = Pane(f"Domains, by {self.options['sort']}{kept}", self.draw_domains)
        pace = Pane("Pace", self._pace)
        if cells >= WIDE:
            side = Split(False, [(1.0, domains), (9, pace)])
            return Split(True, [(0.64, picture), (0.36, side)])
        if rows >= TALL:
            return Split(False, [(0.5, picture), (0.5, domains), (9, pace)])
        below = Split(True, [(0.5, domains), (0.5, pace)])
        return Split(False, [(1.0, picture), (8 if rows >= SHORT else 4, below)])

    @property
    def _found(self) -> Histogram:
        assert self.context.view is not None
        found = self.context.view.state.histogram
        assert found is not None
        return found

    def band(self) -> Band | None:
        """That of the first slice: by the selection where it is made, else by what is scored."""
        view = self.context.view
        config = view.config if view else None
        if view is None or config is None:
            return None
        choice, made = config.slices[0], self.manifest()
        likely = band_of(choice, self._found)
        if made is not None and likely is not None:
            return Band(made.lowest, made.highest, True)
        return likely

    def manifest(self) -> SliceManifest | None:
        """That of the first slice, once it is made."""
        view = self.context.view
        config = view.config if view else None
        if view is None or config is None:
            return None
        made = view.run.selection(config.slices[0].label) / "manifest.json"
        state = view.state.stages["selection"].state
        key = (str(made), state)
        if self._sure is None or self._sure[0] != key:
            told = None
            if state in ("done", "reused"):
                with contextlib.suppress(OSError, ValueError):
                    told = read_record(made, SliceManifest)
            self._sure = (key, told)
        return self._sure[1]

    def rows(self) -> tuple[list[ScoredDomain], bool]:
        """The domains, and whether their kept shares are exact: by the selection, where it is
        made."""
        found, made = domain_rows(self._found, self.band()), self.manifest()
        if made is None:
            return found, False
        means = {row.domain: row.mean for row in found}
        return [replace(row, mean=means.get(row.domain)) for row in exact_rows(made)], True

    def draw_bars(self, cells: int, rows: int) -> list[Line]:
        found, band, options = self._found, self.band(), self.options
        weight = options["weight"] if getattr(found, options["weight"]) else "documents"
        counts = np.array(getattr(found, weight), np.float64)
        edges = np.array(found.edges, np.float64)
        filled = np.flatnonzero(counts)
        low, high = histogram.shown_range(counts, edges)
        if options["whole"]:
            low, high = float(edges[filled[0]]), float(edges[filled[-1] + 1])
        columns = histogram.columns_of(cells)
        heights = histogram.rebinned(counts, edges, low, high, columns)
        centres = low + (np.arange(columns) + 0.5) * (high - low) / columns
        kept = np.ones(columns)
        if band is not None:
            kept = ((centres >= band.low) & (centres <= band.high)).astype(float)
        plot = max(2, rows - 2)
        lines = histogram.histogram(
            heights, kept, low, high, cells, plot, self.context.glyphs, options["log"]
        )
        lines.append(self._under(band, low, high, cells))
        logged = ", log heights" if options["log"] else ""
        mean = float((counts * (edges[:-1] + edges[1:]) / 2).sum() / counts.sum())
        lines.append(
            pad(
                [(f"by {weight}{logged}; mean {mean:.2f}; solid kept, shaded dropped", "dim")],
                cells,
            )
        )
        return lines

    def _under(self, band: Band | None, low: float, high: float, cells: int) -> Line:
        view = self.context.view
        config = view.config if view else None
        if config is None:
            return [("      the configuration cannot be read: no band", "warn")]
        choice = config.slices[0]
        if band is None:
            why = {"soft": "drawn by lot"}.get(
                choice.criterion, "ranked by other groups or figures"
            )
            return [(f"      {choice.label}: {why}, so no one band shows it", "dim")]
        sure = "" if band.sure else ", so far"
        return histogram.band(band.low, band.high, low, high, f"{choice.label}{sure}", cells)

    def draw_domains(self, cells: int, rows: int) -> list[Line]:
        found, sure = self.rows()
        if not found:
            return [[("this log does not tell domains", "dim")]]
        key = self.options["sort"]
        found.sort(key=lambda r: r.domain if key == "domain" else -(getattr(r, key) or 0))
        more = len(found) - (rows - 1)
        shown = found if more <= 0 else found[: max(0, rows - 2)]
        lines = table(
            [
                (
                    line_of(r.domain) + (" !" if _lost(r) else ""),
                    f"{100 * r.kept:.0f}%" if r.kept is not None else "-",
                    _two(r.mean),
                    count(r.documents),
                    _two(r.median),
                )
                for r in shown
            ],
            ("domain", "kept docs" if sure else "kept, about", "mean", "docs", "median"),
            cells,
            style=lambda row: "warn" if _lost(shown[row]) else "",
        )
        if more > 0:
            lines.append([(f"and {more + 1} more: z shows them", "dim")])
        return lines

    def _pace(self, cells: int, rows: int) -> list[Line]:
        view = self.context.view
        assert view is not None
        stage = view.state.stages["score"]
        points = zip(stage.rates["t"], stage.rates["rate"], strict=True)
        rates = [(t, r or 0.0) for t, r in points if t is not None]
        now = f"{count(stage.rate)} {stage.unit or 'tokens'}/s"
        left = forecast.left(stage)
        ends = (
            f"{clock(left)} left"
            if left is not None and stage.state == StageStatus.RUNNING
            else "-"
        )
        pairs = [
            ("rate", f"{now}, {against_first_hour(rates)}", ""),
            ("left", ends, ""),
            ("padding", _share(stage.padding_share), ""),
            ("waiting", f"{_share(stage.input_wait_share)} for input", ""),
            ("use", f"{_share(stage.utilisation)} of peak", ""),
            ("ranks", self._ranks(), ""),
            ("", sparkline([r for _, r in rates], cells - 9, self.context.glyphs), "good"),
        ]
        return say(pairs[:rows], cells)

    def _ranks(self) -> str:
        view = self.context.view
        assert view is not None
        told = []
        for name, curve in view.state.curves.items():
            if not name.startswith("references/"):
                continue
            known = [r for r in curve.validation["rank_correlation"] if r is not None]
            if known:
                told.append(f"{known[-1]:.3f} of {line_of(name.partition('/')[2])}")
        if not told:
            return "not known: the reference tells it as it trains"
        return f"{', '.join(told)}, against the time before"

    # --- keys

    def do_weight(self) -> str | None:
        weight = self.cycle("weight", list(WEIGHTS))
        found = self.context.view.state.histogram if self.context.view else None
        return None if not found or getattr(found, weight) else f"this log does not tell {weight}"

    def do_log(self) -> None:
        self.options["log"] = not self.options["log"]

    def do_sort(self) -> None:
        self.cycle("sort", list(SORTS))

    def do_fit(self) -> None:
        self.options["whole"] = not self.options["whole"]

    def copied(self) -> str | None:
        if self.context.view is None or not self.context.view.state.histogram:
            return None
        rows, _ = self.rows()
        lines = ["| domain | documents | mean | median | kept |", "|---|---|---|---|---|"]
        for r in rows:
            kept = f"{100 * r.kept:.1f} %" if r.kept is not None else ""
            lines.append(
                f"| {line_of(r.domain)} | {r.documents} | {_two(r.mean)} "
                f"| {_two(r.median)} | {kept} |"
            )
        return "\n".join(lines)


def against_first_hour(rates: list[tuple[float, float]]) -> str:
    """The newest tenth of the rates over those of the first hour."""
    if len(rates) < 10:
        return "too early to compare"
    began = rates[0][0]
    first = [r for t, r in rates if t - began <= FIRST_HOUR]
    last = [r for _, r in rates[-max(3, len(rates) // 10) :]]
    share = (sum(last) / len(last)) / (sum(first) / len(first)) if sum(first) else 1.0
    return f"{share:.2f} of hour 1"


def _lost(row: ScoredDomain) -> bool:
    return row.kept is not None and row.kept < LOST


def _two(value: float | None) -> str:
    return f"{value:.2f}" if value is not None and value == value else "-"


def _share(value: float | None) -> str:
    return f"{100 * value:.0f} %" if value is not None else "-"
