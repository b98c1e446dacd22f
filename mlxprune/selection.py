"""Selection: which documents a slice keeps, from scores alone.

Pure arithmetic on arrays, exact: rates are decimals, counts and token thresholds are integers, ties
are broken by a seeded mix of the key, so equal scores never depend on the order of the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlxprune import cut, runs
from mlxprune.config import Slice
from mlxprune.errors import DataError, one_line
from mlxprune.keys import mix

VERSION = 1
LN2 = float(np.log(2.0))
COLUMNS = ("key", "nll_sum", "num_tokens", "num_bytes")


@dataclass(frozen=True)
class Scores:
    """Columns of a scores file, one row a document: uint64, float64, int64, int64."""

    key: np.ndarray
    nll_sum: np.ndarray
    num_tokens: np.ndarray
    num_bytes: np.ndarray
    truncated: np.ndarray | None = None  # which documents were scored in part, where it is known

    def __len__(self) -> int:
        return len(self.key)


def read_scores(path: Path) -> Scores:
    """Raises DataError: not a scores file, a NaN or infinite score, a document without tokens."""
    try:
        columns = [*COLUMNS, "truncated"]
        have = pq.read_schema(path).names
        table = pq.read_table(path, columns=[c for c in columns if c in have])
    except (pa.ArrowException, OSError, KeyError) as error:
        fix = "give a scores.parquet of mlxprune score or a run folder"
        raise DataError(f"cannot read the scores: {one_line(error)}", str(path), fix) from None
    missing = [c for c in COLUMNS if c not in table.column_names]
    if missing:
        fix = f"a scores file has the columns {', '.join(COLUMNS)}"
        raise DataError(f"no column {', '.join(missing)}", str(path), fix)
    part = table.column("truncated").to_numpy() if "truncated" in have else None
    key, nll_sum, num_tokens, num_bytes = (table.column(c).to_numpy() for c in COLUMNS)
    scores = Scores(key, nll_sum, num_tokens, num_bytes, part)
    bad = int((~np.isfinite(scores.nll_sum)).sum() + (scores.num_tokens <= 0).sum())
    if bad:
        raise DataError(f"{bad} scores are not finite or have no token", str(path), "score again")
    if len(scores) == 0:
        raise DataError("no scored document", str(path), "give the pool more text")
    return scores


def metric(scores: Scores, name: str, where: slice | np.ndarray = slice(None)) -> np.ndarray:
    """The figure that documents are ranked by, float64: mean NLL in nats, or bits per byte."""
    if name == "bpb":
        return scores.nll_sum[where] / (LN2 * scores.num_bytes[where])
    return scores.nll_sum[where] / scores.num_tokens[where]


def ranking(values: np.ndarray, keys: np.ndarray, seed: int) -> np.ndarray:
    """Documents from the lowest value to the highest; ties in seeded order."""
    return np.lexsort((keys, mix(keys, f"ties {seed}"), values))


def half_up(share: Fraction, count: int) -> int:
    """floor(share * count + 1/2), exactly."""
    return int((share * count + Fraction(1, 2)).__floor__())


def bounds(choice: Slice) -> tuple[Fraction, Fraction]:
    """The band [a, b] of ranks that a criterion means, as shares."""
    if choice.band is not None:
        return Fraction(choice.band[0]), Fraction(choice.band[1])
    rate = Fraction(choice.rate or 0)
    if choice.criterion == "low":
        return Fraction(0), rate
    if choice.criterion == "high":
        return 1 - rate, Fraction(1)
    return (1 - rate) / 2, (1 + rate) / 2


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
    """``mask`` bool [documents]: kept or not; ``first``: the rank of the lowest that is kept."""

    mask: np.ndarray
    first: int


def select(
    scores: Scores, choice: Slice, seed: int, final_tokens: np.ndarray | None = None
) -> Kept:
    """Apply a slice. ``final_tokens``: tokens a document in the final model's tokenizer.

    Raises DataError when nothing is kept.
    """
    in_part = int(scores.truncated.sum()) if scores.truncated is not None else 0
    if choice.metric == "bpb" and in_part:
        raise DataError(
            f"{in_part} documents were scored in part: their bits per byte are not known",
            "selection.metric: bpb",
            "rank by perplexity, or score whole documents (score.long_documents: windows)",
        )
    count = len(scores)
    if choice.rule == "paper":
        values = metric(scores, choice.metric)
        mask = paper_keep(choice, values)
        first = int((values < values[mask].min()).sum()) if mask.any() else 0
    else:
        weights = None
        if choice.unit == "documents":
            points = [2 * rank for rank in document_span(choice, count)]
            whole = 2 * count
        else:
            weights = scores.num_tokens if final_tokens is None else final_tokens
            total = int(weights.sum(dtype=np.int64))
            points, whole = list(token_span(choice, total)), 2 * total

        def values_of(part: slice) -> np.ndarray:
            return metric(scores, choice.metric, part)

        lower, upper = (
            cut.before(values_of, weights, scores.key, seed, point)
            if 0 < point < whole
            else np.full(count, point > 0)
            for point in points
        )
        first = int(lower.sum())
        mask = np.logical_and(upper, np.logical_not(lower, out=lower), out=upper)
    if not mask.any():
        raise DataError(
            f"{choice.name()} keeps none of {count} documents",
            "selection",
            "raise the rate, or give the pool more documents",
        )
    return Kept(mask, first)


def ranks(scores: Scores, choice: Slice, kept: Kept, seed: int) -> np.ndarray:
    """The rank of each kept document, int64, in canonical order: a slice is an interval of it."""
    order = ranking(metric(scores, choice.metric, kept.mask), scores.key[kept.mask], seed)
    result = np.empty(len(order), np.int64)
    result[order] = np.arange(kept.first, kept.first + len(order))
    return result


def manifest(
    scores: Scores, choice: Slice, kept: Kept, final_tokens: np.ndarray, seed: int
) -> dict[str, Any]:
    """What the slice is and how much it keeps; why a document was dropped follows from it."""
    inside = metric(scores, choice.metric, kept.mask)
    return {
        "name": choice.name(),
        "slice": choice.model_dump(mode="json"),
        "seed": seed,
        "kept_documents": int(kept.mask.sum()),
        "kept_tokens": int(final_tokens[kept.mask].sum()),
        "kept_bytes": int(scores.num_bytes[kept.mask].sum()),
        "pool_documents": len(scores),
        "pool_tokens": int(final_tokens.sum()),
        "pool_bytes": int(scores.num_bytes.sum()),
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


def domain_table(
    domains: np.ndarray,
    names: list[str],
    tokens: np.ndarray,
    sizes: np.ndarray,
    mask: np.ndarray,
) -> list[dict[str, Any]]:
    """Documents, tokens, bytes and shares of every domain before and after."""

    def sums(weights: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
        here = domains if chosen is None else domains[chosen]
        values = weights if chosen is None else weights[chosen]
        return np.bincount(here, weights=values, minlength=len(names))

    ones = np.ones(len(domains))
    columns = {
        "documents": sums(ones),
        "kept_documents": sums(ones, mask),
        "tokens": sums(tokens),
        "kept_tokens": sums(tokens, mask),
        "bytes": sums(sizes),
        "kept_bytes": sums(sizes, mask),
    }
    all_tokens, all_kept = max(columns["tokens"].sum(), 1), max(columns["kept_tokens"].sum(), 1)
    table = []
    for i, name in enumerate(names):
        row: dict[str, Any] = {"domain": name, **{k: int(v[i]) for k, v in columns.items()}}
        row["share_before"] = row["tokens"] / all_tokens
        row["share_after"] = row["kept_tokens"] / all_kept
        row["keep_rate"] = row["kept_tokens"] / row["tokens"] if row["tokens"] else 0.0
        table.append(row)
    return table


def random_documents(keys: np.ndarray, tokens: np.ndarray, budget: int, seed: int) -> np.ndarray:
    """The random arm: pool documents in seeded hash order until ``budget`` tokens.

    The last document is taken if that comes closer to the budget; result in canonical order.
    """
    order = np.lexsort((keys, mix(keys, f"random arm {seed}")))
    sums = np.cumsum(tokens[order], dtype=np.int64)
    count = int(np.searchsorted(sums, budget, side="left"))
    if count < len(order):
        before = int(sums[count - 1]) if count else 0
        if count == 0 or int(sums[count]) - budget <= budget - before:
            count += 1
    return np.sort(order[:count])


def explain(scores_path: Path, folder: Path, document_id: str) -> list[dict[str, Any]]:
    """Score, rank, band and reason of every scored document with this id."""
    import pyarrow.compute as pc

    facts = runs.read_json(folder / "manifest.json")
    choice = Slice.model_validate(facts["slice"])
    scores = read_scores(scores_path)
    final_tokens = np.load(folder / "tokens.npy")
    kept = select(scores, choice, facts["seed"], final_tokens)
    table = pq.read_table(scores_path, columns=["id", "source", "row", "domain"])
    found = np.flatnonzero(pc.equal(table.column("id"), document_id).to_numpy())
    order = ranking(metric(scores, choice.metric), scores.key, facts["seed"])
    ranked = np.empty(len(order), np.int64)
    ranked[order] = np.arange(len(order))
    low, high = bounds(choice)
    result = []
    for at in found.tolist():
        rank = int(ranked[at])
        row = {name: table.column(name)[at].as_py() for name in table.column_names}
        position = rank / len(scores)
        if choice.unit == "tokens" and choice.rule == "exact":
            counts = final_tokens[order]
            position = float((2 * counts[:rank].sum() + counts[rank]) / (2 * counts.sum()))
        row |= {
            "perplexity": float(np.exp(scores.nll_sum[at] / scores.num_tokens[at])),
            "mean_nll": float(scores.nll_sum[at] / scores.num_tokens[at]),
            "num_tokens": int(scores.num_tokens[at]),
            "rank": rank,
            "of": len(scores),
            "position": position,
            "kept": bool(kept.mask[at]),
        }
        side = "inside" if kept.mask[at] else ("below" if position < low else "above")
        unit = "tokens" if choice.unit == "tokens" else "documents"
        row["reason"] = (
            f"{'kept' if kept.mask[at] else 'dropped'} by {choice.name()}: at {position:.2%} of "
            f"the {unit} by {choice.metric}, {side} the band "
            f"[{float(low):.2%}, {float(high):.2%}]"
        )
        result.append(row)
    return result
