"""The engine that the backend picks: losses and gradients against float64, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxprune.engine import backend
from mlxprune.engine.cpu import llama
from mlxprune.engine.gpu import loss_graph
from mlxprune.errors import RunError
from mlxprune.model.architecture import build_model
from mlxprune.testing import float64_llama
from mlxprune.testing.models import SHAPES, config_of, model_and_weights


@pytest.mark.float32
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
    naive = np.array(loss_graph.cross_entropy(model(mx.array(rows[:, :-1])), mx.array(rows[:, 1:])))
    true = np.empty(found.shape)
    for row, losses in zip(rows, true, strict=True):
        table = float64_llama.llama_log_probabilities(weights, config, row[:-1])
        losses[:] = -table[np.arange(length), row[1:]]
    margin = 1e-6 if backend.detect().score_dtype == mx.float32 else 2e-2  # bfloat16
    assert np.abs(found - true).max() <= np.abs(naive - true).max() + margin * true.max()


@pytest.mark.float32
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
        true = float64_llama.slope_along(weights, config, rows, direction)
        along = float((found[name].astype(np.float64) * direction[name]).sum())
        scale = float(np.linalg.norm(found[name]))
        bound = 1e-4 if backend.detect().train_dtype == mx.float32 else 5e-2  # bfloat16
        assert abs(along - true) < bound * scale + 1e-7, name


@pytest.mark.parametrize("bad", [-1, 97, 2**30])
def test_ids_outside_the_vocabulary_are_refused(
    tmp_path: Path, generator: np.random.Generator, bad: int
) -> None:
    """As inputs and as targets, in scoring and in training, before any gather."""
    from mlxprune.engine.optimizer import make_optimizer

    model, _ = model_and_weights(config_of(), tmp_path, generator)
    good = generator.integers(0, 97, (2, 8)).astype(np.int32)
    wrong = good.copy()
    wrong[1, 3] = bad
    its = make_optimizer("adamw", 1e-3, 0.0)
    its.init(model.trainable_parameters())
    step = backend.step_function(model, its, 1, 1.0)
    for function, more in ((backend.loss_function(model), ()), (step, (1e-3,))):
        for inputs, targets in ((wrong, good), (good, wrong)):
            with pytest.raises(RunError, match="vocabulary"):
                function(inputs, targets, *more)


def test_other_models_run_the_graph(generator: np.random.Generator) -> None:
    """Biases, scaled rotary embeddings and other types are not guessed at."""
    for changes in ({"attention_bias": True}, {"rope_scaling": {"type": "linear", "factor": 2.0}}):
        assert backend.llama_shape(build_model(config_of(**changes))) is None
    assert isinstance(backend.llama_shape(build_model(config_of())), llama.LlamaShape)


def test_the_peak_is_a_number_of_flops(generator: np.random.Generator) -> None:
    assert 1e8 < backend.peak_flops() < 1e17
