"""The engine that the backend picks: losses and gradients against float64, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxprune import backend, graph, llama, testing
from mlxprune import model as models
from mlxprune.errors import RunError

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def config_of(**changes: Any) -> dict[str, Any]:
    shape = models.shape_of("pico")
    config = models.full_config(shape, 97, 64, 1, 1) | SMALL | {"intermediate_size": 40}
    return config | {"head_dim": 8, "num_key_value_heads": 4} | changes


def model_and_weights(
    config: dict[str, Any], folder: Path, generator: np.random.Generator
) -> tuple[Any, dict[str, np.ndarray]]:
    """A model whose every parameter is random, norms included, and its weights in float64."""
    from mlx.utils import tree_flatten, tree_unflatten

    model = models.initialise(config, int(generator.integers(2**31)))
    fresh = [
        (n, a + mx.array(generator.standard_normal(a.shape).astype(np.float32) * 0.2))
        for n, a in tree_flatten(model.parameters())
    ]
    model.update(tree_unflatten(fresh))
    mx.save_safetensors(str(folder / "w.safetensors"), dict(tree_flatten(model.parameters())))
    return model, testing.read_weights(folder / "w.safetensors")


SHAPES: list[dict[str, Any]] = [
    {},
    {"num_key_value_heads": 2},
    {"num_key_value_heads": 1, "head_dim": 12},
    {"tie_word_embeddings": False, "rope_theta": 500.0},
]


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_losses_equal_float64(
    tmp_path: Path, generator: np.random.Generator, changes: dict[str, Any], length: int
) -> None:
    """Grouped heads, both edges of a block of queries, a head of its own. The error is no larger
    than that of MLX's own float32 model plus a margin."""
    config = config_of(**changes)
    model, weights = model_and_weights(config, tmp_path, generator)
    rows = generator.integers(0, 97, (3, length + 1)).astype(np.int32)
    found = np.array(backend.loss_function(model)(rows[:, :-1], rows[:, 1:]))
    naive = np.array(graph.cross_entropy(model(mx.array(rows[:, :-1])), mx.array(rows[:, 1:])))
    true = np.empty(found.shape)
    for row, losses in zip(rows, true, strict=True):
        table = testing.llama_log_probabilities(weights, config, row[:-1])
        losses[:] = -table[np.arange(length), row[1:]]
    margin = 1e-6 if backend.detect().name == "cpu" else 2e-2  # bfloat16
    assert np.abs(found - true).max() <= np.abs(naive - true).max() + margin * true.max()


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_gradients_equal_differences_of_the_float64_loss(
    tmp_path: Path, generator: np.random.Generator, changes: dict[str, Any]
) -> None:
    """Along a random direction in each parameter alone, so that no error hides another."""
    config = config_of(**changes)
    model, weights = model_and_weights(config, tmp_path, generator)
    rows = generator.integers(0, 97, (3, 71)).astype(np.int32)
    found = backend.gradients(model, rows[:, :-1], rows[:, 1:])
    assert found.keys() == weights.keys()
    for name, array in weights.items():
        direction = {name: generator.standard_normal(array.shape)}
        true = testing.slope_along(weights, config, rows, direction)
        along = float((found[name].astype(np.float64) * direction[name]).sum())
        scale = float(np.linalg.norm(found[name]))
        bound = 1e-4 if backend.detect().name == "cpu" else 5e-2  # bfloat16
        assert abs(along - true) < bound * scale + 1e-7, name


@pytest.mark.parametrize("bad", [-1, 97, 2**30])
def test_ids_outside_the_vocabulary_are_refused(
    tmp_path: Path, generator: np.random.Generator, bad: int
) -> None:
    """As inputs and as targets, in scoring and in training, before any gather."""
    from mlxprune import optimizer

    model, _ = model_and_weights(config_of(), tmp_path, generator)
    good = generator.integers(0, 97, (2, 8)).astype(np.int32)
    wrong = good.copy()
    wrong[1, 3] = bad
    its = optimizer.make("adamw", 1e-3, 0.0)
    its.init(model.trainable_parameters())
    functions = (backend.loss_function(model), backend.step_function(model, its, 1, 1.0))
    for function in functions:
        for inputs, targets in ((wrong, good), (good, wrong)):
            with pytest.raises(RunError, match="vocabulary"):
                function(inputs, targets)


def test_other_models_run_the_graph(generator: np.random.Generator) -> None:
    """Biases, scaled rotary embeddings and other types are not guessed at."""
    for changes in ({"attention_bias": True}, {"rope_scaling": {"type": "linear", "factor": 2.0}}):
        assert backend._llama(models.build(config_of(**changes))) is None
    assert isinstance(backend._llama(models.build(config_of())), llama.Shape)


def test_the_peak_is_a_number_of_flops(generator: np.random.Generator) -> None:
    assert 1e8 < backend.peak_flops() < 1e17
