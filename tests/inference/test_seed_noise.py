"""Seed noise: what may be pooled, with how much freedom, and draws of means against Student's t."""

from __future__ import annotations

import numpy as np
import pytest

from mlxprune.inference.seed_noise import SeedDifferences, moved_means, seed_noise


def pairs_of(values: np.ndarray, shared: bool) -> list[SeedDifferences]:
    """``values`` [pairs, seeds]."""
    seeds = list(range(values.shape[1]))
    return [
        SeedDifferences(seeds, row, "random" if shared else f"control {number}")
        for number, row in enumerate(values)
    ]


def test_two_seeds_pool_nothing(generator: np.random.Generator) -> None:
    values = generator.normal(0, 1, (6, 2))
    noise = seed_noise(pairs_of(values, True), 500, generator)
    assert noise.pooled.tolist() == [1] * 6
    np.testing.assert_allclose(noise.variance, values.var(axis=1, ddof=1))
    assert noise.degrees.tolist() == [1] * 6


def test_alike_pairs_of_own_controls_share_mean_and_freedom() -> None:
    base = np.array([1.0, -1, 0.5, -0.5, 0])
    values = np.array([base, base[::-1], np.roll(base, 1)])
    noise = seed_noise(pairs_of(values, False), 4000, np.random.default_rng(0))
    assert noise.pooled.tolist() == [3, 3, 3]
    np.testing.assert_allclose(noise.variance, values.var(axis=1, ddof=1).mean())
    np.testing.assert_allclose(noise.degrees, 3 * 4)


def test_what_is_all_the_controls_noise_adds_no_freedom(generator: np.random.Generator) -> None:
    """Six slices that never move, one control that does: six times the same four numbers."""
    moved = generator.normal(0, 1, 5)
    values = moved + 1e-9 * generator.normal(0, 1, (6, 5))
    noise = seed_noise(pairs_of(values, True), 2000, generator)
    np.testing.assert_allclose(noise.degrees, 4, rtol=1e-6)
    np.testing.assert_allclose(noise.variance, moved.var(ddof=1), rtol=1e-6)


def test_one_noisy_pair_stands_alone() -> None:
    alone = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        values = generator.normal(0, 1, (6, 5)) * np.array([[25], [1], [1], [1], [1], [1]])
        noise = seed_noise(pairs_of(values, False), 1000, generator)
        alone += noise.pooled[0] == 1
        assert noise.variance[0] == pytest.approx(values[0].var(ddof=1)) or noise.pooled[0] > 1
    assert alone == 40


@pytest.mark.parametrize(("seeds", "quantile"), [(2, 12.706), (3, 4.303), (5, 2.776)])
def test_the_mean_of_one_pair_moves_as_students_t(seeds: int, quantile: float) -> None:
    """No documents' noise: the matching prior adds nothing."""
    generator = np.random.default_rng(1)
    values = generator.normal(0, 1, (1, seeds))
    noise = seed_noise(pairs_of(values, True), 10, generator)
    moved = moved_means(noise, np.zeros((400_000, 1)), generator)
    error = np.sqrt(values.var(ddof=1) / seeds)
    assert np.quantile(np.abs(moved) / error, 0.95) == pytest.approx(quantile, rel=0.03)


def test_draws_from_one_control_move_together() -> None:
    """Of pairs that are pooled; one that stands alone is drawn by itself."""
    generator = np.random.default_rng(2)
    moved = generator.normal(0, 1, 5)
    values = moved + 0.1 * generator.normal(0, 1, (4, 5))
    noise = seed_noise(pairs_of(values, True), 2000, generator)
    assert noise.pooled.tolist() == [4] * 4
    drawn = moved_means(noise, np.zeros((20_000, 4)), generator)
    correlations = np.corrcoef(drawn.T)[np.triu_indices(4, 1)]
    assert correlations.min() > 0.8


def test_pairs_of_other_seeds_are_not_pooled(generator: np.random.Generator) -> None:
    pairs = [
        SeedDifferences([0, 1, 2], generator.normal(0, 1, 3), "random"),
        SeedDifferences([0, 1, 2, 3], generator.normal(0, 1, 4), "random"),
    ]
    noise = seed_noise(pairs, 500, generator)
    assert noise.pooled.tolist() == [1, 1]
    assert noise.degrees.tolist() == [2, 3]
    assert np.isfinite(moved_means(noise, np.zeros((100, 2)), generator)).all()
