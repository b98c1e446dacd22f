"""Attention by blocks of queries: as exact as the dense definition, and smaller."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxprune.engine.gpu.attention import attention
from mlxprune.testing import float64_llama


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 50])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_attention_and_its_gradient(
    length: int, kv_heads: int, generator: np.random.Generator
) -> None:
    """Blocks of rows, grouped heads and every edge of a block agree with the dense definition."""
    q, c = (generator.standard_normal((2, 4, length, 8)) for _ in range(2))
    k, v = (generator.standard_normal((2, kv_heads, length, 8)) for _ in range(2))
    true = float64_llama.attention_and_gradients(q, k, v, c, 0.35)
    arrays = [mx.array(a.astype(np.float32)) for a in (q, k, v, c)]
    outputs, gradients = mx.vjp(
        lambda q, k, v: attention(q, k, v, 0.35, rows=16), arrays[:3], arrays[3:]
    )
    for ours, theirs in zip([*outputs, *gradients], true, strict=True):
        assert np.abs(np.array(ours) - theirs).max() < 2e-5
