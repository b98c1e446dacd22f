"""Statistics: paired comparisons, bootstrap, t, Holm; against formulas and integrals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlxprune.stats import (
    FAMILY_ERROR_RATE,
    GroupedMean,
    PairedDifference,
    adjust_by_holm,
    compare_paired,
    equal_groups,
    student_quantile,
    student_two_sided,
)


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


def test_a_small_t_table_is_right() -> None:
    """Against a simulation of Student's t."""
    generator = np.random.default_rng(0)
    for degrees in (2, 5, 30):
        drawn = generator.standard_t(degrees, 2_000_000)
        assert student_quantile(degrees) == pytest.approx(np.quantile(drawn, 0.975), rel=0.02)


def test_the_effects_add_up() -> None:
    """Selection = mix alone + within domains, for every seed."""
    rng = np.random.default_rng(3)
    sizes, domains = rng.integers(50, 900, 60), rng.integers(0, 3, 60)
    losses = {k: [rng.uniform(50, 900, 60) for _ in range(3)] for k in "prm"}

    def between(a: str, b: str) -> list[float]:
        compared = compare_paired(losses[a], losses[b], equal_groups(sizes, domains), 0)
        return compared.by_seed

    whole, mix, within = between("p", "r"), between("m", "r"), between("p", "m")
    np.testing.assert_allclose(np.add(mix, within), whole, atol=1e-12)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 8, 29])
def test_the_tail_of_students_t_is_its_integral(degrees: int) -> None:
    x = np.linspace(0, 60, 2_000_001)
    density = (1 + x * x / degrees) ** (-(degrees + 1) / 2)
    density *= math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2)
    density /= math.sqrt(degrees * math.pi)
    step = x[1] - x[0]
    for t in (0.0, 0.3, 1.0, 2.5, 7.0):
        inside = 2 * step * (density[x <= t].sum() - (density[0] + density[x <= t][-1]) / 2)
        assert student_two_sided(t, degrees) == pytest.approx(1 - inside, abs=2e-5)
        assert student_two_sided(-t, degrees) == student_two_sided(t, degrees)


def test_holm_adjusts_the_slices_together() -> None:
    assert adjust_by_holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_noise_is_rarely_called_a_difference() -> None:
    """Arms that differ by noise alone, three seeds, three slices: an error in few studies."""
    rng = np.random.default_rng(11)
    sizes, domains = np.full(40, 400), np.arange(40) % 4
    errors = 0
    for study in range(120):
        base = rng.uniform(500, 900, 40)
        family = []
        for _ in range(3):
            arm, control = (
                [base + rng.normal(0, 30, 40) + rng.normal(0, 10) for _ in range(3)]
                for _ in range(2)
            )
            compared = compare_paired(arm, control, equal_groups(sizes, domains), study)
            family.append(compared)
        adjusted = adjust_by_holm([c.probability for c in family])
        errors += any(p < FAMILY_ERROR_RATE for p in adjusted)
    assert errors <= 12
