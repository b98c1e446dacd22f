"""Domains and lengths before and after, and which of them a slice all but removes."""

from __future__ import annotations

import numpy as np

from mlxprune.selection.composition import (
    DomainRow,
    composition_columns,
    domain_table,
    length_table,
    lost_domains,
    overlap,
    overlap_by_chance,
)


def test_tables_add_up(generator: np.random.Generator) -> None:
    count = 500
    domain = generator.integers(0, 3, count)
    tokens = generator.integers(1, 900, count)
    sizes = tokens * 4
    mask = generator.random(count) < 0.4
    values = generator.normal(3, 1, count)
    names = ["a", "b", "c", "nobody"]
    of = composition_columns(domain, 4, tokens, tokens, sizes, values)
    table = domain_table(domain, names, of, mask)
    for row, name in zip(table, names, strict=True):
        mine = domain == names.index(name)
        assert row.domain == name
        assert row.documents == mine.sum()
        assert row.kept_tokens == tokens[mine & mask].sum()
        assert row.kept_bytes == sizes[mine & mask].sum()
        if mine.any():
            np.testing.assert_allclose(row.quantiles, np.quantile(values[mine], [0.1, 0.5, 0.9]))
    lengths = length_table(tokens, of, mask)
    assert sum(r.documents for r in lengths) == count
    assert sum(r.kept_tokens for r in lengths) == tokens[mask].sum()
    for row in lengths:
        inside = (tokens >= row.from_tokens) & (tokens < 2 * row.from_tokens)
        assert row.documents == inside.sum()
        assert row.kept_documents == (inside & mask).sum()


def test_domains_that_vanish_are_told() -> None:
    def row(name: str, tokens: int, kept: int) -> DomainRow:
        rate = kept / tokens if tokens else 0.0
        return DomainRow(
            domain=name, tokens=tokens, documents=tokens, kept_documents=kept, keep_rate=rate,
            kept_tokens=kept, bytes=tokens, kept_bytes=kept, share_before=0.0, share_after=0.0,
        )  # fmt: skip

    told = lost_domains([row("a", 100, 0), row("b", 200, 15), row("c", 50, 30), row("d", 0, 0)])
    assert [sentence.split()[0] for sentence in told] == ["b", "a"]
    assert "vanishes" in told[1]
    assert "7.5%" in told[0]


def test_overlap_by_chance_is_that_of_blind_draws(generator: np.random.Generator) -> None:
    cell = generator.integers(0, 5, 20_000)
    kept = generator.random(20_000) < 0.1 + 0.2 * cell
    mine = np.zeros(20_000, bool)
    for code in range(5):
        here = np.flatnonzero(cell == code)
        mine[generator.permutation(here)[: int(kept[here].sum())]] = True
    expected = overlap_by_chance(mine, kept, cell)
    assert abs(overlap(mine, kept) - expected) < 0.02
