"""Cuts: what a slice kept of the study's documents, as limits of the figure that it ranks by.

A slice that is taken by rank keeps, in every group that it ranks in, an interval of figures. The
limit between the last that is kept and the first that is not lies half way between both; a side on
which nothing was dropped has no limit. Floors and caps move the limits of single domains, so a
slice that has some has limits by domain.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from mlxprune.config.slices import Slice
from mlxprune.errors import DataError
from mlxprune.records import Record
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.metric import metric_values
from mlxprune.selection.ranking import octaves
from mlxprune.selection.selector import apply_slice

NEW_DOMAINS = ("whole", "keep", "drop")  # what becomes of domains that the study never saw


class Interval(msgspec.Struct, array_like=True, frozen=True):
    """The figures that are kept, both ends included; None: no limit on that side."""

    low: float | None
    high: float | None

    def holds(self, values: np.ndarray) -> np.ndarray:
        """bool, one for each of the values."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        inside: np.ndarray = (values >= low) & (values <= high)
        return inside


class Cuts(Record):
    """``groups``: by domain, or by domain and octave of the length joined by a slash; None keeps
    nothing. ``whole`` is for groups that the study never saw, as ``new_domains`` says."""

    by: str  # corpus, domain, domain,length
    whole: Interval
    groups: dict[str, Interval | None]
    new_domains: str = "whole"

    def kept(self, values: np.ndarray, domains: list[str], lengths: np.ndarray) -> np.ndarray:
        """bool: which documents with these figures, domains and lengths in tokens are kept."""
        result = self.whole.holds(values)
        if self.by == "corpus":
            return result
        for name, members in groups_of(domains, lengths, self.by).items():
            interval = self._interval(name)
            result[members] = interval is not None and interval.holds(values[members])
        return result

    def _interval(self, name: str) -> Interval | None:
        """A cell that the study never saw is cut as its domain; a domain, as ``new_domains``
        says."""
        if name in self.groups:
            return self.groups[name]
        domain = name.rpartition("/")[0] if self.by == "domain,length" else name
        if domain in self.groups:
            return self.groups[domain]
        if self.new_domains == "whole":
            return self.whole
        return Interval(None, None) if self.new_domains == "keep" else None

    def knows(self, domain: str) -> bool:
        """Whether the study has seen the domain, as far as that matters."""
        return self.by == "corpus" or domain in self.groups


def groups_of(domains: list[str], lengths: np.ndarray, by: str) -> dict[str, np.ndarray]:
    """The numbers of the documents of every group, by its name."""
    names, codes = np.unique(np.array(domains, object), return_inverse=True)
    if by == "domain,length":
        cells = codes.astype(np.int64) * 64 + octaves(lengths)
        found, codes = np.unique(cells, return_inverse=True)
        labels = [f"{names[cell // 64]}/{cell % 64}" for cell in found.tolist()]
    else:
        labels = [str(name) for name in names]
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(len(labels) + 1))
    return {label: order[edges[i] : edges[i + 1]] for i, label in enumerate(labels)}


def cuts_of_slice(
    scores: Scores,
    choice: Slice,
    kept: np.ndarray,
    seed: int,
    tokens: np.ndarray,
    new_domains: str = "whole",
) -> Cuts:
    """The cuts of a slice of a study; ``kept`` bool and ``tokens`` int64 [documents] are its own.

    Of cross-scoring the figures of the first fold count, whose reference scores the new text.
    Raises DataError for a slice that is drawn by lot, which has no cut.
    """
    if choice.criterion == "soft":
        fix = "take a band, or filter by an exact rate of low, medium or high"
        raise DataError("a soft slice is drawn by lot: it has no cut", choice.label, fix)
    if choice.criterion == "range":
        return Cuts(by="corpus", whole=range_interval(choice), groups={})
    able = scores.num_tokens >= choice.min_tokens
    if scores.fold is not None:
        able &= scores.fold == scores.fold.min()
    values = metric_values(scores, choice)
    if choice.by == "corpus" and not choice.bounded:
        whole = _interval(values[able], kept[able])
        if new_domains == "whole":
            return Cuts(by="corpus", whole=whole, groups={})
        # The same limits for every domain, so that new ones are told apart.
        each: dict[str, Interval | None] = dict.fromkeys(scores.domains, whole)
        return Cuts(by="domain", whole=whole, groups=each, new_domains=new_domains)
    plain = choice.model_copy(
        update={"by": "corpus", "protect": [], "floor": None, "cap": None, "rule": "exact"}
    )
    alike = apply_slice(scores, plain, seed, tokens).mask
    whole = _interval(values[able], alike[able])
    part = scores.take(np.flatnonzero(able))
    assert part.domain is not None
    inside, figures = kept[able], values[able]
    names = [part.domains[code] for code in part.domain.tolist()]
    by = "domain" if isinstance(choice.by, str) else "domain,length"
    groups: dict[str, Interval | None] = {}
    for level in dict.fromkeys(("domain", by)):  # a cell falls back to its domain
        for name, members in groups_of(names, part.num_tokens, level).items():
            some = inside[members]
            groups[name] = _interval(figures[members], some) if some.any() else None
    return Cuts(by=by, whole=whole, groups=groups, new_domains=new_domains)


def range_interval(choice: Slice) -> Interval:
    """The limits of a slice that names them, in the figure that is ranked by."""

    def figure(end: object) -> float | None:
        if end is None:
            return None
        value = float(str(end))
        if choice.metric == "bpb":
            return value
        return math.log(value) if value > 0 else -math.inf

    return Interval(figure(choice.min), figure(choice.max))


def _interval(values: np.ndarray, kept: np.ndarray) -> Interval:
    """The interval of what is kept among figures, limits half way to the next that is not."""
    if not kept.any():
        return Interval(math.inf, -math.inf)
    lowest, highest = float(values[kept].min()), float(values[kept].max())
    out = values[~kept]
    below, above = out[out < lowest], out[out > highest]
    return Interval(
        (float(below.max()) + lowest) / 2 if len(below) else None,
        (float(above.min()) + highest) / 2 if len(above) else None,
    )
