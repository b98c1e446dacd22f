"""Accounting: what a slice does to the domains and the lengths of a corpus."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxprune.scores import Scores, metric

LOST = 0.9  # a domain that loses more of its tokens than this is worth a warning


def domain_table(
    domains: np.ndarray,
    names: list[str],
    tokens: np.ndarray,
    sizes: np.ndarray,
    mask: np.ndarray,
    values: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Documents, tokens, bytes and shares of every domain before and after; with ``values``, the
    figure that documents are ranked by, its 10, 50 and 90 % quantiles."""
    table = _table(domains, len(names), tokens, sizes, mask, values)
    return [{"domain": name, **row} for name, row in zip(names, table, strict=True)]


def length_table(
    lengths: np.ndarray,
    tokens: np.ndarray,
    sizes: np.ndarray,
    mask: np.ndarray,
    values: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """The same by octave of length: documents of ``from_tokens`` to just under twice as many."""
    octave = np.frexp(lengths.astype(np.float64))[1] - 1
    table = _table(octave, int(octave.max()) + 1, tokens, sizes, mask, values)
    rows = [{"from_tokens": 1 << code, **row} for code, row in enumerate(table)]
    return [row for row in rows if row["documents"]]


def _table(
    codes: np.ndarray,
    count: int,
    tokens: np.ndarray,
    sizes: np.ndarray,
    mask: np.ndarray,
    values: np.ndarray | None,
) -> list[dict[str, Any]]:
    def sums(weights: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
        here = codes if chosen is None else codes[chosen]
        amounts = weights if chosen is None else weights[chosen]
        return np.bincount(here, weights=amounts, minlength=count)

    ones = np.ones(len(codes))
    columns = {
        "documents": sums(ones),
        "kept_documents": sums(ones, mask),
        "tokens": sums(tokens),
        "kept_tokens": sums(tokens, mask),
        "bytes": sums(sizes),
        "kept_bytes": sums(sizes, mask),
    }
    all_tokens, all_kept = max(columns["tokens"].sum(), 1), max(columns["kept_tokens"].sum(), 1)
    order = np.argsort(codes, kind="stable") if values is not None else np.zeros(0, np.int64)
    edges = np.searchsorted(codes[order], np.arange(count + 1)) if values is not None else None
    table = []
    for code in range(count):
        row: dict[str, Any] = {k: int(v[code]) for k, v in columns.items()}
        row["share_before"] = row["tokens"] / all_tokens
        row["share_after"] = row["kept_tokens"] / all_kept
        row["keep_rate"] = row["kept_tokens"] / row["tokens"] if row["tokens"] else 0.0
        if edges is not None and values is not None and row["documents"]:
            mine = values[order[edges[code] : edges[code + 1]]]
            row["quantiles"] = [float(q) for q in np.quantile(mine, [0.1, 0.5, 0.9])]
        table.append(row)
    return table


def lost_domains(table: list[dict[str, Any]]) -> list[str]:
    """A sentence for every domain that a slice all but removes."""
    told = []
    for row in sorted(table, key=lambda r: -r["tokens"]):
        if not row["tokens"]:
            continue
        if not row["kept_documents"]:
            told.append(f"{row['domain']} vanishes ({row['documents']:,} documents)")
        elif row["keep_rate"] < 1 - LOST:
            told.append(f"{row['domain']} keeps {row['keep_rate']:.1%} of its tokens")
    return told


def overlap(mine: np.ndarray, kept: np.ndarray) -> float:
    """The share of one set of documents that is in another; both bool [documents]."""
    return float((mine & kept).sum() / max(int(mine.sum()), 1))


def overlap_by_chance(mine: np.ndarray, kept: np.ndarray, cell: np.ndarray) -> float:
    """What overlap as many documents of every cell would have, were they drawn blindly."""
    _, domain = np.unique(cell, return_inverse=True)
    count = int(domain.max(initial=0)) + 1
    all_of, kept_of, mine_of = (
        np.bincount(domain[m], minlength=count) for m in (np.ones(len(mine), bool), kept, mine)
    )
    rate = np.divide(kept_of, all_of, out=np.zeros(count), where=all_of > 0)
    return float((rate * mine_of).sum() / max(int(mine.sum()), 1))


def agreement(
    own: list[Scores], held_out: list[Scores], low: float, high: float, choice: Any
) -> dict[str, Any]:
    """How far references that scored the same held-out documents agree.

    ``own[j]`` is what reference j scored of its fold, ``held_out[j]`` the shared documents, in one
    order. A document's decision is whether its percentile among the fold lies in the band.
    """
    from mlxprune.scores import spearman

    decisions, figures = [], []
    for mine, shared in zip(own, held_out, strict=True):
        values = metric(shared, choice)
        ranked = np.sort(metric(mine, choice))
        percentile = np.searchsorted(ranked, values, side="left") / len(ranked)
        decisions.append((low <= percentile) & ((percentile < high) | (high >= 1)))
        figures.append(values)
    pairs = [(i, j) for i in range(len(own)) for j in range(i)]
    correlations = [spearman(figures[i], figures[j]) for i, j in pairs]
    flips = [float((decisions[i] != decisions[j]).mean()) for i, j in pairs]
    return {
        "documents": len(figures[0]),
        "references": len(own),
        "spearman": float(np.mean(correlations)),
        "lowest_spearman": float(np.min(correlations)),
        "flips": float(np.mean(flips)),
    }
