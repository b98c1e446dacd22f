"""Figures and verdicts on numbers small enough to work out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlxprune.evaluation.bits_per_byte import bits_by_domain, by_decile
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
