"""Composition: what a slice does to the domains and the lengths of a corpus."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from mlxprune.config.slices import Slice
from mlxprune.records import Json, SparseRecord
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.metric import metric_values
from mlxprune.selection.ranking import octaves
from mlxprune.stats import spearman

LOST = 0.9  # a domain that loses more of its tokens than this is worth a warning


@dataclass(frozen=True)
class CompositionColumns:
    """What is summed of every document, int64: tokens, bytes of text; and what is known of a slice
    before it is taken: the 10, 50 and 90 % quantiles of the ranked figure by group."""

    tokens: np.ndarray
    sizes: np.ndarray
    by_domain: list[list[float] | None]
    by_octave: list[list[float] | None]


def composition_columns(
    domain: np.ndarray,
    domains: int,
    lengths: np.ndarray,
    tokens: np.ndarray,
    sizes: np.ndarray,
    values: np.ndarray,
) -> CompositionColumns:
    """Columns of documents with these codes of domains, lengths and ranked figures."""
    octave = octaves(lengths)
    return CompositionColumns(
        tokens,
        sizes,
        _quantiles(domain, domains, values),
        _quantiles(octave, int(octave.max()) + 1, values),
    )


class CompositionRow(SparseRecord):
    """Documents, tokens and bytes of a group before and after a slice, their shares of all tokens,
    and the 10, 50 and 90 % quantiles of the figure that documents are ranked by."""

    documents: int
    kept_documents: int
    tokens: int
    kept_tokens: int
    bytes: int
    kept_bytes: int
    share_before: float
    share_after: float
    keep_rate: float  # of the tokens
    quantiles: list[float] | None = None


class DomainRow(CompositionRow, kw_only=True):
    domain: str


class LengthRow(CompositionRow, kw_only=True):
    from_tokens: int  # documents of so many, to just under twice as many


def domain_table(
    domain: np.ndarray, names: list[str], of: CompositionColumns, mask: np.ndarray
) -> list[DomainRow]:
    """What a slice does to every domain; ``mask`` bool [documents] is what it keeps."""
    rows = _table(domain, len(names), of, mask, of.by_domain)
    return [DomainRow(domain=name, **row) for name, row in zip(names, rows, strict=True)]


def length_table(lengths: np.ndarray, of: CompositionColumns, mask: np.ndarray) -> list[LengthRow]:
    """The same by octave of length."""
    octave = octaves(lengths)
    table = _table(octave, int(octave.max()) + 1, of, mask, of.by_octave)
    rows = [LengthRow(from_tokens=1 << code, **row) for code, row in enumerate(table)]
    return [row for row in rows if row.documents]


def _quantiles(codes: np.ndarray, count: int, values: np.ndarray) -> list[list[float] | None]:
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(count + 1))
    parts = (values[order[a:b]] for a, b in itertools.pairwise(edges))
    return [np.quantile(p, [0.1, 0.5, 0.9]).tolist() if len(p) else None for p in parts]


def _table(
    codes: np.ndarray,
    count: int,
    of: CompositionColumns,
    mask: np.ndarray,
    quantiles: list[list[float] | None],
) -> list[Json]:
    """The fields of ``CompositionRow`` by code."""
    kept = codes[mask]

    def sums(weights: np.ndarray | None, chosen: bool) -> np.ndarray:
        if weights is None:
            return np.bincount(kept if chosen else codes, minlength=count)
        some = weights[mask] if chosen else weights
        return np.bincount(kept if chosen else codes, weights=some, minlength=count)

    columns = {
        f"{'kept_' if chosen else ''}{name}": sums(weights, chosen)
        for name, weights in (("documents", None), ("tokens", of.tokens), ("bytes", of.sizes))
        for chosen in (False, True)
    }
    all_tokens, all_kept = max(columns["tokens"].sum(), 1), max(columns["kept_tokens"].sum(), 1)
    table = []
    for code in range(count):
        row: Json = {k: int(v[code]) for k, v in columns.items()}
        row["share_before"] = row["tokens"] / all_tokens
        row["share_after"] = row["kept_tokens"] / all_kept
        row["keep_rate"] = row["kept_tokens"] / row["tokens"] if row["tokens"] else 0.0
        if quantiles[code] is not None:
            row["quantiles"] = quantiles[code]
        table.append(row)
    return table


def lost_domains(table: list[DomainRow]) -> list[str]:
    """A sentence for every domain that a slice all but removes."""
    sentences = []
    for row in sorted(table, key=lambda r: -r.tokens):
        if not row.tokens:
            continue
        if not row.kept_documents:
            sentences.append(f"{row.domain} vanishes ({row.documents:,} documents)")
        elif row.keep_rate < 1 - LOST:
            sentences.append(f"{row.domain} keeps {row.keep_rate:.1%} of its tokens")
    return sentences


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


class Agreement(SparseRecord):
    """How far references agree on ``documents`` that all of them scored: rank correlations, and the
    share of decisions that differ from one to another; None where there are no two."""

    documents: int
    references: int
    spearman: float | None
    flips: float | None
    lowest_spearman: float | None = None


def agreement(
    own: list[Scores], held_out: list[Scores], low: float, high: float, choice: Slice
) -> Agreement:
    """How far references that scored the same held-out documents agree.

    ``own[j]`` is what reference j scored of its fold, ``held_out[j]`` the shared documents, in one
    order. A document's decision is whether its percentile among the fold lies in the band.
    """
    decisions, figures = [], []
    for mine, shared in zip(own, held_out, strict=True):
        if not len(mine):  # a fold of nothing has no percentiles
            continue
        values = metric_values(shared, choice)
        ranked = np.sort(metric_values(mine, choice))
        percentile = np.searchsorted(ranked, values, side="left") / len(ranked)
        decisions.append((low <= percentile) & ((percentile < high) | (high >= 1)))
        figures.append(values)
    pairs = [(i, j) for i in range(len(figures)) for j in range(i)]
    if not pairs:
        return Agreement(documents=0, references=len(figures), spearman=None, flips=None)
    correlations = [spearman(figures[i], figures[j]) for i, j in pairs]
    flips = [float((decisions[i] != decisions[j]).mean()) for i, j in pairs]
    return Agreement(
        documents=len(figures[0]),
        references=len(own),
        spearman=float(np.mean(correlations)),
        lowest_spearman=float(np.min(correlations)),
        flips=float(np.mean(flips)),
    )


def domain_auc(rows: list[DomainRow]) -> float | None:
    """How well the domain alone, without reading a text, tells kept from dropped documents: the
    chance that a kept one stands in a domain of which more is kept than of a dropped one's, equal
    rates counting half (the area under the curve). 0.5: not at all; None: one side is empty."""
    kept = np.array([row.kept_documents for row in rows], np.float64)
    dropped = np.array([row.documents for row in rows], np.float64) - kept
    if not kept.sum() or not dropped.sum():
        return None
    rate = kept / np.maximum(kept + dropped, 1)
    above = (rate[:, None] > rate[None, :]) + 0.5 * (rate[:, None] == rate[None, :])
    return float(kept @ above @ dropped / (kept.sum() * dropped.sum()))
