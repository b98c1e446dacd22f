"""Figures and verdicts on numbers small enough to work out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlxprune.evaluation.bits_per_byte import bits_by_domain, by_decile, macro_domains
from mlxprune.stats import (
    deciles_of,
)


def test_macro_is_the_plain_mean_over_domains() -> None:
    nll = np.array([math.log(2) * 8, math.log(2) * 4, math.log(2) * 9])
    found = bits_by_domain(nll, np.array([4, 4, 3]), np.array([0, 0, 1]), ["a", "b", "empty"])
    assert found.domains == pytest.approx({"a": 1.5, "b": 3.0})
    assert found.macro == pytest.approx(2.25)
    assert found.original_mix == pytest.approx(21 / 11)


def test_deciles_hold_a_tenth_each_and_add_up(generator: np.random.Generator) -> None:
    nll, sizes = generator.random(203) * 100, generator.integers(1, 99, 203)
    decile = deciles_of(generator.random(203))
    assert np.bincount(decile).min() >= 20 and decile.max() == 9
    bits = by_decile(nll, sizes, decile)
    size = np.bincount(decile, weights=sizes)
    assert (np.array(bits) * size).sum() == pytest.approx(nll.sum() / math.log(2))
    assert by_decile(nll[:3], sizes[:3], np.array([0, 0, 9]))[1] is None


def test_the_original_mix_is_that_of_the_pool() -> None:
    """A domain of which the test part took more than its share does not count more."""
    nll, sizes = np.array([8.0, 4, 9]) * math.log(2), np.array([4, 4, 3])
    found = bits_by_domain(nll, sizes, np.array([0, 0, 1]), ["a", "b"], np.array([900.0, 100.0]))
    assert found.original_mix == pytest.approx(0.9 * 1.5 + 0.1 * 3.0)
    assert found.macro == pytest.approx(2.25)


def test_small_domains_count_as_one_or_not_at_all() -> None:
    counts = {"large": 9, "small": 3, "smaller": 2, "none": 0}
    names = list(counts)
    domains = np.repeat(np.arange(4), list(counts.values()))
    found = macro_domains(domains, names)
    assert (found.alone, found.pooled, found.left_out) == (
        ["large"], ["small", "smaller"], ["none"],
    )  # fmt: skip
    sizes = np.ones(14)
    values = np.repeat([1.0, 2.0, 4.0], [9, 3, 2])
    inside, parts = found.mean_of(sizes)
    assert parts.mean(values[inside]) == pytest.approx((1 + (3 * 2 + 2 * 4) / 5) / 2)
    few = macro_domains(domains[:12], names)
    assert few.pooled == [] and few.left_out == ["small", "smaller", "none"]
    alone = macro_domains(np.array([0, 0, 1]), ["a", "b"])
    assert alone.alone == ["a", "b"]
