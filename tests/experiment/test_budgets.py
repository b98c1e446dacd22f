"""Budgets: what repeats are worth, and how large a pool is."""

from __future__ import annotations

import pytest

from mlxprune.experiment.budgets import POOL_LEAST, effective_data, pool_need, pool_tokens
from mlxprune.testing.tiny import short_study


def test_effective_data_matches_the_published_formula() -> None:
    """D_eff / T at 2, 4, 8, 16 passes, as the design quotes them."""
    shares = [effective_data(1.0, passes) / passes for passes in (2, 4, 8, 16)]
    assert shares == pytest.approx([0.984, 0.931, 0.828, 0.661], abs=6e-4)
    assert effective_data(10.0, 4.0) == 4.0


def test_the_pool_is_no_larger_than_the_budgets_need() -> None:
    chosen = short_study(final={"tokens": 3_000_000})
    need = pool_need(chosen)
    assert need == pytest.approx(1.1 * 3e6 / 0.5)
    assert pool_tokens(chosen, 25e6) == need
    assert pool_tokens(chosen, 1.9 * need) == pytest.approx(1.9 * need)
    assert pool_tokens(short_study(split={"pool": "all"}), 25e6) == 25e6
    assert pool_need(short_study(final={"passes": 2})) is None
    ladder = short_study(final={"tokens": 3_000_000, "ladder": [0.25, 1]})
    assert pool_need(ladder) == pytest.approx(1.1 * 3e6 / 0.25)
    quarter = short_study(final={"tokens": 3_000_000}, selection={"rate": [0.1, 0.5]})
    assert pool_need(quarter) == pytest.approx(1.1 * 3e6 / 0.1)
    assert pool_need(short_study(final={"tokens": 1000})) == POOL_LEAST
