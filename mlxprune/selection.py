"""Selection: which documents a slice keeps, from scores alone.

Exact: rates are decimals, counts and token thresholds are integers, ties are broken by a seeded mix
of the key, so equal scores never depend on the order of the input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlxprune import cut
from mlxprune.errors import DataError
from mlxprune.keys import mix
from mlxprune.scores import Scores, metric, ranking, refuse_unknown, values_of
from mlxprune.slices import Slice

VERSION = 2


def half_up(share: Fraction, count: int) -> int:
    """floor(share * count + 1/2), exactly."""
    return int((share * count + Fraction(1, 2)).__floor__())


def bounds(choice: Slice) -> tuple[Fraction, Fraction]:
    """The band [a, b] of ranks that a criterion means, as shares; soft: what it centres on."""
    if choice.band is not None:
        return Fraction(choice.band[0]), Fraction(choice.band[1])
    rate = Fraction(choice.rate or 0)
    if choice.criterion == "low":
        return Fraction(0), rate
    if choice.criterion == "high":
        return 1 - rate, Fraction(1)
    centre = Fraction(1, 2) if choice.centre is None else Fraction(choice.centre)
    return centre - rate / 2, centre + rate / 2


def document_span(choice: Slice, count: int) -> tuple[int, int]:
    """Ranks [first, stop) that the slice keeps of ``count`` documents (DESIGN, Select)."""
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
    low, high = bounds(choice)
    first, stop = 0, 1
    if choice.unit == "documents" and choice.criterion != "soft" and choice.by == "corpus":
        first, stop = document_span(choice, count)
    if first == stop or (high - low) * count < Fraction(1, 2):
        fix = "raise the rate, or give the pool more documents"
        raise DataError(f"{choice.label} keeps none of {count} documents", "selection", fix)


def token_span(choice: Slice, total: int) -> tuple[int, int]:
    """Doubled midpoints [first, stop) of cumulative tokens that the slice keeps, of ``total``.

    Midpoints are compared doubled, as integers, with the exact thresholds: adjoining bands
    partition. The band [a, 1] takes the end.
    """
    low, high = bounds(choice)
    return _ceiling(2 * low * total), 2 * total if high >= 1 else _ceiling(2 * high * total)


def _ceiling(value: Fraction) -> int:
    return -((-value.numerator) // value.denominator)


def paper_keep(choice: Slice, values: np.ndarray) -> np.ndarray:
    """The paper's rule: keep x iff low < ECDF(x) < high, both strict; equal scores go together."""
    low, high = bounds(choice)
    count = len(values)
    at_most = np.searchsorted(np.sort(values), values, side="right")
    # low < at_most / count < high, in integers
    above = at_most > (low * count).__floor__()
    below = at_most < _ceiling(high * count)
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


def select(
    scores: Scores,
    choice: Slice,
    seed: int | str,
    final_tokens: np.ndarray | None = None,
    ranked: Ranked | None = None,
) -> Kept:
    """Apply a slice. ``final_tokens``: tokens a document in the final model's tokenizer.
    ``ranked``: what ``rank`` gave for a slice of the same figure, groups and least length.

    Raises DataError: nothing is kept, bounds that cannot all hold, a metric or a domain that the
    scores do not have.
    """
    kept = apply(scores, choice, seed, final_tokens, ranked)
    if not kept.mask.any():
        short = bool((scores.num_tokens < choice.min_tokens).all())
        raise DataError(
            f"{choice.label} keeps none of {len(scores)} documents",
            "selection",
            "lower min_tokens" if short else "raise the rate, or give the pool more documents",
        )
    return kept


def apply(
    scores: Scores,
    choice: Slice,
    seed: int | str,
    final_tokens: np.ndarray | None = None,
    ranked: Ranked | None = None,
) -> Kept:
    """The same, and it may keep nothing."""
    refuse_unknown(scores, choice)
    tokens = scores.num_tokens if final_tokens is None else final_tokens
    if _by_preference(choice):
        kept = Kept(np.zeros(len(scores), bool), None)
        able = np.flatnonzero(scores.num_tokens >= choice.min_tokens)
        if len(able):
            kept.mask[able[_bounded(scores.take(able), choice, seed, tokens[able])]] = True
    elif choice.rule == "paper":
        kept = Kept(np.zeros(len(scores), bool), None)
        able = np.flatnonzero(scores.num_tokens >= choice.min_tokens)
        part = scores.take(able)
        values = values_of(part, choice, seed)(slice(None))
        for members in _by_group(groups(part, choice)):
            kept.mask[able[members[paper_keep(choice, values[members])]]] = True
    elif ranked is None and choice.by == "corpus" and choice.min_tokens == 1:
        kept = _cut(scores, choice, seed, tokens)
    else:
        kept = Kept(_inside_span(ranked or rank(scores, choice, seed, tokens), choice), None)
    return kept


def _by_group(codes: np.ndarray) -> Iterator[np.ndarray]:
    """The members of every group, as ascending numbers."""
    order = np.argsort(codes, kind="stable")
    edges = np.flatnonzero(np.diff(codes[order])) + 1
    yield from (part for part in np.split(order, edges) if len(part))


def rank(
    scores: Scores, choice: Slice, seed: int | str, tokens: np.ndarray | None = None
) -> Ranked:
    """The place of every document in its group; ``tokens`` as in ``select``."""
    able = np.flatnonzero(scores.num_tokens >= choice.min_tokens)
    columns = [
        np.full(len(scores), -1, np.int64),
        *(np.zeros(len(scores), np.int64) for _ in "123"),
    ]
    if len(able):
        whole = len(able) == len(scores)
        part = scores if whole else scores.take(able)
        weights = scores.num_tokens if tokens is None else tokens
        values = values_of(part, choice, seed)(slice(None))
        ties = mix(part.key, f"ties {seed}")
        if choice.by == "corpus":
            codes = np.zeros(len(able), np.int64)
            order = np.lexsort((part.key, ties, values))
        else:
            codes = groups(part, choice)
            order = np.lexsort((part.key, ties, values, codes))
            codes = codes[order]
        rows = order if whole else able[order]
        middles, columns[1][rows] = _inside(codes, np.ones(len(order), np.int64))
        columns[0][rows] = middles // 2
        columns[2][rows], columns[3][rows] = _inside(codes, weights[rows].astype(np.int64))
    return Ranked(*columns)


def _inside_span(ranked: Ranked, choice: Slice) -> np.ndarray:
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


def groups(scores: Scores, choice: Slice) -> np.ndarray:
    """The group that a document is ranked in, int64; octaves are floor(log2(num_tokens))."""
    if choice.by == "corpus":
        return np.zeros(len(scores), np.int64)
    assert scores.domain is not None
    if choice.by == "domain":
        return scores.domain.astype(np.int64)
    return cells(scores.domain, scores.num_tokens)


def cells(domain: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Domain x octave of length as one code, int64."""
    result: np.ndarray = domain.astype(np.int64) * 64 + octaves(lengths)
    return result


def octaves(lengths: np.ndarray) -> np.ndarray:
    """floor(log2) of positive lengths, int."""
    result: np.ndarray = np.frexp(lengths.astype(np.float64))[1] - 1
    return result


def _by_preference(choice: Slice) -> bool:
    return choice.bounded or choice.criterion == "soft"


def _cut(scores: Scores, choice: Slice, seed: int | str, tokens: np.ndarray) -> Kept:
    """An interval of one rank order, found without sorting it."""
    count = len(scores)
    values = values_of(scores, choice, seed)
    weights = None if choice.unit == "documents" else tokens
    if weights is None:
        points = [2 * place for place in document_span(choice, count)]
        whole = 2 * count
    else:
        total = int(weights.sum(dtype=np.int64))
        points, whole = list(token_span(choice, total)), 2 * total
    lower, upper = (
        cut.before(values, weights, scores.key, seed, point)
        if 0 < point < whole
        else np.full(count, point > 0)
        for point in points
    )
    first = int(lower.sum())
    return Kept(np.logical_and(upper, np.logical_not(lower, out=lower), out=upper), first)


def sizes_of(choice: Slice, tokens: np.ndarray) -> np.ndarray:
    """What a slice counts of each document: its tokens, or one."""
    return tokens if choice.unit == "tokens" else np.ones(len(tokens), np.int64)


def preference(scores: Scores, choice: Slice, seed: int | str, tokens: np.ndarray) -> np.ndarray:
    """Documents in the order in which a slice would take them, were its budget to grow; ``tokens``
    as in ``select``.

    low: from the lowest; high: from the highest; medium, band: outwards from the centre, the lower
    first; soft: an exponential race with rates exp(-((position - centre) / spread)^2 / 2), which
    draws without replacement in proportion to them (Efraimidis and Spirakis 2006). By domain: the
    position inside the group counts.
    """
    values = values_of(scores, choice, seed)(slice(None))
    own = sizes_of(choice, tokens)
    if choice.by != "corpus":
        values = _position_in_group(values, groups(scores, choice), scores.key, seed, own)
    order = ranking(values, scores.key, seed)
    if choice.criterion == "low":
        return order
    if choice.criterion == "high":
        return order[::-1]
    low, high = bounds(choice)
    sizes = own[order]
    middles = 2 * np.cumsum(sizes, dtype=np.int64) - sizes  # doubled, as everywhere
    total = int(sizes.sum(dtype=np.int64))
    if choice.criterion == "soft":
        away = (middles / (2 * total) - float((low + high) / 2)) / float(choice.spread)
        drawn = (mix(scores.key[order], f"soft {seed}").astype(np.float64) + 0.5) / 2.0**64
        race = np.log(-np.log(np.minimum(drawn, 1 - 1e-16))) + away * away / 2
        return order[np.argsort(race, kind="stable")]
    centre = 2 * (low + high) * total
    scale = centre.denominator if centre.denominator * total < 1 << 60 else 1
    away = np.abs(2 * scale * middles - int((scale * centre).__floor__()))
    return order[np.argsort(away, kind="stable")]


def _position_in_group(
    values: np.ndarray, group: np.ndarray, keys: np.ndarray, seed: int | str, sizes: np.ndarray
) -> np.ndarray:
    """Midpoint of the cumulative size inside the group over the group's size."""
    order = np.lexsort((keys, mix(keys, f"ties {seed}"), values, group))
    middles, totals = _inside(group[order], sizes[order])
    result = np.empty(len(values))
    result[order] = middles / (2 * totals)
    return result


def _inside(codes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Doubled midpoints inside each run of equal codes, and the run's total, per row."""
    starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
    ends = np.cumsum(sizes, dtype=np.int64)
    before = (ends - sizes)[starts]
    lengths = np.diff(np.append(starts, len(codes)))
    totals = np.add.reduceat(sizes, starts)
    return 2 * (ends - np.repeat(before, lengths)) - sizes, np.repeat(totals, lengths)


def _bounded(scores: Scores, choice: Slice, seed: int | str, tokens: np.ndarray) -> np.ndarray:
    """The documents taken by preference: first every domain's floor, then the rest to the budget,
    none above its domain's cap.

    The document that a floor needs to be full comes before the rest, and the one that a cap cuts
    after it, while the budget lasts: floors and caps that can hold as shares leave room for it.
    """
    low, high = bounds(choice)
    order = preference(scores, choice, seed, tokens)
    sizes = sizes_of(choice, tokens)[order]
    total = int(sizes.sum(dtype=np.int64))
    budget = (high - low) * total
    domain = np.zeros(len(order), np.int64) if scores.domain is None else scores.domain[order]
    by_domain = np.argsort(domain, kind="stable")
    middles = np.empty(len(order), np.int64)
    middles[by_domain], _ = _inside(domain[by_domain], sizes[by_domain])
    names = scores.domains or ("",)
    amounts = np.zeros(len(names), np.int64)
    np.add.at(amounts, domain, sizes)
    shares = [tuple(map(Fraction, choice.bounds_of(name))) for name in names]
    owed = sum(share[0] * int(n) for share, n in zip(shares, amounts, strict=True))
    most = sum(share[1] * int(n) for share, n in zip(shares, amounts, strict=True))
    if owed > budget or most < budget:
        side = (
            f"floors keep {float(owed / total):.1%}"
            if owed > budget
            else (f"caps leave {float(most / total):.1%}")
        )
        raise DataError(
            f"{choice.label}: the {side} of the {choice.unit}, and the slice is "
            f"{float(budget / total):.1%}",
            "protect, floor and cap",
            "change the rate or the bounds",
        )
    doubled = [
        [2 * share[i] * int(n) for share, n in zip(shares, amounts, strict=True)] for i in (0, 1)
    ]
    (floors, floors_up), (caps_down, caps) = (
        (np.array([v.__floor__() for v in values]), np.array([_ceiling(v) for v in values]))
        for values in doubled
    )
    starts, ends = middles - sizes, middles + sizes
    taken = ends <= floors[domain]
    turn = np.full(len(order), 1)  # of the others, by preference in each turn
    turn[starts < floors_up[domain]] = 0  # the one that makes a floor full
    turn[ends > caps_down[domain]] = 2  # the one that a cap cuts
    able = np.flatnonzero(~taken & (starts < caps[domain]))
    able = able[np.argsort(turn[able], kind="stable")]
    left = (2 * budget - 2 * int(sizes[taken].sum())).__floor__()
    mine = sizes[able]
    taken[able[2 * np.cumsum(mine) - mine <= left]] = True
    mask = np.zeros(len(order), bool)
    mask[order[taken]] = True
    return mask


def ranks(scores: Scores, choice: Slice, kept: Kept, seed: int | str) -> np.ndarray:
    """The rank of each kept document in its group, int64, in canonical order."""
    if kept.first is None or scores.fold is not None:
        return rank(scores, choice, seed).rank[kept.mask]
    values = metric(scores, choice, kept.mask)
    order = ranking(values, scores.key[kept.mask], seed)
    result = np.empty(len(order), np.int64)
    result[order] = np.arange(kept.first, kept.first + len(order))
    return result


def manifest(
    scores: Scores, choice: Slice, kept: Kept, final_tokens: np.ndarray, seed: int
) -> dict[str, Any]:
    """What the slice is and how much it keeps; why a document was dropped follows from it."""
    inside = metric(scores, choice, kept.mask)
    return {
        "name": choice.label,
        "slice": choice.model_dump(mode="json"),
        "seed": seed,
        "kept_documents": int(kept.mask.sum()),
        "kept_tokens": int(final_tokens[kept.mask].sum()) if scores.has_tokens else None,
        "kept_bytes": int(scores.num_bytes[kept.mask].sum()) if scores.has_bytes else None,
        "pool_documents": len(scores),
        "pool_tokens": int(final_tokens.sum()) if scores.has_tokens else None,
        "pool_bytes": int(scores.num_bytes.sum()) if scores.has_bytes else None,
        "lowest": float(inside.min()),
        "highest": float(inside.max()),
    }


def write_kept(scores_path: Path, kept: Kept, ranks: np.ndarray, target: Path) -> None:
    """kept.parquet: key, id, source, row, rank of the kept documents, in canonical order."""
    source = pq.ParquetFile(scores_path)
    names = [n for n in ("key", "id", "source", "row") if n in source.schema_arrow.names]
    schema = pa.schema(
        [*(source.schema_arrow.field(n) for n in names), pa.field("rank", pa.int64())]
    )
    at = written = 0
    with pq.ParquetWriter(target, schema) as out:
        for batch in source.iter_batches(batch_size=65_536, columns=names):
            here = slice(at, at + batch.num_rows)
            rows = pa.array(np.flatnonzero(kept.mask[here]))
            columns = [batch.column(i).take(rows) for i in range(len(names))]
            mine = pa.array(ranks[written : written + len(rows)])
            out.write_batch(pa.record_batch([*columns, mine], schema=schema))
            at += batch.num_rows
            written += len(rows)
