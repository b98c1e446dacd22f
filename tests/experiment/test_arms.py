"""Arms: equal unique tokens, shared seeds, controls that say what they should."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.config.schema import Config
from mlxprune.config.slices import Slice
from mlxprune.experiment.arms import (
    Arm,
    ArmPool,
    arm_documents,
    arms_of,
    documents_identity,
    why_left_out,
)
from mlxprune.experiment.budgets import effective_data
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.ranking import domain_length_cells
from mlxprune.selection.selector import select_slice

KINDS = ["pruned", "random", "matched", "by-domain", "zlib", "unigram", "shuffled", "none", "all"]


def configuration(**sections: Any) -> Config:
    tree: dict[str, Any] = {"data": {"paths": ["x"]}, "final": {"arms": KINDS, "seeds": [0, 1]}}
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return validate_config(tree, "test")


def pool_of(chosen: Config, count: int, generator: np.random.Generator) -> ArmPool:
    """A pool of four domains whose scores depend on the domain, as real ones do."""
    keys = generator.choice(2**62, count, replace=False).astype(np.uint64)
    domain = generator.integers(0, 4, count)
    tokens = 1 + np.exp(generator.normal(4, 1, count)).astype(np.int64)
    mean = generator.normal(3 + domain, 1, count).clip(0.1)
    main = Scores(
        keys, mean * tokens, tokens, tokens * 4, domain=domain, domains=("a", "b", "c", "d")
    )
    free = replace(main, nll_sum=generator.uniform(1, 9, count) * tokens)

    def scores_of(choice: Slice) -> Scores:
        return free if choice.reference in ("zlib", "unigram") else main

    slices = {c.label: c for c in chosen.slices}
    kept = {n: select_slice(main, c, 0, tokens).mask for n, c in slices.items()}
    documents = np.arange(count) * 2
    spare = np.array([1, 3, 5])
    return ArmPool(documents, keys, domain, tokens + 1, spare, kept, slices, scores_of, 0)


def rows_of(arm: Arm, pool: ArmPool, targets: int) -> np.ndarray:
    return arm_documents(arm, pool, targets) // 2


@pytest.mark.parametrize("unit", ["documents", "tokens"])
@pytest.mark.parametrize("by", ["corpus", "domain"])
def test_unique_tokens_are_equal_within_one_document_over_all_arms(
    unit: str, by: str, generator: np.random.Generator
) -> None:
    chosen = configuration(
        selection={
            "criterion": ["low", "medium", "high"],
            "rate": [0.2, 0.5],
            "unit": unit,
            "by": by,
        }
    )
    pool = pool_of(chosen, 3000, generator)
    longest = int(pool.lengths.max())
    sizes: dict[str, list[int]] = {}
    for arm in arms_of(chosen):
        if arm.share is not None:
            rows = rows_of(arm, pool, 10**9)
            assert (np.diff(rows) > 0).all()
            sizes.setdefault(arm.share, []).append(int(pool.lengths[rows].sum()))
    assert set(sizes) == {"20", "50"}
    for share, found in sizes.items():
        assert max(found) - min(found) <= 2 * longest, share
        assert max(abs(size - pool.unique(share)) for size in found) <= longest, share


def test_arms_are_named_and_seeds_stand_together() -> None:
    chosen = configuration(
        selection={"criterion": ["low", "high"]}, final={"arms": ["pruned", "random", "matched"]}
    )
    names = [arm.name for arm in arms_of(chosen)]
    assert names[:5] == [
        "low-50-s0", "high-50-s0", "random-50-s0", "matched.low-50-s0", "matched.high-50-s0",
    ]  # fmt: skip
    assert names[5:] == [n.replace("-s0", "-s1") for n in names[:5]]


def test_controls_are_drawn_anew_for_each_seed_and_slices_are_not(
    generator: np.random.Generator,
) -> None:
    chosen = configuration()
    pool = pool_of(chosen, 2000, generator)
    for kind in KINDS:
        first, second = (
            set(rows_of(a, pool, 10**9).tolist()) for a in arms_of(chosen) if a.kind == kind
        )
        drawn = kind in ("random", "matched", "shuffled")
        assert (first != second) == drawn, kind
        again = next(a for a in arms_of(chosen) if a.kind == kind)
        assert set(rows_of(again, pool, 10**9).tolist()) == first


def test_shuffled_has_the_distribution_of_random(generator: np.random.Generator) -> None:
    """Domains, lengths and scores of shuffled and random differ by no more than chance: a
    two-sample chi-square of documents by domain x octave, summed over seeds, has its mean."""
    chosen = configuration(final={"seeds": list(range(20))})
    pool = pool_of(chosen, 4000, generator)
    cell = pool.domain * 64 + np.floor(np.log2(pool.lengths)).astype(int)
    score = np.argsort(np.argsort(pool.scores_of(Slice()).nll_sum / pool.tokens)) * 8 // 4000
    by_kind: dict[str, list[np.ndarray]] = {"random": [], "shuffled": [], "pruned": []}
    for arm in arms_of(chosen):
        if arm.kind in by_kind:
            mine = np.zeros(4000, bool)
            mine[rows_of(arm, pool, 10**9)] = True
            by_kind[arm.kind].append(mine)
    for code in (cell, score):
        _, where = np.unique(code, return_inverse=True)
        whole = np.bincount(where)
        share = {k: np.mean([np.bincount(where[m], minlength=len(whole)) for m in v], axis=0)
                 for k, v in by_kind.items()}  # fmt: skip
        busy = whole > 40
        # The mean over 20 draws of half of n documents has variance n / 80 about n / 2.
        apart = np.abs(share["shuffled"] - share["random"])[busy] / np.sqrt(whole[busy] / 40)
        assert apart.max() < 4.5
    assert (np.abs(share["pruned"] - share["random"]) / np.sqrt(whole / 40)).max() > 10


def test_matched_overlaps_as_its_domains_are_kept(generator: np.random.Generator) -> None:
    chosen = configuration(selection={"unit": "documents"})
    pool = pool_of(chosen, 20_000, generator)
    kept = pool.kept["high-50"]
    arm = next(a for a in arms_of(chosen) if a.kind == "matched")
    mine = np.zeros(len(kept), bool)
    mine[rows_of(arm, pool, 10**9)] = True
    for code in range(4):
        here = pool.domain == code
        rate = (kept & here).sum() / here.sum()
        overlap = (mine & kept & here).sum() / (mine & here).sum()
        assert abs(overlap - rate) < 0.04
        assert (mine & here).sum() == (kept & here).sum()


def test_a_larger_slice_of_a_share_is_thinned_to_the_smallest(
    generator: np.random.Generator,
) -> None:
    """By documents, low and high hold different amounts of text; their arms do not."""
    chosen = configuration(selection={"criterion": ["low", "high"], "unit": "documents"})
    pool = pool_of(chosen, 3000, generator)
    lengths = pool.lengths.copy()
    lengths[pool.kept["low-50"]] += 300
    pool = replace(pool, lengths=lengths)
    low = next(a for a in arms_of(chosen) if a.arm == "low-50")
    high = next(a for a in arms_of(chosen) if a.arm == "high-50")
    rows = rows_of(low, pool, 10**9)
    assert set(rows.tolist()) < set(np.flatnonzero(pool.kept["low-50"]).tolist())
    assert len(rows_of(high, pool, 10**9)) == pool.kept["high-50"].sum()


def test_what_would_be_another_arm_is_left_out_with_its_reason(
    generator: np.random.Generator,
) -> None:
    chosen = configuration(final={"ladder": [0.5, 4], "arms": ["pruned", "none"]})
    pool = pool_of(chosen, 500, generator)
    tokens, unique = int(pool.lengths.sum()), pool.unique("50")
    arm = {a.arm: a for a in arms_of(chosen)}
    assert "it is random" in str(why_left_out(arm["none"], pool, unique))
    # From there on the random arm repeats U, and the whole pool still gives fresh tokens.
    assert why_left_out(arm["none"], pool, unique + 1) is None
    assert why_left_out(arm["none"], pool, tokens) is None
    assert "more than the pool" in str(why_left_out(arm["base-x0.5"], pool, tokens))
    assert why_left_out(arm["base-x4"], pool, tokens) is None
    assert set(arm) == {"high-50", "none", "base-x0.5", "high-50-x0.5", "base-x4", "high-50-x4"}


def test_rungs_of_the_ladder_repeat_the_base_as_often_as_they_say(
    generator: np.random.Generator,
) -> None:
    chosen = configuration(final={"ladder": [1, 2, 8], "arms": ["pruned"], "seeds": [0]})
    pool = pool_of(chosen, 4000, generator)
    targets = int(pool.lengths.sum() * 0.9)
    longest = int(pool.lengths.max())
    bases = {}
    for arm in arms_of(chosen):
        if arm.rung is None:
            continue
        rows = rows_of(arm, pool, targets)
        unique = int(pool.lengths[rows].sum())
        if arm.slice is None:
            bases[arm.rung] = set(rows.tolist())
            assert abs(unique - targets / arm.rung) <= longest
        else:
            assert abs(unique - 0.5 * targets / arm.rung) <= 0.02 * unique + 2 * longest
            assert set(rows.tolist()) < bases[arm.rung]
    # But for the last few, which are chosen so that the tokens come out even.
    assert len(bases[8] - bases[2]) <= 3 and len(bases[2] - bases[1]) <= 3
    assert len(bases[8]) < len(bases[2]) < len(bases[1])


def test_a_rung_has_the_controls_of_its_slices_drawn_from_its_base(
    generator: np.random.Generator,
) -> None:
    """Random and matched of a rung are parts of the same base, as large as the slice of it; matched
    has the slice's counts by domain and length, and random has not."""
    chosen = configuration(
        selection={"criterion": ["low", "high"]},
        final={"ladder": [1, 4], "arms": ["pruned", "random", "matched"], "seeds": [0, 1]},
    )
    pool = pool_of(chosen, 6000, generator)
    targets = int(pool.lengths.sum() * 0.9)
    arms = {a.name: a for a in arms_of(chosen) if a.rung is not None}
    assert [a for a in arms if a.endswith("x4-s1")] == [
        "base-x4-s1", "low-50-x4-s1", "random-50-x4-s1", "matched.low-50-x4-s1",
        "high-50-x4-s1", "matched.high-50-x4-s1",
    ]  # fmt: skip
    rows = {name: rows_of(arm, pool, targets) for name, arm in arms.items()}
    cell = domain_length_cells(pool.domain, pool.lengths)
    for rung in ("x1-s0", "x4-s0", "x4-s1"):
        base, kept = set(rows[f"base-{rung}"].tolist()), rows[f"high-50-{rung}"]
        unique = pool.lengths[kept].sum()
        for control in ("random-50", "matched.high-50"):
            drawn = rows[f"{control}-{rung}"]
            assert set(drawn.tolist()) < base
            assert abs(pool.lengths[drawn].sum() - unique) <= pool.lengths.max()
            assert set(drawn.tolist()) != set(kept.tolist())
        counts = [np.bincount(cell[mine], minlength=cell.max() + 1) for mine in (
            kept, rows[f"matched.high-50-{rung}"], rows[f"random-50-{rung}"])]  # fmt: skip
        assert np.abs(counts[0] - counts[1]).sum() <= 2
        assert np.abs(counts[0] - counts[2]).sum() > 20
    for control in ("random-50", "matched.high-50"):  # drawn anew for each seed
        assert set(rows[f"{control}-x4-s0"].tolist()) != set(rows[f"{control}-x4-s1"].tolist())


def test_the_identity_of_an_arm_is_its_documents(generator: np.random.Generator) -> None:
    keys = generator.integers(0, 2**62, 10).astype(np.uint64)
    assert documents_identity(np.array([1, 3]), keys) == documents_identity(np.array([1, 3]), keys)
    assert documents_identity(np.array([1, 3]), keys) != documents_identity(np.array([1, 4]), keys)


@pytest.mark.parametrize(("passes", "share"), [(2, 0.984), (4, 0.931), (8, 0.828), (16, 0.661)])
def test_repeats_are_worth_what_the_law_says(passes: int, share: float) -> None:
    assert effective_data(1000, 1000 * passes) / (1000 * passes) == pytest.approx(share, abs=5e-4)


def test_a_control_of_a_soft_slice_has_luck_of_its_own(generator: np.random.Generator) -> None:
    """Drawn with the slice's own numbers, permuted scores would pick much of the slice again."""
    soft = {"criterion": "soft", "centre": 0.5, "spread": 0.5, "rate": 0.2, "unit": "documents"}
    chosen = configuration(selection=soft)
    pool = pool_of(chosen, 4000, generator)
    kept = pool.kept["soft-20-at-50"]
    for arm in arms_of(chosen):
        if arm.kind in ("shuffled", "zlib", "unigram", "random"):
            rows = rows_of(arm, pool, 10**9)
            assert kept[rows].mean() < 0.35, arm.kind


def test_controls_keep_the_least_length_and_the_caps(generator: np.random.Generator) -> None:
    selection = {"rate": 0.1, "min_tokens": 60, "cap": {"d": 0.2}, "unit": "documents"}
    chosen = configuration(selection=selection)
    pool = pool_of(chosen, 5000, generator)
    for arm in arms_of(chosen):
        if arm.kind in ("pruned", "by-domain", "shuffled", "zlib", "unigram"):
            rows = rows_of(arm, pool, 10**9)
            assert pool.tokens[rows].min() >= 60, arm.kind
            if arm.kind != "by-domain":  # the mix unchanged, whatever the slice's bounds
                here = pool.domain[rows] == 3
                able = (pool.domain == 3) & (pool.tokens >= 60)
                assert here.sum() <= 0.2 * able.sum() + 1, arm.kind


def test_no_arm_is_empty_when_one_document_outweighs_the_slice() -> None:
    generator = np.random.default_rng(1)
    chosen = configuration(selection={"rate": 0.05, "unit": "documents"})
    for seed in range(10):
        pool = pool_of(chosen, 200, generator)
        lengths = pool.lengths.copy()
        lengths[generator.choice(200, 40, replace=False)] = 10_000
        lengths[pool.kept["high-5"]] = 5
        pool = replace(pool, lengths=lengths)
        for arm in arms_of(configuration(selection={"rate": 0.05, "unit": "documents"},
                                              final={"seeds": [seed]})):  # fmt: skip
            assert len(rows_of(arm, pool, 10**9))
