"""MLX's lazy graph in pieces: as exact as the plain one, compiled or not, and smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxprune.engine.gpu import loss_graph
from mlxprune.model.architecture import build_model
from mlxprune.model.weights import initialise_model
from mlxprune.testing.models import config_of, model_and_weights


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
