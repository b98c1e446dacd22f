"""The CPU kernels against NumPy float64, on fresh random input."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlxprune import backend


@pytest.fixture
def generator() -> np.random.Generator:
    seed = np.random.SeedSequence().entropy
    print("seed", seed)
    return np.random.default_rng(seed)


def true_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shift = logits.max(-1, keepdims=True)
    log_sum = np.log(np.exp(logits - shift).sum(-1, keepdims=True)) + shift
    rows = np.arange(len(targets))
    slope = np.exp(logits - log_sum)
    slope[rows, targets] -= 1
    return log_sum[:, 0] - logits[rows, targets], slope


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 600])
def test_cross_entropy_is_as_exact_as_the_stock_one(
    rows: int, generator: np.random.Generator
) -> None:
    """The error is no larger than that of MLX's own float32 operation plus a margin."""
    logits = generator.standard_normal((rows, 301)) * 10
    targets = generator.integers(0, 301, rows)
    true, slope = true_cross_entropy(logits, targets)
    x, t = mx.array(logits.astype(np.float32)), mx.array(targets)
    stock = np.abs(np.array(nn.losses.cross_entropy(x, t)) - true).max()
    assert np.abs(np.array(backend.cross_entropy(x, t)) - true).max() <= stock + 2e-6
    weights = generator.standard_normal(rows)
    true_slope = slope * weights[:, None]

    def slope_error(cross_entropy: Any) -> float:
        gradient = mx.grad(lambda z: (cross_entropy(z, t) * mx.array(weights)).sum())
        return float(np.abs(np.array(gradient(x)) - true_slope).max())

    assert slope_error(backend.cross_entropy) <= slope_error(nn.losses.cross_entropy) + 2e-6


@pytest.mark.parametrize("length", [1, 2, 127, 128, 129, 300])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_attention_and_its_gradient(
    length: int, kv_heads: int, generator: np.random.Generator
) -> None:
    """Blocks of rows, grouped heads and every edge of a block agree with the dense definition."""
    if backend.detect().name != "cpu":
        pytest.skip("the CPU backend's kernel")
    q = generator.standard_normal((2, 4, length, 8))
    k, v = (generator.standard_normal((2, kv_heads, length, 8)) for _ in range(2))
    c = generator.standard_normal((2, 4, length, 8))
    scale = 8**-0.5

    kk, vv = (np.repeat(a, 4 // kv_heads, axis=1) for a in (k, v))
    scores = q @ kk.swapaxes(-1, -2) * scale + np.triu(np.full((length, length), -np.inf), 1)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    dp = c @ vv.swapaxes(-1, -2)
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * scale

    def grouped(a: np.ndarray) -> np.ndarray:
        return a.reshape(2, kv_heads, 4 // kv_heads, length, 8).sum(2)

    true = (p @ vv, ds @ kk, grouped(ds.swapaxes(-1, -2) @ q), grouped(p.swapaxes(-1, -2) @ c))
    arrays = [mx.array(a.astype(np.float32)) for a in (q, k, v)]
    attention = backend._cpu_attention(scale)
    outputs, gradients = mx.vjp(attention, arrays, [mx.array(c.astype(np.float32))])
    for ours, theirs in zip([*outputs, *gradients], true, strict=True):
        assert np.abs(np.array(ours) - theirs).max() < 2e-5


def test_swiglu_and_its_gradient(generator: np.random.Generator) -> None:
    """Also where exp(-x) overflows float32."""
    if backend.detect().name != "cpu":
        pytest.skip("the CPU backend's kernel")
    x = np.concatenate([generator.standard_normal(500) * 8, [-200.0, 200.0, 0.0, -88.8]])
    y, c = (generator.standard_normal(len(x)) for _ in range(2))
    sigmoid = 1 / (1 + np.exp(-x))
    true = (x * sigmoid * y, c * y * (sigmoid + x * sigmoid * (1 - sigmoid)), c * x * sigmoid)
    arrays = [mx.array(a.astype(np.float32)) for a in (x, y)]
    outputs, gradients = mx.vjp(backend._cpu_swiglu, arrays, [mx.array(c.astype(np.float32))])
    for ours, theirs in zip([*outputs, *gradients], true, strict=True):
        assert np.allclose(np.array(ours), theirs, rtol=2e-5, atol=2e-5)


def test_the_kernels_leave_their_inputs_alone(generator: np.random.Generator) -> None:
    """They work on views of MLX's buffers, so writing there would corrupt the graph."""
    logits = mx.array(generator.standard_normal((300, 64)).astype(np.float32))
    before = np.array(logits)
    targets = mx.array(generator.integers(0, 64, 300))
    mx.eval(mx.grad(lambda z: backend.cross_entropy(z, targets).sum())(logits))
    assert np.array_equal(np.array(logits), before)
