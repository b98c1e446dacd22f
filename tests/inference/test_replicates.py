"""Replicates: Student's t over studies, against its integral."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlxprune.inference.replicates import replicated, student_quantile, student_two_sided


def test_a_small_t_table_is_right() -> None:
    """Against a simulation of Student's t."""
    generator = np.random.default_rng(0)
    for degrees in (2, 5, 30):
        drawn = generator.standard_t(degrees, 2_000_000)
        assert student_quantile(degrees) == pytest.approx(np.quantile(drawn, 0.975), rel=0.02)


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


def test_studies_are_the_sample() -> None:
    found = replicated({"a": 0.1, "b": 0.2, "c": 0.4})
    half = 4.302652729911275 * np.std([0.1, 0.2, 0.4], ddof=1) / math.sqrt(3)
    assert found.interval == pytest.approx((0.7 / 3 - half, 0.7 / 3 + half))
    assert replicated({"a": 0.1}).interval is None
