"""The CPU's engine: the same bytes for any number of threads, and chunks that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxprune.engine import backend
from mlxprune.engine.cpu import attention, head, layers, llama
from mlxprune.engine.cpu.threads import CpuThreads
from mlxprune.engine.gpu import loss_graph
from mlxprune.testing import float64_llama
from mlxprune.testing.models import config_of, model_and_weights

ROWS, LENGTH = 7, 150


@pytest.fixture
def case(
    tmp_path: Path, generator: np.random.Generator
) -> tuple[llama.LlamaShape, llama.Parameters]:
    model, _ = model_and_weights(config_of(num_key_value_heads=2), tmp_path, generator)
    shape = backend.llama_shape(model)
    if shape is None:
        pytest.skip("the CPU backend's engine")
    return shape, {n: a.copy() for n, a in backend.arrays_of(model.parameters()).items()}


def test_losses_are_the_same_bytes_for_any_number_of_lanes(
    case: tuple[llama.LlamaShape, llama.Parameters],
    generator: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layers, "CHUNK_POSITIONS", 2 * LENGTH)
    ids = generator.integers(0, 97, (2, ROWS, LENGTH)).astype(np.int32)
    found = [
        layers.losses(CpuThreads(n), llama.Weights(*case, for_losses=True), *ids).tobytes()
        for n in (1, 2, 3, 9)
    ]
    assert len(set(found)) == 1


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
@pytest.mark.parametrize(
    ("module", "name"),
    [(layers, "CHUNK_POSITIONS"), (head, "VOCABULARY_COLUMNS"), (attention, "BLOCK_QUERIES")],
)
def test_the_sizes_of_pieces_change_no_gradient(
    case: tuple[llama.LlamaShape, llama.Parameters],
    generator: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    module: Any,
    name: str,
) -> None:
    """Also for buffers that are used again and again: each size runs twice."""
    inputs, targets = generator.integers(0, 97, (2, ROWS, LENGTH)).astype(np.int32)
    expected, gradients = layers.loss_and_gradients(
        CpuThreads(1), llama.Weights(*case), inputs, targets
    )
    for size in (1, 16, 97, LENGTH, 10_000):
        monkeypatch.setattr(module, name, size)
        monkeypatch.setattr(head, "LOGITS", 97 * min(size, 50))
        workers = CpuThreads(threads)
        for _ in range(2):
            loss, found = layers.loss_and_gradients(workers, llama.Weights(*case), inputs, targets)
            assert loss == pytest.approx(expected, rel=1e-6)
            for key, gradient in gradients.items():
                scale = np.abs(gradient).max()
                assert np.abs(found[key] - gradient).max() <= 1e-4 * scale, key
        for folded in (False, True):
            losses = layers.losses(
                workers, llama.Weights(*case, for_losses=folded), inputs, targets
            )
            assert losses.mean(dtype=np.float64) == pytest.approx(expected, rel=1e-6)


def test_every_element_of_the_gradient_equals_that_of_mlx(
    tmp_path: Path, generator: np.random.Generator
) -> None:
    """MLX differentiates its own graph of the plain loss; nothing of ours is in it. Both are
    float32, so they differ by its noise in the largest elements; test_backend has float64."""
    config = config_of(num_key_value_heads=2)
    model, weights = model_and_weights(config, tmp_path, generator)
    shape = backend.llama_shape(model)
    if shape is None:
        pytest.skip("the CPU backend's engine")
    inputs, targets = generator.integers(0, 97, (2, ROWS, LENGTH)).astype(np.int32)
    tables = [float64_llama.llama_log_probabilities(weights, config, row) for row in inputs]
    truth = -np.mean([t[np.arange(LENGTH), row] for t, row in zip(tables, targets, strict=True)])
    arrays = {n: a.copy() for n, a in backend.arrays_of(model.parameters()).items()}

    def plain(parameters: dict[str, object]) -> mx.array:
        model.update(parameters)
        return loss_graph.cross_entropy(model(mx.array(inputs)), mx.array(targets)).mean()

    value, tree = mx.value_and_grad(plain)(model.trainable_parameters())
    mx.eval(value, tree)
    loss, found = layers.loss_and_gradients(
        CpuThreads(2), llama.Weights(shape, arrays), inputs, targets
    )
    assert loss == pytest.approx(truth, rel=1e-6)  # MLX's own mean can be off by more
    for name, gradient in backend.arrays_of(tree).items():
        assert np.abs(found[name] - gradient).max() <= 1e-4 * np.abs(gradient).max(), name


def test_inputs_and_parameters_are_left_alone(
    case: tuple[llama.LlamaShape, llama.Parameters], generator: np.random.Generator
) -> None:
    shape, parameters = case
    before = {name: array.copy() for name, array in parameters.items()}
    ids = generator.integers(0, 97, (2, 3, 40)).astype(np.int32)
    kept = ids.copy()
    layers.losses(CpuThreads(2), llama.Weights(shape, parameters), *ids)
    layers.loss_and_gradients(CpuThreads(2), llama.Weights(shape, parameters), *ids)
    assert np.array_equal(ids, kept)
    assert all(np.array_equal(parameters[n], before[n]) for n in before)


def test_extreme_activations_stay_finite(
    case: tuple[llama.LlamaShape, llama.Parameters], generator: np.random.Generator
) -> None:
    """exp(-x) overflows in the sigmoid, and logits of thousands in the softmax."""
    shape, parameters = case
    ids = generator.integers(0, 97, (2, 2, 30)).astype(np.int32)
    for name in parameters:
        if "gate" in name or "embed" in name:
            parameters[name] = parameters[name] * 300
    loss, gradients = layers.loss_and_gradients(
        CpuThreads(1), llama.Weights(shape, parameters), *ids
    )
    assert np.isfinite(loss)
    assert all(np.isfinite(g).all() for g in gradients.values())
