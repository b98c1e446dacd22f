"""MLX's lazy graph in pieces: as exact as the plain one, compiled or not, and smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlxprune.engine.gpu import loss_graph, training_graph
from mlxprune.engine.optimizer import make_optimizer
from mlxprune.model.architecture import build_model
from mlxprune.model.weights import initialise_model
from mlxprune.testing import float64_llama
from mlxprune.testing.models import config_of, model_and_weights


@pytest.mark.parametrize("rows", [1, 7, 64, 300, 1000])
def test_the_head_in_pieces_is_as_exact_as_the_stock_one(
    rows: int, generator: np.random.Generator
) -> None:
    """The error is no larger than that of MLX's own float32 operations plus a margin."""
    hidden, weight = generator.standard_normal((300, 12)) * 3, generator.standard_normal((211, 12))
    targets = generator.integers(0, 211, 300)
    losses, slope = float64_llama.cross_entropy_and_slope(hidden @ weight.T, targets)
    true = [losses.mean(), slope @ weight / 300, slope.T @ hidden / 300]
    h, w, t = (mx.array(a) for a in (hidden.astype(np.float32), weight.astype(np.float32), targets))

    def errors(function: Any) -> list[float]:
        value, gradients = mx.value_and_grad(function, argnums=(0, 1))(h, w)
        found = [value, *gradients]
        return [float(np.abs(np.array(f) - e).max()) for f, e in zip(found, true, strict=True)]

    ours = errors(lambda h, w: training_graph.fused_mean(h, w, t, rows)[0])
    stock = errors(lambda h, w: nn.losses.cross_entropy(h @ w.T, t).mean())
    assert all(
        o <= s + m for o, s, m in zip(ours, stock, (1e-6 * losses.max(), 2e-6, 2e-6), strict=True)
    ), (ours, stock)


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
        lambda q, k, v: training_graph.attention(q, k, v, 0.35, rows=16), arrays[:3], arrays[3:]
    )
    for ours, theirs in zip([*outputs, *gradients], true, strict=True):
        assert np.abs(np.array(ours) - theirs).max() < 2e-5


def test_losses_in_pieces_equal_whole_logits(
    tmp_path: Path, generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For every size of piece, compiled and not."""
    model, _ = model_and_weights(config_of(), tmp_path, generator)
    inputs, targets = generator.integers(0, 97, (2, 3, 50)).astype(np.int32)
    whole = np.array(loss_graph.cross_entropy(model(mx.array(inputs)), mx.array(targets)))
    for rows in (1, 13, 150, 1000):
        monkeypatch.setattr(loss_graph, "LOGITS_BYTES", 4 * 97 * rows)
        for compiled in (False, True):
            found = np.array(loss_graph.loss_function(model, compiled)(inputs, targets))
            assert np.abs(found - whole).max() < 2e-6, (rows, compiled)


def steps_of(compiled: bool, parts: int, fused: bool, ids: np.ndarray) -> tuple[Any, list[Any]]:
    model = initialise_model(config_of(num_key_value_heads=2), 3)
    its = make_optimizer("adamw", 1e-3, 0.1)
    its.init(model.trainable_parameters())
    step = training_graph.step_function(model, its, parts, 1.0, mx.float32, compiled, fused)
    results = [step(ids[:, :-1], ids[:, 1:])() for _ in range(3)]
    return model, results


def test_compiled_equals_eager_and_accumulation_equals_one_big_batch(
    generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the blockwise attention equals MLX's: losses and gradient norms of three steps."""
    from mlx_lm.models import llama

    stock = llama.scaled_dot_product_attention
    stock = getattr(stock, "stock", stock)
    monkeypatch.setattr(training_graph, "ATTENTION_ROWS", 16)
    monkeypatch.setattr(loss_graph, "LOGITS_BYTES", 4 * 97 * 33)
    monkeypatch.setattr(llama, "scaled_dot_product_attention", stock)
    ids = generator.integers(0, 97, (4, 61)).astype(np.int32)
    _, expected = steps_of(False, 1, True, ids)
    for compiled, parts, fused in (
        (False, 1, False), (True, 1, True), (True, 1, False), (False, 2, False), (True, 4, False),
    ):  # fmt: skip
        monkeypatch.setattr(llama, "scaled_dot_product_attention", stock)
        _, found = steps_of(compiled, parts, fused, ids)
        assert np.allclose(found, expected, rtol=2e-5), (compiled, parts, fused)


def test_a_head_that_is_not_plain_is_left_whole() -> None:
    """A model that scales its logits must not lose the scale."""
    model: Any = initialise_model(config_of(), 0)
    assert loss_graph.parts(model)[0] is model.model

    class Scaled(type(model)):  # type: ignore[misc]
        def __call__(self, ids: mx.array) -> mx.array:
            return super().__call__(ids) * 0.5

    Scaled.__module__ = type(model).__module__
    scaled = Scaled(model.args)
    assert loss_graph.parts(scaled)[0] is scaled
    ids = np.arange(40, dtype=np.int32).reshape(2, 20)
    whole = np.array(loss_graph.cross_entropy(scaled(mx.array(ids)), mx.array(ids)))
    assert np.allclose(
        np.array(loss_graph.loss_function(scaled, False)(ids, ids)), whole, atol=1e-6
    )


def peak_of(function: Any) -> int:
    """Bytes that MLX held at most: buffers are not kept, and little is queued ahead."""
    before = mx.set_cache_limit(0), mx.set_memory_limit(1 << 20)
    try:
        mx.clear_cache()
        mx.reset_peak_memory()
        mx.eval(function())
        return mx.get_peak_memory() - mx.get_active_memory()
    finally:
        mx.set_cache_limit(before[0])
        mx.set_memory_limit(before[1])


def test_pieces_save_what_they_are_for(generator: np.random.Generator) -> None:
    """No array of batch x context x vocabulary, and none of batch x heads x context x context."""
    h = mx.array(generator.standard_normal((1024, 16)).astype(np.float32))
    w = mx.array(generator.standard_normal((8000, 16)).astype(np.float32))
    t = mx.array(generator.integers(0, 8000, 1024))
    logits = 4 * 1024 * 8000

    def gradient(function: Any) -> Any:
        return mx.grad(function, argnums=(0, 1))(h, w)

    pieces = peak_of(lambda: gradient(lambda h, w: training_graph.fused_mean(h, w, t, rows=64)[0]))
    whole = peak_of(lambda: gradient(lambda h, w: loss_graph.cross_entropy(h @ w.T, t).mean()))
    compiled = peak_of(lambda: mx.compile(
        mx.grad(lambda h, w: training_graph.fused_mean(h, w, t, rows=64)[0], argnums=(0, 1)))(h, w)
    )  # fmt: skip
    assert max(pieces, compiled) < logits / 2 < logits < whole

    q, k, v, c = (
        mx.array(generator.standard_normal((2, 4, 512, 8)).astype(np.float32)) for _ in range(4)
    )
    weights = 4 * 2 * 4 * 512 * 512
    ours = peak_of(
        lambda: mx.vjp(lambda *a: training_graph.attention(*a, 0.3, 64), [q, k, v], [c])[1]
    )
    assert ours < weights / 2


def test_bfloat16_keeps_the_order_of_documents(tmp_path: Path) -> None:
    """What a GPU computes in: rank correlation of document scores with float32, measured."""
    generator = np.random.default_rng(5)
    model, _ = model_and_weights(config_of(), tmp_path, generator)
    ids = generator.integers(0, 97, (2, 200, 32)).astype(np.int32)
    exact = np.array(loss_graph.loss_function(model, False)(*ids)).mean(axis=1)
    model.set_dtype(mx.bfloat16)
    rough = np.array(loss_graph.loss_function(model, False)(*ids)).mean(axis=1)
    ranks = [np.argsort(np.argsort(a)) for a in (exact, rough)]
    correlation = np.corrcoef(*ranks)[0, 1]
    print("rank correlation", correlation)
    assert correlation > 0.999
    assert np.abs(rough - exact).max() < 0.05


def test_models_of_other_kinds_are_scored_whole() -> None:
    """phi's inner model wants a cache, phimoe's head has a bias: neither is taken apart."""
    sizes = {
        "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "intermediate_size": 48, "max_position_embeddings": 64,
    }  # fmt: skip
    ids = np.arange(40, dtype=np.int32).reshape(2, 20)
    for config in (
        {"model_type": "phi", "partial_rotary_factor": 0.5, "layer_norm_eps": 1e-5},
        {"model_type": "gemma2", "head_dim": 8, "rms_norm_eps": 1e-6, "rope_theta": 1e4},
        {"model_type": "qwen2", "rms_norm_eps": 1e-6, "tie_word_embeddings": False},
    ):
        model: Any = build_model({**sizes, **config})
        whole = np.array(loss_graph.cross_entropy(model(mx.array(ids)), mx.array(ids)))
        found = np.array(loss_graph.loss_function(model, False)(ids, ids))
        assert np.abs(found - whole).max() < 1e-5, config


def test_a_model_in_training_is_scored_in_the_compute_dtype(
    tmp_path: Path, generator: np.random.Generator
) -> None:
    """Its masters are cast for the batch, compiled or not, and stay what they are."""
    model, _ = model_and_weights(config_of(), tmp_path, generator)
    ids = generator.integers(0, 97, (2, 3, 30)).astype(np.int32)
    exact = np.array(loss_graph.loss_function(model, False)(*ids))
    cast: Any = build_model(config_of())
    cast.update(model.parameters())
    cast.set_dtype(mx.bfloat16)
    expected = np.array(loss_graph.loss_function(cast, False)(*ids))
    for compiled in (False, True):
        losses = loss_graph.loss_function(model, compiled, mx.bfloat16)
        found = np.array(losses(*ids))
        assert np.abs(found - exact).max() > 0
        # Compiled, operations are fused and round less often.
        assert np.abs(found - expected).mean() <= (0.05 if compiled else 0.0)
        assert model.model.embed_tokens.weight.dtype == mx.float32
        model.model.norm.weight = model.model.norm.weight * 2  # it follows the model
        assert np.abs(np.array(losses(*ids)) - found).max() > 1e-3
        model.model.norm.weight = model.model.norm.weight / 2
    assert np.array_equal(np.array(loss_graph.loss_function(model, False)(*ids)), exact)
