"""Selection: which documents a slice keeps, from scores alone.

Exact: rates are decimals, counts and token thresholds are integers, ties are broken by a seeded mix
of the key, so equal scores never depend on the order of the input.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlxprune.config.slices import Slice
from mlxprune.data.hashing import mix
from mlxprune.errors import DataError
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.absolute import resolved
from mlxprune.selection.metric import refuse_impossible
from mlxprune.selection.radix_select import lies_before
from mlxprune.selection.ranking import (
    Kept,
    Ranked,
    ceiling,
    document_span,
    inside_runs,
    inside_span,
    members_by_group,
    paper_keep,
    rank_band,
    rank_documents,
    rank_groups,
    rank_order,
    ranked_values,
    token_span,
)

SELECTION_VERSION = 2


KEPT_COLUMNS = ("key", "id", "source", "row")


def select_slice(
    scores: Scores,
    choice: Slice,
    seed: int | str,
    final_tokens: np.ndarray | None = None,
    ranked: Ranked | None = None,
) -> Kept:
    """Apply a slice. ``final_tokens``: tokens a document in the final model's tokenizer.
    ``ranked``: what ``rank_documents`` gave for a slice of the same figure, groups and least
    length.

    Raises DataError: nothing is kept, bounds that cannot all hold, a metric or a domain that the
    scores do not have.
    """
    kept = apply_slice(scores, choice, seed, final_tokens, ranked)
    if not kept.mask.any():
        short = bool((scores.num_tokens < choice.min_tokens).all())
        raise DataError(
            f"{choice.label} keeps none of {len(scores)} documents",
            "selection",
            "lower min_tokens" if short else "raise the rate, or give the pool more documents",
        )
    return kept


def apply_slice(
    scores: Scores,
    choice: Slice,
    seed: int | str,
    final_tokens: np.ndarray | None = None,
    ranked: Ranked | None = None,
) -> Kept:
    """The same, and it may keep nothing."""
    refuse_impossible(scores, choice)
    tokens = scores.num_tokens if final_tokens is None else final_tokens
    choice = resolved(choice, scores, tokens)
    if _by_preference(choice):
        kept = Kept(np.zeros(len(scores), bool), None)
        able = np.flatnonzero(scores.num_tokens >= choice.min_tokens)
        if len(able):
            kept.mask[able[_bounded(scores.take(able), choice, seed, tokens[able])]] = True
    elif choice.rule == "paper":
        kept = Kept(np.zeros(len(scores), bool), None)
        able = np.flatnonzero(scores.num_tokens >= choice.min_tokens)
        part = scores.take(able)
        values = ranked_values(part, choice, seed)(slice(None))
        for members in members_by_group(rank_groups(part, choice)):
            kept.mask[able[members[paper_keep(choice, values[members])]]] = True
    elif ranked is None and choice.by == "corpus" and choice.min_tokens == 1:
        kept = _cut(scores, choice, seed, tokens)
    else:
        kept = Kept(
            inside_span(ranked or rank_documents(scores, choice, seed, tokens), choice), None
        )
    return kept


def _by_preference(choice: Slice) -> bool:
    return choice.bounded or choice.criterion == "soft"


def _cut(scores: Scores, choice: Slice, seed: int | str, tokens: np.ndarray) -> Kept:
    """An interval of one rank order, found without sorting it."""
    count = len(scores)
    values = ranked_values(scores, choice, seed)
    weights = None if choice.unit == "documents" else tokens
    if weights is None:
        points = [2 * place for place in document_span(choice, count)]
        whole = 2 * count
    else:
        total = int(weights.sum(dtype=np.int64))
        points, whole = list(token_span(choice, total)), 2 * total
    lower, upper = (
        lies_before(values, weights, scores.key, seed, point)
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
    int64 [documents].

    low: from the lowest; high: from the highest; medium, band: outwards from the centre, the lower
    first; soft: an exponential race with rates exp(-((position - centre) / spread)^2 / 2), which
    draws without replacement in proportion to them (Efraimidis and Spirakis 2006). By domain: the
    position inside the group counts.
    """
    values = ranked_values(scores, choice, seed)(slice(None))
    own = sizes_of(choice, tokens)
    if choice.by != "corpus":
        values = _position_in_group(values, rank_groups(scores, choice), scores.key, seed, own)
    order = rank_order(values, scores.key, seed)
    if choice.criterion == "low":
        return order
    if choice.criterion == "high":
        return order[::-1]
    low, high = rank_band(choice)
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
    middles, totals = inside_runs(group[order], sizes[order])
    result = np.empty(len(values))
    result[order] = middles / (2 * totals)
    return result


def _bounded(scores: Scores, choice: Slice, seed: int | str, tokens: np.ndarray) -> np.ndarray:
    """The documents taken by preference: first every domain's floor, then the rest to the budget,
    none above its domain's cap.

    The document that a floor needs to be full comes before the rest, and the one that a cap cuts
    after it, while the budget lasts: floors and caps that can hold as shares leave room for it.
    """
    low, high = rank_band(choice)
    order = preference(scores, choice, seed, tokens)
    sizes = sizes_of(choice, tokens)[order]
    total = int(sizes.sum(dtype=np.int64))
    budget = (high - low) * total
    domain = np.zeros(len(order), np.int64) if scores.domain is None else scores.domain[order]
    by_domain = np.argsort(domain, kind="stable")
    middles = np.empty(len(order), np.int64)
    middles[by_domain], _ = inside_runs(domain[by_domain], sizes[by_domain])
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
        (np.array([v.__floor__() for v in values]), np.array([ceiling(v) for v in values]))
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


def write_kept(scores_path: Path, kept: Kept, ranks: np.ndarray, target: Path) -> None:
    """kept.parquet: KEPT_COLUMNS and the rank of the kept documents, in canonical order."""
    source = pq.ParquetFile(scores_path)
    names = [n for n in KEPT_COLUMNS if n in source.schema_arrow.names]
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
