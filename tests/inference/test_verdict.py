"""Verdicts on arms whose difference is known."""

from __future__ import annotations

import numpy as np
import pytest

from mlxprune.inference.verdict import ArmPair, PairedDifference, Verdict, compare_paired
from mlxprune.stats import equal_groups


def compare(shift: float, seeds: int, noise: float = 0.0, lower: bool = True) -> PairedDifference:
    generator = np.random.default_rng(1)
    sizes = generator.integers(100, 500, 60)
    domains = np.repeat([0, 1, 2], 20)
    control = [sizes * (1 + noise * generator.standard_normal()) for _ in range(seeds)]
    arm = [c + shift * sizes for c in control]
    pair = ArmPair(arm, control, list(range(seeds)), "kind", "random", True)
    return compare_paired([pair], equal_groups(sizes, domains), 0, lower)[0]


def test_a_clear_gain_over_seeds_is_better_and_a_loss_worse() -> None:
    assert compare(-0.1, 3).verdict == "better"
    assert compare(+0.1, 3).verdict == "worse"
    assert compare(+0.1, 3, lower=False).verdict == "better"
    assert compare(-0.1, 3, lower=False).verdict == "worse"
    assert compare(-0.1, 3).difference == pytest.approx(-0.1)


def test_one_seed_gives_no_verdict() -> None:
    found = compare(-0.1, 1)
    assert found.verdict == Verdict.ONE_SEED
    assert found.probability is None and found.seed_sd is None


def test_equal_arms_are_undecided_with_certainty() -> None:
    found = compare(0.0, 3)
    assert found.verdict == "undecided"
    assert found.interval == (0, 0) and found.probability == 1


def test_seeds_alone_give_students_interval() -> None:
    """Differences that vary by seed and not by document: t(2)."""
    sizes, domains = np.full(60, 100), np.repeat([0, 1], 30)
    control = [np.full(60, 100.0)] * 3
    arm = [np.full(60, 100.0 - d) for d in (1.0, 2.0, 4.0)]
    pair = ArmPair(arm, control, [0, 1, 2], "kind", "random", False)
    found = compare_paired([pair], equal_groups(sizes, domains), 0, resamples=200_000)[0]
    by_seed = -np.array([1.0, 2.0, 4.0]) / 100
    half = 4.302652729911275 * np.sqrt(by_seed.var(ddof=1) / 3)
    assert found.difference == pytest.approx(by_seed.mean())
    assert found.interval == pytest.approx([by_seed.mean() - half, by_seed.mean() + half], rel=0.05)


def test_documents_alone_give_the_normal_interval(generator: np.random.Generator) -> None:
    """Every seed says the same of every document: two seeds decide what many documents show."""
    values = generator.standard_normal(4000) + 0.06
    pair = ArmPair([values] * 2, [np.zeros(4000)] * 2, [0, 1], "kind", "random", False)
    parts = equal_groups(np.ones(4000), np.zeros(4000, int))
    found = compare_paired([pair], parts, 0, resamples=50_000)[0]
    half = 1.96 * values.std() / np.sqrt(4000)
    assert np.diff(found.interval)[0] / 2 == pytest.approx(half, rel=0.03)


def test_no_verdict_rests_on_a_handful_of_documents() -> None:
    sizes, domains = np.array([100.0, 200, 150, 120]), np.array([0, 0, 1, 1])
    control = [np.array([100.0, 210, 140, 125])] * 3
    arm = [c + np.array([50.0, 90, 80, 61]) for c in control]
    pair = ArmPair(arm, control, [0, 1, 2], "kind", "random", True)
    assert compare_paired([pair], equal_groups(sizes, domains), 0)[0].verdict == Verdict.TOO_FEW


def family(generator: np.random.Generator, count: int, shift: float = 0.0) -> list[ArmPair]:
    """Slices against one control, three seeds; the last is better by ``shift``."""
    sizes = np.ones(400)
    control = [sizes * generator.normal(0, 0.03) for _ in range(3)]
    pairs = []
    for number in range(count):
        own = generator.normal(0, 0.2, 400)
        by = -shift if number == count - 1 else 0.0
        arm = [sizes * generator.normal(by, 0.02) + own for _ in range(3)]
        pairs.append(ArmPair(arm, control, [0, 1, 2], "kind", "random", True))
    return pairs


def test_interval_verdict_and_probability_never_contradict_each_other(
    generator: np.random.Generator,
) -> None:
    parts = equal_groups(np.ones(400), np.arange(400) % 8)
    for shift in (0.0, 0.05, 0.1, 0.2, 0.4):
        for found in compare_paired(family(generator, 3, shift), parts, 0, resamples=4000):
            low, high = found.interval
            decided = found.verdict in (Verdict.BETTER, Verdict.WORSE)
            assert decided == (not low <= 0 <= high)
            assert found.probability is not None
            if abs(found.probability - 0.05) > 0.01:
                assert decided == (found.probability < 0.05)


def test_slices_that_are_decided_together_are_held_to_more(generator: np.random.Generator) -> None:
    parts = equal_groups(np.ones(400), np.arange(400) % 8)
    pairs = family(generator, 4)
    together = compare_paired(pairs, parts, 0)
    alone = [
        compare_paired([ArmPair(p.arm, p.control, p.seeds, "kind", "random", False)], parts, 0)[0]
        for p in pairs
    ]
    for one, other in zip(together, alone, strict=True):
        assert one.difference == other.difference
        assert one.standard_errors > 1.9


def test_the_effects_add_up() -> None:
    """Selection = mix alone + within domains, for every seed."""
    rng = np.random.default_rng(3)
    sizes, domains = rng.integers(50, 900, 60), rng.integers(0, 3, 60)
    losses = {k: [rng.uniform(50, 900, 60) for _ in range(3)] for k in "prm"}

    def between(a: str, b: str) -> list[float]:
        pair = ArmPair(losses[a], losses[b], [0, 1, 2], a + b, b, False)
        return compare_paired([pair], equal_groups(sizes, domains), 0)[0].by_seed

    whole, mix, within = between("p", "r"), between("m", "r"), between("p", "m")
    np.testing.assert_allclose(np.add(mix, within), whole, atol=1e-12)


@pytest.mark.parametrize("slices", [1, 3])
def test_intervals_hold_what_they_promise(slices: int) -> None:
    """A short round of bench/coverage.py: 95 % within what 400 studies can tell."""
    generator = np.random.default_rng(7)
    parts = equal_groups(np.ones(400), np.arange(400) % 8)
    covered = wrong = 0
    for study in range(400):
        pairs = family(generator, slices)
        found = compare_paired(pairs, parts, study, resamples=600)
        covered += all(f.interval[0] <= 0 <= f.interval[1] for f in found)
        wrong += any(f.verdict in (Verdict.BETTER, Verdict.WORSE) for f in found)
    assert 0.92 <= covered / 400 <= 0.985
    assert wrong / 400 <= 0.08
