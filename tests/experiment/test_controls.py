"""The documents of arms: budgets within one document, matched cells, blindness to scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxprune.experiment.controls import draw_by_domain, draw_matched, fit_to_budget, take_until
from mlxprune.selection.ranking import domain_length_cells


@st.composite
def pools(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(keys, domain, lengths, kept)."""
    count = draw(st.integers(1, 400))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    keys = generator.choice(2**62, count, replace=False).astype(np.uint64)
    domain = generator.integers(0, draw(st.integers(1, 4)), count)
    lengths = 2 + np.exp(generator.normal(4, draw(st.floats(0, 1.5)), count)).astype(np.int64)
    kept = generator.random(count) < draw(st.floats(0.02, 1))
    kept[generator.integers(count)] = True
    return keys, domain, lengths, kept


@given(pool=pools(), share=st.floats(0, 1))
@settings(deadline=None)
def test_a_budget_is_filled_by_whatever_still_fits(pool: Any, share: float) -> None:
    """Against a walk through the order, one document at a time."""
    keys, _, lengths, _ = pool
    order = np.argsort(keys)
    budget = share * int(lengths.sum())
    left, walked = budget, []
    for document in order.tolist():
        if lengths[document] <= left:
            walked.append(document)
            left -= int(lengths[document])
    chosen = take_until(order, lengths, budget)
    more = set(chosen.tolist()) - set(walked)
    assert set(walked) <= set(chosen.tolist())
    rest = np.setdiff1d(order, chosen)
    if more:
        (last,) = more
        assert abs(lengths[last] - left) < left
    elif len(rest):
        assert lengths[rest].min() >= 2 * left
    assert (np.diff(chosen) > 0).all()


def test_few_long_documents_do_not_miss_a_budget_by_far(generator: np.random.Generator) -> None:
    """A slice of 67k tokens with documents of up to 24k: within 0.2 % of U, as it was not."""
    lengths = np.exp(generator.normal(6, 1.2, 800)).astype(np.int64) + 20
    lengths[generator.choice(800, 12, replace=False)] = generator.integers(10_000, 24_000, 12)
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(800)
        taken = int(lengths[take_until(order, lengths, 67_132)].sum())
        assert abs(taken - 67_132) <= 0.002 * 67_132


@given(pool=pools(), seed=st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_matched_has_the_cells_of_the_slice_and_its_tokens(pool: Any, seed: int) -> None:
    keys, domain, lengths, kept = pool
    chosen = draw_matched(keys, domain, lengths, kept, int(lengths[kept].sum()), f"matched {seed}")
    mine = np.zeros(len(keys), bool)
    mine[chosen] = True
    assert len(chosen) == len(set(chosen.tolist()))
    unique, wanted = int(lengths[mine].sum()), int(lengths[kept].sum())
    assert abs(unique - wanted) <= int(lengths.max())
    cell = domain_length_cells(domain, lengths)
    apart = sum(
        abs(int((mine & (cell == c)).sum() - (kept & (cell == c)).sum())) for c in set(cell)
    )
    assert apart <= 1  # exactly, but for a slice of nearly everything


def test_matched_is_blind_to_scores(generator: np.random.Generator) -> None:
    """Inside a domain its overlap with the slice is the domain's keep rate."""
    count = 40_000
    keys = generator.choice(2**62, count, replace=False).astype(np.uint64)
    domain = generator.integers(0, 4, count)
    lengths = generator.integers(100, 120, count)  # one octave: length says nothing
    rates = np.array([0.1, 0.4, 0.7, 0.95])
    kept = generator.random(count) < rates[domain]
    unique = int(lengths[kept].sum())
    mine = np.zeros(count, bool)
    mine[draw_matched(keys, domain, lengths, kept, unique, "m")] = True
    for code, rate in enumerate(rates):
        here = domain == code
        overlap = (mine & kept & here).sum() / (mine & here).sum()
        assert abs(overlap - rate) < 0.03
    again = np.zeros(count, bool)
    again[draw_matched(keys, domain, lengths, kept, unique, "another seed")] = True
    assert (mine & again).sum() < 0.8 * mine.sum()


@given(pool=pools(), share=st.floats(0.02, 1))
@settings(deadline=None, max_examples=200)
def test_by_domain_leaves_the_mix_as_it_is(pool: Any, share: float) -> None:
    keys, domain, lengths, _ = pool
    order = np.argsort(keys)
    total = int(lengths.sum())
    budget = int(share * total)
    chosen = draw_by_domain(order, domain, lengths, budget)
    assert abs(int(lengths[chosen].sum()) - budget) <= int(lengths.max())
    for code in set(domain.tolist()):
        mine = lengths[chosen[domain[chosen] == code]].sum()
        due = budget * lengths[domain == code].sum() / total
        assert abs(mine - due) <= lengths.max()


@given(pool=pools(), share=st.floats(0.1, 1))
@settings(deadline=None)
def test_a_slice_is_cut_or_filled_by_preference(pool: Any, share: float) -> None:
    keys, _, lengths, kept = pool
    order = np.argsort(keys)
    budget = int(share * lengths.sum())
    chosen = set(fit_to_budget(kept, order, lengths, budget).tolist())
    assert abs(int(lengths[list(chosen)].sum()) - budget) <= int(lengths.max())
    inside = [d for d in order if kept[d]]
    fitting = np.cumsum(lengths[inside]) <= budget
    assert set(np.array(inside)[fitting].tolist()) <= chosen


def test_one_long_document_does_not_swallow_the_small_domains() -> None:
    lengths = np.array([50_000, 30_000, *[100] * 200])
    domain = np.array([0, 0, *[1] * 100, *[2] * 100])
    chosen = draw_by_domain(np.arange(202), domain, lengths, 30_000)
    for code in (1, 2):
        assert abs(lengths[chosen[domain[chosen] == code]].sum() - 3000) <= 100


def test_matched_reaches_the_tokens_of_a_slice_of_long_documents(
    generator: np.random.Generator,
) -> None:
    """The slice holds the longest of an octave: random pairs alone would not get there."""
    lengths = generator.integers(512, 1024, 3000)
    keys = generator.choice(2**62, 3000, replace=False).astype(np.uint64)
    kept = lengths > np.quantile(lengths, 0.7)
    chosen = draw_matched(keys, np.zeros(3000, int), lengths, kept, int(lengths[kept].sum()), "m")
    assert len(chosen) == kept.sum()
    assert abs(int(lengths[chosen].sum()) - int(lengths[kept].sum())) <= 1024
