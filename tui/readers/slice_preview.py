"""What if: everything that a slice keeps, from sorted scores and running sums, in microseconds.

The answers are exactly those of ``mlxprune.selection``; slices that are no interval of their rank
order (floors, caps, soft, the paper's rule) are asked of it, and take longer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mlxprune.config.slices import Slice
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.metric import metric_values
from mlxprune.selection.ranking import document_span, rank_documents, rank_groups, token_span
from mlxprune.selection.selector import apply_slice

BLOCK = 4096
BINS = 400


@dataclass(frozen=True)
class Sorted:
    """Documents by group, then rank. ``order`` [n] rows of the scores; ``starts`` [groups + 1];
    ``middle`` [n] doubled midpoints of tokens inside the group; ``running`` [n + 1] tokens."""

    order: np.ndarray
    starts: np.ndarray
    middle: np.ndarray
    running: np.ndarray
    totals: np.ndarray  # tokens of each group
    domain: np.ndarray  # of each group; -1 where it holds several
    values: np.ndarray  # [n] the ranked figure, in this order
    blocks: np.ndarray | None  # [n / BLOCK + 1, domains, 2] documents and tokens before each block
    place: np.ndarray  # [n] the bin of each


@dataclass(frozen=True)
class Kept:
    """What a slice keeps. ``documents``, ``tokens`` int64 [domains]; ``spans`` [groups, 2] of the
    sorted order, None where it is no interval; ``columns`` the kept share of each bin."""

    documents: np.ndarray
    tokens: np.ndarray
    spans: np.ndarray | None
    columns: np.ndarray

    @property
    def all_documents(self) -> int:
        return int(self.documents.sum())

    @property
    def all_tokens(self) -> int:
        return int(self.tokens.sum())


@dataclass
class Table:
    """The pool of a run, ready to be sliced: scores, and tokens of the final model's tokenizer."""

    scores: Scores
    tokens: np.ndarray
    seed: int
    choice: Slice  # whose figure and least length it ranks by
    able: np.ndarray = field(init=False)  # rows that are long enough to be ranked
    held: dict[object, Sorted] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.able = np.flatnonzero(self.scores.num_tokens >= self.choice.min_tokens)
        names = self.domains
        self.domain = (
            np.zeros(len(self.scores), np.int64)
            if self.scores.domain is None
            else self.scores.domain
        )
        self.all_documents = np.bincount(self.domain, minlength=len(names))
        self.all_tokens = _sums(self.domain, self.tokens, len(names))
        self.values = metric_values(self.scores, self.choice)
        shown = self.values[self.able]
        low, high = np.quantile(shown, [0.0005, 0.9995]) if len(shown) else (0.0, 1.0)
        self.edges = np.linspace(low, max(high, low + 1e-9), BINS + 1)

    @property
    def domains(self) -> tuple[str, ...]:
        return self.scores.domains or ("",)

    def sorted(self, choice: Slice) -> Sorted:
        """The order of a grouping; made once."""
        if choice.by not in self.held:
            self.held[choice.by] = self._sort(choice)
        return self.held[choice.by]

    def _sort(self, choice: Slice) -> Sorted:
        ranked = rank_documents(self.scores, choice, self.seed, self.tokens)
        codes = rank_groups(self.scores, choice)[self.able]
        known, group = np.unique(codes, return_inverse=True)
        sizes = np.bincount(group, minlength=len(known))
        starts = np.concatenate([[0], np.cumsum(sizes)])
        order = np.empty(len(self.able), np.int64)
        order[starts[group] + ranked.rank[self.able]] = self.able
        tokens = self.tokens[order].astype(np.int64)
        running = np.concatenate([[0], np.cumsum(tokens)])
        totals = running[starts[1:]] - running[starts[:-1]]
        values, domain = self.values[order], self.domain[order]
        one = choice.by == "corpus"
        place = np.searchsorted(self.edges, values, side="right") - 1
        place = np.clip(place, 0, BINS - 1)
        return Sorted(
            order,
            starts,
            ranked.middle[order],
            running,
            totals,
            np.full(1, -1) if one else domain[starts[:-1]],
            values,
            _blocks(domain, tokens, len(self.domains)) if one else None,
            place,
        )

    def ask(self, choice: Slice) -> Kept:
        """What a slice keeps."""
        if choice.bounded or choice.criterion == "soft" or choice.rule == "paper":
            return self._masked(choice)
        by = self.sorted(choice)
        found = [self._span(by, choice, g) for g in range(len(by.totals))]
        spans = np.array(found, np.int64).reshape(-1, 2)
        documents, tokens = self._by_domain(by, spans)
        return Kept(documents, tokens, spans, self._columns(by, spans))

    def _span(self, by: Sorted, choice: Slice, group: int) -> tuple[int, int]:
        first, stop = int(by.starts[group]), int(by.starts[group + 1])
        if choice.unit == "documents":
            a, b = document_span(choice, stop - first)
            return first + a, first + b
        a, b = token_span(choice, int(by.totals[group]))
        inside = by.middle[first:stop]
        low, high = np.searchsorted(inside, [a, b], side="left").tolist()
        return first + low, first + high

    def _by_domain(self, by: Sorted, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = len(self.domains)
        if by.blocks is None:
            documents = np.bincount(by.domain, spans[:, 1] - spans[:, 0], count)
            tokens = _sums(by.domain, by.running[spans[:, 1]] - by.running[spans[:, 0]], count)
            return documents.astype(np.int64), tokens
        if not len(spans):
            return np.zeros(count, np.int64), np.zeros(count, np.int64)
        ((first, stop),) = spans.tolist()
        after = self._before(by, stop) - self._before(by, first)
        return after[:, 0], after[:, 1]

    def _before(self, by: Sorted, at: int) -> np.ndarray:
        """Documents and tokens of every domain among the first so many."""
        assert by.blocks is not None
        block = at // BLOCK
        found: np.ndarray = by.blocks[block].copy()
        rows = by.order[block * BLOCK : at]
        found[:, 0] += np.bincount(self.domain[rows], minlength=len(found))
        found[:, 1] += _sums(self.domain[rows], self.tokens[rows], len(found))
        return found

    def _columns(self, by: Sorted, spans: np.ndarray) -> np.ndarray:
        """The kept share of the documents of every bin."""
        total = np.bincount(by.place, minlength=BINS)
        parts = [by.place[first:stop] for first, stop in spans.tolist()]
        kept = np.bincount(np.concatenate(parts), minlength=BINS) if parts else np.zeros(BINS)
        result: np.ndarray = np.divide(kept, total, out=np.zeros(BINS), where=total > 0)
        return result

    def mask(self, choice: Slice) -> np.ndarray:
        """Which rows of the scores a slice keeps, bool."""
        kept: np.ndarray = apply_slice(self.scores, choice, self.seed, self.tokens).mask
        return kept

    def _masked(self, choice: Slice) -> Kept:
        mask = self.mask(choice)
        count = len(self.domains)
        place = np.clip(np.searchsorted(self.edges, self.values, side="right") - 1, 0, BINS - 1)
        total = np.bincount(place, minlength=BINS)
        kept = np.bincount(place[mask], minlength=BINS)
        return Kept(
            np.bincount(self.domain[mask], minlength=count),
            _sums(self.domain[mask], self.tokens[mask], count),
            None,
            np.divide(kept, total, out=np.zeros(BINS), where=total > 0),
        )

    def cut_values(self, choice: Slice, kept: Kept) -> tuple[float, float] | None:
        """The lowest and highest figure that is kept, where there is one interval."""
        if kept.spans is None or choice.by != "corpus" or not len(kept.spans):
            return None
        ((first, stop),) = kept.spans.tolist()
        if first == stop:
            return None
        values = self.sorted(choice).values
        return float(values[first]), float(values[stop - 1])

    def around(
        self, choice: Slice, kept: Kept, upper: bool, count: int, skip: int
    ) -> list[tuple[int, bool]]:
        """(row, kept) on both sides of an edge, nearest first outwards by ``skip``; where there
        are groups, of the largest."""
        if kept.spans is None or not len(kept.spans):
            return []
        by = self.sorted(choice)
        group = int(np.argmax(by.totals))
        first, stop = kept.spans[group].tolist()
        begin, end = int(by.starts[group]), int(by.starts[group + 1])
        edge = stop if upper else first
        half = count // 2
        places = [edge + (1 + skip) * i for i in range(-half, count - half)]
        return [(int(by.order[p]), first <= p < stop) for p in places if begin <= p < end]

    def heights(self, choice: Slice) -> np.ndarray:
        """Documents by bin, int64 [BINS]."""
        result: np.ndarray = np.bincount(self.sorted(choice).place, minlength=BINS)
        return result


def _sums(codes: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Whole sums by code: exact, because sums of tokens stay below 2^53."""
    return np.bincount(codes, weights=weights, minlength=count).astype(np.int64)


def _blocks(domain: np.ndarray, tokens: np.ndarray, count: int) -> np.ndarray:
    number = len(domain) // BLOCK + 1
    code = np.arange(len(domain)) // BLOCK * count + domain
    documents = np.bincount(code, minlength=number * count).reshape(number, count)
    sums = _sums(code, tokens, number * count).reshape(number, count)
    found = np.zeros((number + 1, count, 2), np.int64)
    found[1:, :, 0] = np.cumsum(documents, axis=0)
    found[1:, :, 1] = np.cumsum(sums, axis=0)
    return found
