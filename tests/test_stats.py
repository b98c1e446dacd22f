"""Statistics: means over groups and effective numbers."""

from __future__ import annotations

import numpy as np
import pytest

from mlxprune.stats import GroupedMean, equal_groups


def test_groups_count_by_their_weights_and_empty_ones_not_at_all() -> None:
    sizes, groups = np.array([1, 1, 2, 4]), np.array([0, 0, 1, 3])
    values = np.array([1.0, 3.0, 6.0, 8.0])
    assert equal_groups(sizes, groups).mean(values) == pytest.approx((2 + 3 + 2) / 3)
    weighted = GroupedMean(sizes, groups, np.array([0.5, 0.25, 0.0, 0.25]))
    assert weighted.mean(values) == pytest.approx(0.5 * 2 + 0.25 * 3 + 0.25 * 2)


def test_effective_units_are_fewer_the_more_sizes_differ() -> None:
    parts = equal_groups(np.array([5, 5, 5, 5, 1, 1, 10]), np.array([0, 0, 0, 0, 1, 1, 1]))
    assert parts.effective_units().tolist() == pytest.approx([4.0, 144 / 102])
