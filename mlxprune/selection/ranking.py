"""Ranking: the exact order of documents, spans of ranks and of tokens, groups and bands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mlxprune.config.slices import Slice
from mlxprune.data.hashing import mix
from mlxprune.errors import DataError
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.metric import metric_values

Values = Callable[[slice], np.ndarray]


def ranked_values(scores: Scores, choice: Slice, seed: int | str) -> Values:
    """The ranked figure of any stretch of the documents. Of folds: the percentile in the fold,
    because different models scored them."""
    if scores.fold is None:
        return lambda part: metric_values(scores, choice, part)
    figures = metric_values(scores, choice)
    percentile = np.empty(len(scores))
    for fold in np.unique(scores.fold):
        mine = np.flatnonzero(scores.fold == fold)
        order = rank_order(figures[mine], scores.key[mine], seed)
        percentile[mine[order]] = (np.arange(len(mine)) + 0.5) / len(mine)
    return lambda part: percentile[part]


def rank_order(values: np.ndarray, keys: np.ndarray, seed: int | str) -> np.ndarray:
    """Documents from the lowest value to the highest; ties in seeded order."""
    return np.lexsort((keys, mix(keys, f"ties {seed}"), values))


def half_up(share: Fraction, count: int) -> int:
    """floor(share * count + 1/2), exactly."""
    return int((share * count + Fraction(1, 2)).__floor__())


def rank_band(choice: Slice) -> tuple[Fraction, Fraction]:
    """The band [a, b] of ranks that a criterion means, as shares; soft: what it centres on; of an
    absolute slice that is not resolved, everything."""
    if choice.band is not None:
        return Fraction(choice.band[0]), Fraction(choice.band[1])
    if choice.absolute and choice.rate is None:
        return Fraction(0), Fraction(1)
    rate = Fraction(choice.rate or 0)
    if choice.criterion == "low":
        return Fraction(0), rate
    if choice.criterion == "high":
        return 1 - rate, Fraction(1)
    centre = Fraction(1, 2) if choice.centre is None else Fraction(choice.centre)
    return centre - rate / 2, centre + rate / 2


def document_span(choice: Slice, count: int) -> tuple[int, int]:
    """Ranks [first, stop) that the slice keeps of ``count`` documents (docs/method.md, Select)."""
    if choice.band is not None:
        return half_up(Fraction(choice.band[0]), count), half_up(Fraction(choice.band[1]), count)
    k = half_up(Fraction(choice.rate or 0), count)
    if choice.criterion == "low":
        return 0, k
    if choice.criterion == "high":
        return count - k, count
    start = (count - k) // 2
    return start, start + k


def refuse_nothing(choice: Slice, count: int) -> None:
    """Raises DataError when a slice can keep none of so many documents, whatever their scores."""
    if choice.absolute:  # it is known once there are scores
        return
    low, high = rank_band(choice)
    first, stop = 0, 1
    if choice.unit == "documents" and choice.criterion != "soft" and choice.by == "corpus":
        first, stop = document_span(choice, count)
    if first == stop or (high - low) * count < Fraction(1, 2):
        fix = "raise the rate, or give the pool more documents"
        if count < 2:
            fix = "give more documents: the parts of the split leave hardly any to score"
        raise DataError(f"{choice.label} keeps none of {count} documents", "selection", fix)


def token_span(choice: Slice, total: int) -> tuple[int, int]:
    """Doubled midpoints [first, stop) of cumulative tokens that the slice keeps, of ``total``.

    Midpoints are compared doubled, as integers, with the exact thresholds: adjoining bands
    partition. The band [a, 1] takes the end.
    """
    low, high = rank_band(choice)
    return ceiling(2 * low * total), 2 * total if high >= 1 else ceiling(2 * high * total)


def ceiling(value: Fraction) -> int:
    return -((-value.numerator) // value.denominator)


def paper_keep(choice: Slice, values: np.ndarray) -> np.ndarray:
    """The paper's rule: keep x iff low < ECDF(x) < high, both strict; equal scores go together."""
    low, high = rank_band(choice)
    count = len(values)
    at_most = np.searchsorted(np.sort(values), values, side="right")
    # low < at_most / count < high, in integers
    above = at_most > (low * count).__floor__()
    below = at_most < ceiling(high * count)
    result: np.ndarray = above & below
    return result


@dataclass(frozen=True)
class Kept:
    """``mask`` bool [documents]: kept or not; ``first``: the rank of the lowest that is kept,
    where what is kept is an interval of one rank order, else None."""

    mask: np.ndarray
    first: int | None


@dataclass(frozen=True)
class Ranked:
    """Every document's place in its group, int64 [documents]: ``rank``, -1 for one that is shorter
    than ``min_tokens``; of ``size`` documents; ``middle``, the doubled midpoint of its cumulative
    tokens, of ``total`` tokens."""

    rank: np.ndarray
    size: np.ndarray
    middle: np.ndarray
    total: np.ndarray

    def position(self, choice: Slice) -> np.ndarray:
        """Midpoints of documents or tokens, as the unit is, from 0 to 1."""
        if choice.unit == "tokens" and choice.rule == "exact":
            return self.middle / np.maximum(2 * self.total, 1)
        return (2 * self.rank + 1) / np.maximum(2 * self.size, 1)


def members_by_group(codes: np.ndarray) -> Iterator[np.ndarray]:
    """The members of every group, as ascending numbers."""
    order = np.argsort(codes, kind="stable")
    edges = np.flatnonzero(np.diff(codes[order])) + 1
    yield from (part for part in np.split(order, edges) if len(part))


def rank_documents(
    scores: Scores, choice: Slice, seed: int | str, tokens: np.ndarray | None = None
) -> Ranked:
    """The place of every document in its group; ``tokens`` int64 [documents]."""
    able = np.flatnonzero(scores.num_tokens >= choice.min_tokens)
    columns = [
        np.full(len(scores), -1, np.int64),
        *(np.zeros(len(scores), np.int64) for _ in "123"),
    ]
    if len(able):
        whole = len(able) == len(scores)
        part = scores if whole else scores.take(able)
        weights = scores.num_tokens if tokens is None else tokens
        values = ranked_values(part, choice, seed)(slice(None))
        ties = mix(part.key, f"ties {seed}")
        if choice.by == "corpus":
            codes = np.zeros(len(able), np.int64)
            order = np.lexsort((part.key, ties, values))
        else:
            codes = rank_groups(part, choice)
            order = np.lexsort((part.key, ties, values, codes))
            codes = codes[order]
        rows = order if whole else able[order]
        middles, columns[1][rows] = inside_runs(codes, np.ones(len(order), np.int64))
        columns[0][rows] = middles // 2
        columns[2][rows], columns[3][rows] = inside_runs(codes, weights[rows].astype(np.int64))
    return Ranked(*columns)


def inside_span(ranked: Ranked, choice: Slice) -> np.ndarray:
    """What a slice keeps of ranked documents, each group by its own count or tokens."""
    if choice.unit == "documents":
        wholes, where = np.unique(ranked.size, return_inverse=True)
        spans = [document_span(choice, int(n)) for n in wholes]
        place = ranked.rank
    else:
        wholes, where = np.unique(ranked.total, return_inverse=True)
        spans = [token_span(choice, int(n)) for n in wholes]
        place = ranked.middle
    first, stop = (np.array([span[i] for span in spans], np.int64) for i in (0, 1))
    if len(wholes) == 1:
        return (place >= first[0]) & (place < stop[0]) & (ranked.rank >= 0)
    result: np.ndarray = (place >= first[where]) & (place < stop[where]) & (ranked.rank >= 0)
    return result


def rank_groups(scores: Scores, choice: Slice) -> np.ndarray:
    """The group that a document is ranked in, int64; octaves are floor(log2(num_tokens))."""
    if choice.by == "corpus":
        return np.zeros(len(scores), np.int64)
    assert scores.domain is not None
    if choice.by == "domain":
        return scores.domain.astype(np.int64)
    return domain_length_cells(scores.domain, scores.num_tokens)


def domain_length_cells(domain: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Domain x octave of length as one code, int64."""
    result: np.ndarray = domain.astype(np.int64) * 64 + octaves(lengths)
    return result


def octaves(lengths: np.ndarray) -> np.ndarray:
    """floor(log2) of positive lengths, int."""
    result: np.ndarray = np.frexp(lengths.astype(np.float64))[1] - 1
    return result


def inside_runs(codes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Doubled midpoints inside each run of equal codes, and the run's total, per row."""
    starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
    ends = np.cumsum(sizes, dtype=np.int64)
    before = (ends - sizes)[starts]
    lengths = np.diff(np.append(starts, len(codes)))
    totals = np.add.reduceat(sizes, starts)
    return 2 * (ends - np.repeat(before, lengths)) - sizes, np.repeat(totals, lengths)


def kept_ranks(scores: Scores, choice: Slice, kept: Kept, seed: int | str) -> np.ndarray:
    """The rank of each kept document in its group, int64, in canonical order."""
    if kept.first is None or scores.fold is not None:
        return rank_documents(scores, choice, seed).rank[kept.mask]
    values = metric_values(scores, choice, kept.mask)
    order = rank_order(values, scores.key[kept.mask], seed)
    result = np.empty(len(order), np.int64)
    result[order] = np.arange(kept.first, kept.first + len(order))
    return result
