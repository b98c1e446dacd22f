"""The histogram as it grows: the band that would be kept, how sure that is, and the domains."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from mlxprune.config.slices import Slice
from mlxprune.records import read_record
from mlxprune.run.event_kinds import Histogram
from mlxprune.selection.manifest import SliceManifest
from mlxprune.selection.ranking import rank_band
from mlxprune_tui.readers.run_view import View

GHOST_SECONDS = 60.0  # how old the outline is that shows what has moved
HELD_SECONDS = 3.0  # between two histograms that are held for it
LOST = 0.2  # a domain that keeps less than this of what the slice keeps of all is marked
NORMAL = 1.96  # standard errors of a 95 % interval


@dataclass(frozen=True)
class Band:
    """What a slice keeps, in nats; ``sure`` once the selection is made. ``settled`` is half of the
    95 % interval of its inner edge; None where that is not known."""

    low: float
    high: float
    sure: bool
    settled: float | None = None


def band_of(choice: Slice, found: Histogram, total: float | None = None) -> Band | None:
    """The band of a slice by what is scored so far, of ``total`` documents in all; None where one
    interval cannot show it."""
    if choice.metric != "perplexity" or choice.criterion == "soft" or choice.by != "corpus":
        return None
    if choice.absolute and choice.rate is None and choice.band is None:
        return None  # its share is known once all is scored
    weights = (found.tokens if choice.unit == "tokens" else found.documents) or []
    edges = np.array(found.edges, np.float64)
    sums = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
    if sums[-1] <= 0:
        return None
    low, high = (float(b) for b in rank_band(choice))
    count = _effective(found, choice.unit == "tokens")
    width = max(
        (_half_width(edges, sums, share, count, total) for share in (low, high) if 0 < share < 1),
        default=0.0,
    )
    return Band(quantile(edges, sums, low, False), quantile(edges, sums, high, True), False, width)


def _effective(found: Histogram, by_tokens: bool) -> float:
    """Documents that would tell as much if each weighed the same (Kish 1965: the square of the sum
    of weights over the sum of their squares); bins know the mean length of theirs alone."""
    documents = np.array(found.documents, np.float64)
    if not by_tokens or not found.tokens:
        return float(documents.sum())
    tokens = np.array(found.tokens, np.float64)
    squares = np.divide(tokens**2, documents, out=np.zeros_like(tokens), where=documents > 0)
    return float(tokens.sum() ** 2 / max(squares.sum(), 1e-12))


def _half_width(
    edges: np.ndarray, sums: np.ndarray, share: float, count: float, total: float | None
) -> float:
    """Half of the 95 % interval of a quantile of a random sample without replacement: the quantiles
    that lie a normal error of the rank around it."""
    left = max(0.0, 1 - count / total) if total else 1.0
    error = NORMAL * math.sqrt(share * (1 - share) / max(count, 1.0) * left)
    low = quantile(edges, sums, max(0.0, share - error), False)
    high = quantile(edges, sums, min(1.0, share + error), True)
    return (high - low) / 2


def quantile(edges: np.ndarray, sums: np.ndarray, share: float, upper: bool) -> float:
    """The value below which a share of the counts lies; ``sums`` [bins + 1] run from 0."""
    if share <= 0:
        return float(edges[0])
    if share >= 1:
        return float(edges[-1])
    wanted = share * sums[-1]
    at = int(np.searchsorted(sums, wanted, side="left" if upper else "right"))
    at = min(max(at, 1), len(edges) - 1)
    inner = (wanted - sums[at - 1]) / max(sums[at] - sums[at - 1], 1e-12)
    return float(edges[at - 1] + min(1.0, max(0.0, inner)) * (edges[at] - edges[at - 1]))


def quantiles(counts: np.ndarray, edges: np.ndarray) -> dict[str, float]:
    """p50, p10, p90, p25 and p75, those first that matter most."""
    sums = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    return {f"p{p}": quantile(edges, sums, p / 100, True) for p in (50, 10, 90, 25, 75)}


def share_inside(counts: np.ndarray, edges: np.ndarray, band: Band) -> float:
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
    settled: float | None = None  # half of the 95 % interval of the kept share

    def is_lost(self, whole: float | None) -> bool:
        """Whether it keeps under a fifth of what the slice keeps of all."""
        return self.kept is not None and bool(whole) and self.kept < LOST * (whole or 0.0)


def domain_counts(found: Histogram, name: str) -> np.ndarray:
    """Documents of a domain by bin, float64."""
    counts = np.zeros(len(found.edges or []) - 1)
    told = (found.domains or {}).get(name)
    if told is not None:
        stop = min(len(counts), told.first + len(told.counts))
        counts[told.first : stop] = told.counts[: stop - told.first]
    return counts


def domain_rows(found: Histogram, band: Band | None) -> list[ScoredDomain]:
    """Documents, mean, median and kept share of every domain scored so far."""
    edges = np.array(found.edges, np.float64)
    rows = []
    for name, told in (found.domains or {}).items():
        counts = domain_counts(found, name)
        total = np.concatenate([[0.0], np.cumsum(counts)])
        mean = told.nll / told.tokens if told.tokens else float("nan")
        kept = share_inside(counts, edges, band) if band else None
        count = total[-1]
        settled = None
        if kept is not None and count:
            settled = NORMAL * math.sqrt((kept * (1 - kept) + 0.25 / count) / count)
        rows.append(
            ScoredDomain(name, int(count), mean, quantile(edges, total, 0.5, True), kept, settled)
        )
    return rows


def exact_rows(manifest: SliceManifest, means: dict[str, float | None]) -> list[ScoredDomain]:
    """The same from a selection that is made."""
    found = [
        ScoredDomain(
            domain=row.domain,
            documents=row.documents,
            mean=None,
            median=row.quantiles[1] if row.quantiles else None,
            kept=row.kept_documents / row.documents if row.documents else None,
        )
        for row in manifest.domains or []
    ]
    return [replace(row, mean=means.get(row.domain)) for row in found]


class Ghost:
    """The counts of a minute ago, from those that were seen as they came."""

    def __init__(self) -> None:
        self.held: deque[tuple[float, np.ndarray]] = deque()

    def note(self, found: Histogram | None) -> None:
        if found is None or found.t is None or not found.documents:
            return
        if self.held and found.t - self.held[-1][0] < HELD_SECONDS:
            return
        self.held.append((found.t, np.array(found.documents, np.float64)))
        while len(self.held) > 2 and self.held[1][0] <= found.t - GHOST_SECONDS:
            self.held.popleft()

    def scaled(self, found: Histogram) -> tuple[float, np.ndarray] | None:
        """(seconds ago, counts as many as now); None where too little has passed."""
        if not self.held or found.t is None or not found.documents:
            return None
        then, counts = self.held[0]
        if found.t - then < HELD_SECONDS or not counts.sum():
            return None
        return found.t - then, counts * (sum(found.documents) / counts.sum())


class SliceShown:
    """The first slice of a run: its band by what is scored, or as the selection made it."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._made: tuple[tuple[str, str], SliceManifest | None] | None = None

    @property
    def choice(self) -> Slice | None:
        config = self.view.config
        return None if config is None else config.slices[0]

    def manifest(self) -> SliceManifest | None:
        """That of the slice, once it is made for the present configuration."""
        choice = self.choice
        if choice is None:
            return None
        made = self.view.run.selection(choice.label) / "manifest.json"
        state = str(self.view.state.stages["selection"].state)
        key = (str(made), state)
        if self._made is None or self._made[0] != key:
            told = None
            if state in ("done", "reused"):
                with contextlib.suppress(OSError, ValueError):
                    told = read_record(made, SliceManifest)
            self._made = (key, told)
        return self._made[1]

    def documents(self) -> float | None:
        """Of the whole pool, by the tokens that are done of it."""
        found, stage = self.view.state.histogram, self.view.state.stages["score"]
        if found is None or not found.documents:
            return None
        told = sum(found.documents)
        tokens = sum(found.tokens or [])
        if stage.state == "running" and stage.total and tokens:
            return max(told, told * stage.total / tokens)
        return float(told)

    def band(self) -> Band | None:
        choice, found = self.choice, self.view.state.histogram
        if choice is None or found is None:
            return None
        likely = band_of(choice, found, self.documents())
        made = self.manifest()
        if made is not None and likely is not None:
            return Band(made.lowest, made.highest, True)
        return likely

    def rows(self) -> tuple[list[ScoredDomain], bool]:
        """The domains, and whether their kept shares are exact."""
        found, made = self.view.state.histogram, self.manifest()
        rows = domain_rows(found, self.band()) if found is not None else []
        if made is None:
            return rows, False
        return exact_rows(made, {row.domain: row.mean for row in rows}), True

    def whole(self, rows: list[ScoredDomain]) -> float | None:
        """The share of all documents that is kept."""
        known = [(row.kept, row.documents) for row in rows if row.kept is not None]
        total = sum(count for _, count in known)
        return sum(kept * count for kept, count in known) / total if total else None
