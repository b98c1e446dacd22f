"""Training steps in pieces: as exact as whole ones, compiled or not, and smaller."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlxprune.engine.gpu import attention as attention_module
from mlxprune.engine.gpu import loss_graph, training_graph
from mlxprune.engine.gpu.attention import attention
from mlxprune.engine.optimizer import make_optimizer
from mlxprune.model.weights import initialise_model
from mlxprune.testing import float64_llama
from mlxprune.testing.models import config_of


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


def steps_of(compiled: bool, parts: int, fused: bool, ids: np.ndarray) -> tuple[Any, list[Any]]:
    model = initialise_model(config_of(num_key_value_heads=2), 3)
    its = make_optimizer("adamw", 1e-3, 0.1)
    its.init(model.trainable_parameters())
    settings = training_graph.StepSettings(parts, 1.0, mx.float32, compiled, fused)
    step = training_graph.step_function(model, its, settings)
    results = [step(ids[:, :-1], ids[:, 1:], 1e-3)() for _ in range(3)]
    return model, results


def test_compiled_equals_eager_and_accumulation_equals_one_big_batch(
    generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the blockwise attention equals MLX's: losses and gradient norms of three steps."""
    monkeypatch.setattr(attention_module, "ATTENTION_ROWS", 16)
    monkeypatch.setattr(loss_graph, "LOGITS_BYTES", 4 * 97 * 33)
    ids = generator.integers(0, 97, (4, 61)).astype(np.int32)
    _, expected = steps_of(False, 1, True, ids)
    for compiled, parts, fused in (
        (False, 1, False), (True, 1, True), (True, 1, False), (False, 2, False), (True, 4, False),
    ):  # fmt: skip
        _, found = steps_of(compiled, parts, fused, ids)
        assert np.allclose(found, expected, rtol=2e-5), (compiled, parts, fused)


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


@pytest.mark.slow
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
    ours = peak_of(lambda: mx.vjp(lambda *a: attention(*a, 0.3, 64), [q, k, v], [c])[1])
    assert ours < weights / 2


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_one_step_taken_twice_from_one_state_has_the_same_bytes(
    dtype: mx.Dtype, checkpointing: bool, generator: np.random.Generator
) -> None:
    """Weights and both moments, over ids that repeat as they do in text."""
    from mlx.utils import tree_flatten

    ids = ((generator.zipf(1.3, (4, 65)) - 1) % 97).astype(np.int32)

    def once() -> dict[str, bytes]:
        model = initialise_model(config_of(), 3)
        its = make_optimizer("adamw", 1e-3, 0.1)
        its.init(model.trainable_parameters())
        settings = training_graph.StepSettings(2, 1.0, dtype, True, False, checkpointing)
        step = training_graph.step_function(model, its, settings)
        for _ in range(2):
            step(ids[:, :-1], ids[:, 1:], 1e-3)()
        return {
            name: np.array(array).tobytes()
            for tree in (model.parameters(), its.state)
            for name, array in tree_flatten(tree)
        }

    assert once() == once()


def test_checkpointed_layers_change_no_gradient_and_leave_no_trace(
    generator: np.random.Generator,
) -> None:
    """Nine trainings cost no more than one: the class is as it was after every trace."""
    from mlx_lm.models import llama

    def held() -> list[Any]:
        attend = llama.scaled_dot_product_attention
        return [llama.TransformerBlock.__call__, attend, nn.Embedding.__call__]

    before = held()
    model = initialise_model(config_of(), 3)
    ids = generator.integers(0, 97, (2, 41)).astype(np.int32)
    found = [
        training_graph.gradients(
            model, ids[:, :-1], ids[:, 1:],
            training_graph.StepSettings(1, 1.0, mx.float32, False, False, checkpointing),
        )
        for checkpointing in (False, True, True)
    ]  # fmt: skip
    for name, array in found[0].items():
        assert np.allclose(array, found[1][name], atol=1e-6), name
        assert np.array_equal(found[1][name], found[2][name]), name
    assert held() == before


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_there_is_one_trace_of_a_part_and_one_of_the_first_for_any_number_of_them(
    parts: int, generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = []
    whole = training_graph.traced_for_training

    def counted(*given: Any) -> Any:
        traced.append(1)
        return whole(*given)

    monkeypatch.setattr(training_graph, "traced_for_training", counted)
    ids = generator.integers(0, 97, (8, 17)).astype(np.int32)
    steps_of(True, parts, False, ids)
    assert len(traced) == min(parts, 2)


def test_a_step_can_be_given_up_between_its_parts(generator: np.random.Generator) -> None:
    """The model and the optimizer are as they were, and the step can be taken again."""
    from mlx.utils import tree_flatten

    class GivenUp(Exception):
        pass

    model = initialise_model(config_of(), 3)
    its = make_optimizer("adamw", 1e-3, 0.1)
    its.init(model.trainable_parameters())
    settings = training_graph.StepSettings(4, 1.0, mx.float32, True, False)
    step = training_graph.step_function(model, its, settings)
    ids = generator.integers(0, 97, (4, 17)).astype(np.int32)
    step(ids[:, :-1], ids[:, 1:], 1e-3)()
    before = {n: np.array(a) for t in (model.parameters(), its.state) for n, a in tree_flatten(t)}
    calls = []

    def between() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise GivenUp

    with pytest.raises(GivenUp):
        step(ids[:, :-1], ids[:, 1:], 5e-4, between)
    after = {n: np.array(a) for t in (model.parameters(), its.state) for n, a in tree_flatten(t)}
    assert all(np.array_equal(before[n], after[n]) for n in before)
    step(ids[:, :-1], ids[:, 1:], 5e-4)()


def test_the_gradient_of_a_frequent_token_is_not_rounded_away(
    generator: np.random.Generator,
) -> None:
    """In bfloat16, against the same gradients of the look-up in float64: 6 % were lost."""
    model = initialise_model(config_of(tie_word_embeddings=False), 3)
    ids = ((generator.zipf(1.2, (8, 257)) - 1) % 97).astype(np.int32)

    def gradient(dtype: mx.Dtype) -> np.ndarray:
        settings = training_graph.StepSettings(1, 1.0, dtype, False, False)
        found = training_graph.gradients(model, ids[:, :-1], ids[:, 1:], settings)
        return found["model.embed_tokens.weight"]

    exact, rough = gradient(mx.float32), gradient(mx.bfloat16)
    frequent = np.argsort(-np.bincount(ids[:, :-1].ravel(), minlength=97))[:5]
    size = np.linalg.norm(exact[frequent], axis=1)
    error = np.linalg.norm((rough - exact)[frequent], axis=1) / size
    print("relative error of the most frequent", error)
    assert error.max() < 0.03


def test_scoring_takes_the_same_kernels_whether_or_not_the_process_has_trained(
    generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A marker in our attention counts who traces it: training does, scoring never."""
    traced: list[int] = []
    usual = attention_module.attention

    def marked(*given: Any, **named: Any) -> mx.array:
        traced.append(1)
        return usual(*given, **named)

    monkeypatch.setattr(attention_module, "attention", marked)
    monkeypatch.setattr(attention_module, "ATTENTION_ROWS", 16)
    ids = generator.integers(0, 97, (2, 41)).astype(np.int32)
    x, y = ids[:, :-1], ids[:, 1:]
    fresh = initialise_model(config_of(), 3)
    before = np.array(loss_graph.loss_function(fresh, True)(x, y))
    assert traced == []
    steps_of(True, 1, False, ids)
    assert len(traced) == 2  # once a layer
    again = initialise_model(config_of(), 3)
    after = np.array(loss_graph.loss_function(again, True)(x, y))
    assert len(traced) == 2
    assert before.tobytes() == after.tobytes()
