"""The cut of a rank order against sorting everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxprune.data.hashing import mix
from mlxprune.selection import radix_select
from mlxprune.selection.radix_select import lies_before


def by_sorting(
    values: np.ndarray, weights: np.ndarray | None, keys: np.ndarray, seed: int, point: int
) -> np.ndarray:
    order = np.lexsort((keys, mix(keys, f"ties {seed}"), values))
    own = (np.ones(len(keys), np.int64) if weights is None else weights)[order]
    result = np.zeros(len(keys), bool)
    result[order[2 * np.cumsum(own) - own < point]] = True
    return result


@given(
    count=st.integers(1, 400),
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(["normal", "rounded", "equal", "signed", "huge range"]),
    weighted=st.booleans(),
    share=st.floats(-0.1, 1.2),
)
@settings(deadline=None, max_examples=300)
def test_a_cut_is_what_sorting_gives(
    count: int, seed: int, kind: str, weighted: bool, share: float
) -> None:
    """With pieces and sorts so small that every pass is taken."""
    generator = np.random.default_rng(seed)
    values = {
        "normal": generator.normal(4, 1, count),
        "rounded": np.round(generator.normal(4, 1, count), 1),
        "equal": np.full(count, 3.5),
        "signed": np.round(generator.normal(0, 1, count), 1) * generator.choice([1, -1], count),
        "huge range": np.exp(generator.normal(0, 100, count)),
    }[kind]
    weights = generator.integers(1, generator.choice([2, 5000]), count) if weighted else None
    keys = generator.integers(0, 2**63, count).astype(np.uint64)
    total = count if weights is None else int(weights.sum())
    point = round(2 * share * total)
    expected = by_sorting(values, weights, keys, 7, point)
    with pytest.MonkeyPatch.context() as patch:
        for piece, few in ((37, 3), (1 << 22, 1 << 18)):
            patch.setattr(radix_select, "PIECE", piece)
            patch.setattr(radix_select, "SORTED_AT_ONCE", few)
            found = lies_before(lambda part: values[part], weights, keys, 7, point)
            assert np.array_equal(found, expected), (piece, few)


def test_weights_beyond_32_bits_are_summed_exactly(generator: Any) -> None:
    weights = generator.integers(2**33, 2**34, 1000)
    values, keys = generator.random(1000), np.arange(1000, dtype=np.uint64)
    for share in (1, 3, 5):
        point = int(weights.sum()) * share // 3 + 1
        found = lies_before(lambda part: values[part], weights, keys, 0, point)
        assert np.array_equal(found, by_sorting(values, weights, keys, 0, point))
