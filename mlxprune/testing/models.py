"""Small Llamas with random weights, and those weights in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlxprune.model.architecture import full_config, preset_of
from mlxprune.model.weights import initialise_model
from mlxprune.testing import float64_llama

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPES: list[dict[str, Any]] = [
    {},
    {"num_key_value_heads": 2},
    {"num_key_value_heads": 1, "head_dim": 12},
    {"tie_word_embeddings": False, "rope_theta": 500.0},
]


def config_of(**changes: Any) -> dict[str, Any]:
    shape = preset_of("pico")
    config = full_config(shape, 97, 64, 1, 1) | SMALL | {"intermediate_size": 40}
    return config | {"head_dim": 8, "num_key_value_heads": 4} | changes


def model_and_weights(
    config: dict[str, Any], folder: Path, generator: np.random.Generator
) -> tuple[Any, dict[str, np.ndarray]]:
    """A model whose every parameter is random, norms included, and its weights in float64."""
    from mlx.utils import tree_flatten, tree_unflatten

    model = initialise_model(config, int(generator.integers(2**31)))
    fresh = [
        (n, a + mx.array(generator.standard_normal(a.shape).astype(np.float32) * 0.2))
        for n, a in tree_flatten(model.parameters())
    ]
    model.update(tree_unflatten(fresh))
    mx.save_safetensors(str(folder / "w.safetensors"), dict(tree_flatten(model.parameters())))
    return model, float64_llama.read_weights(folder / "w.safetensors")
