"""Figures and verdicts on numbers small enough to work out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlxprune.evaluation.bits_per_byte import bits_by_domain, by_decile
from mlxprune.experiment.budgets import effective_data
from mlxprune.stats import (
    GroupedMean,
    PairedDifference,
    compare_paired,
    deciles_of,
    equal_groups,
    student_quantile,
)


def test_macro_is_the_plain_mean_over_domains() -> None:
    nll = np.array([math.log(2) * 8, math.log(2) * 4, math.log(2) * 9])
    found = bits_by_domain(nll, np.array([4, 4, 3]), np.array([0, 0, 1]), ["a", "b", "empty"])
    assert found.domains == pytest.approx({"a": 1.5, "b": 3.0})
    assert found.macro == pytest.approx(2.25)
    assert found.original_mix == pytest.approx(21 / 11)


def compare(shift: float, seeds: int, noise: float = 0.0, lower: bool = True) -> PairedDifference:
    generator = np.random.default_rng(1)
    sizes = generator.integers(100, 500, 60)
    domains = np.repeat([0, 1, 2], 20)
    control = [sizes * (1 + noise * generator.standard_normal()) for _ in range(seeds)]
    arm = [c + shift * sizes for c in control]
    return compare_paired(arm, control, equal_groups(sizes, domains), 0, lower)


def test_a_clear_gain_over_seeds_is_better_and_a_loss_worse() -> None:
    assert compare(-0.1, 3).verdict == "better"
    assert compare(+0.1, 3).verdict == "worse"
    assert compare(+0.1, 3, lower=False).verdict == "better"
    assert compare(-0.1, 3, lower=False).verdict == "worse"
    found = compare(-0.1, 3)
    assert found.difference == pytest.approx(-0.1)


def test_one_seed_gives_no_verdict() -> None:
    assert compare(-0.1, 1).verdict == "n=1, document noise only, no verdict"


def test_no_difference_is_undecided() -> None:
    found = compare(0.0, 3)
    assert found.verdict == "undecided"
    assert found.difference == 0


def test_the_interval_is_the_stated_formula() -> None:
    """Differences that vary by seed alone: v is zero, so only the t term is left."""
    sizes, domains = np.full(30, 100), np.repeat([0, 1], 15)
    control = [np.full(30, 100.0)] * 3
    arm = [np.full(30, 100.0 - d) for d in (1.0, 2.0, 4.0)]
    found = compare_paired(arm, control, equal_groups(sizes, domains), 0)
    by_seed = -np.array([1.0, 2.0, 4.0]) / 100
    half = 4.302652729911275 * math.sqrt(by_seed.var(ddof=1) / 3)
    assert found.difference == pytest.approx(by_seed.mean())
    assert found.interval == pytest.approx([by_seed.mean() - half, by_seed.mean() + half])


def test_groups_count_by_their_weights_and_empty_ones_not_at_all() -> None:
    sizes, groups = np.array([1, 1, 2, 4]), np.array([0, 0, 1, 3])
    values = np.array([1.0, 3.0, 6.0, 8.0])
    assert equal_groups(sizes, groups).mean(values) == pytest.approx((2 + 3 + 2) / 3)
    weighted = GroupedMean(sizes, groups, np.array([0.5, 0.25, 0.0, 0.25]))
    assert weighted.mean(values) == pytest.approx(0.5 * 2 + 0.25 * 3 + 0.25 * 2)


def test_the_bootstrap_is_the_noise_of_the_units(generator: np.random.Generator) -> None:
    """One group of units of equal size: the variance of a mean."""
    values = generator.standard_normal(400)
    found = compare_paired(
        [values], [np.zeros(400)], equal_groups(np.ones(400), np.zeros(400, int)), 0
    )
    half = 1.96 * values.std() / math.sqrt(400)
    assert np.diff(found.interval)[0] / 2 == pytest.approx(half, rel=0.1)


def test_deciles_hold_a_tenth_each_and_add_up(generator: np.random.Generator) -> None:
    nll, sizes = generator.random(203) * 100, generator.integers(1, 99, 203)
    decile = deciles_of(generator.random(203))
    assert np.bincount(decile).min() >= 20 and decile.max() == 9
    bits = by_decile(nll, sizes, decile)
    size = np.bincount(decile, weights=sizes)
    assert (np.array(bits) * size).sum() == pytest.approx(nll.sum() / math.log(2))
    assert by_decile(nll[:3], sizes[:3], np.array([0, 0, 9]))[1] is None


def test_effective_data_matches_the_published_formula() -> None:
    """D_eff / T at 2, 4, 8, 16 passes, as the design quotes them."""
    shares = [effective_data(1.0, passes) / passes for passes in (2, 4, 8, 16)]
    assert shares == pytest.approx([0.984, 0.931, 0.828, 0.661], abs=6e-4)
    assert effective_data(10.0, 4.0) == 4.0


def test_a_small_t_table_is_right() -> None:
    """Against a simulation of Student's t."""
    generator = np.random.default_rng(0)
    for degrees in (2, 5, 30):
        drawn = generator.standard_t(degrees, 2_000_000)
        assert student_quantile(degrees) == pytest.approx(np.quantile(drawn, 0.975), rel=0.02)
