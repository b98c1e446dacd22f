"""Power: what is promised is found that often."""

from __future__ import annotations

import numpy as np
import pytest

from mlxprune.inference.power import ExpectedNoise, decidable, seeds_needed, smallest_difference
from mlxprune.inference.verdict import ArmPair, PairedDifference, Verdict, compare_paired
from mlxprune.stats import equal_groups

SEED_SD, DOCUMENT_SD = 0.03, 0.2


def study(generator: np.random.Generator, shift: float, seeds: int) -> PairedDifference:
    control = [np.full(400, generator.normal(0, SEED_SD / np.sqrt(2))) for _ in range(seeds)]
    own = generator.normal(0, DOCUMENT_SD, 400)
    arm = [
        own - shift + np.full(400, generator.normal(0, SEED_SD / np.sqrt(2))) for _ in range(seeds)
    ]
    parts = equal_groups(np.ones(400), np.arange(400) % 8)
    pair = ArmPair(arm, control, list(range(seeds)), "kind", "random", True)
    return compare_paired([pair], parts, 0, resamples=1500)[0]


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_decidable_difference_is_decided_four_times_out_of_five(seeds: int) -> None:
    generator = np.random.default_rng(5)
    least = decidable(ExpectedNoise(SEED_SD, DOCUMENT_SD / 20, 1), seeds)
    assert least is not None
    found = sum(study(generator, least, seeds).verdict == Verdict.BETTER for _ in range(300))
    assert 0.7 <= found / 300 <= 0.95


def test_more_seeds_decide_less_and_more_slices_need_more() -> None:
    sizes = [decidable(ExpectedNoise(0.04, 0.01, 1), seeds) for seeds in (2, 3, 5, 8)]
    assert sizes == sorted(sizes, reverse=True)  # type: ignore[type-var]
    assert decidable(ExpectedNoise(0.04, 0.01, 6), 5) > sizes[2]  # type: ignore[operator]
    assert decidable(ExpectedNoise(0.04, 0.01, 1), 1) is None


def test_seeds_needed_follow_the_difference() -> None:
    generator = np.random.default_rng(2)
    large, small = study(generator, 0.3, 3), study(generator, 0.05, 3)
    assert seeds_needed(large) == 2 or seeds_needed(large) == 3
    needed = seeds_needed(small)
    assert needed is None or needed > 3
    assert smallest_difference(large) is not None
    one = study(generator, 0.3, 1)
    assert smallest_difference(one) is None
    assert seeds_needed(one) is None
