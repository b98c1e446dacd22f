"""Models: sizes, initialisation, and folders that other libraries open."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file

from mlxprune.errors import ConfigError, DataError
from mlxprune.model.architecture import (
    build_model,
    flops_per_token,
    full_config,
    parameter_counts,
    preset_of,
)
from mlxprune.model.weights import fetch_model, initialise_model, load_model
from mlxprune.run.folder import RunFolder
from mlxprune.testing import float64_llama


@pytest.mark.parametrize(
    ("name", "millions"),
    [("pico", 0.1), ("nano", 0.8), ("micro", 7.4), ("mini", 25.3), ("125m", 85), ("1b", 1215),
     ("3b", 2538)],
)  # fmt: skip
def test_presets_have_the_size_they_are_named_by(name: str, millions: float) -> None:
    shape = preset_of(name)
    body, _ = parameter_counts({**shape.config, "vocab_size": 1000})
    assert body / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize("name", ["pico", "nano", "micro"])
def test_the_closed_form_counts_what_is_built(name: str) -> None:
    config = full_config(preset_of(name), 512, 64, 1, 1)
    built = sum(int(a.size) for _, a in tree_flatten(build_model(config).parameters()))
    assert sum(parameter_counts(config)) == built


def test_initialisation_is_seeded_and_has_the_stated_deviation() -> None:
    config = full_config(preset_of("nano"), 512, 64, 1, 1)
    first, again, other = (
        dict(tree_flatten(initialise_model(config, s).parameters())) for s in (1, 1, 2)
    )
    assert all(mx.array_equal(a, again[n]) for n, a in first.items())
    name = "model.layers.0.mlp.gate_proj.weight"
    assert not mx.array_equal(first[name], other[name])
    expected = math.sqrt(2 / (5 * 128))
    assert float(np.array(first[name]).std()) == pytest.approx(expected, rel=0.02)
    written = np.array(first["model.layers.0.mlp.down_proj.weight"])
    assert float(written.std()) == pytest.approx(expected / math.sqrt(8), rel=0.02)
    assert (np.array(first["model.norm.weight"]) == 1).all()


@pytest.mark.float32
def test_a_saved_model_equals_the_float64_llama(tiny_run: RunFolder) -> None:
    folder = tiny_run.reference()
    weights = float64_llama.read_weights(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    ids = np.random.default_rng().integers(0, config["vocab_size"], 50)
    true = float64_llama.llama_log_probabilities(weights, config, ids)
    model, _ = load_model(folder)
    logits = np.array(model(mx.array(ids[None]))[0].astype(mx.float32), np.float64)
    ours = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
    ours -= logits.max(-1, keepdims=True)
    assert np.abs(ours - true).max() < 1e-4


def test_mlx_lm_opens_it_and_generates(tiny_run: RunFolder) -> None:
    from mlx_lm import generate, load

    model, wrapped = load(str(tiny_run.final("high-50-s0")))
    text = generate(model, wrapped, prompt="the data", max_tokens=5)
    assert isinstance(text, str)


def test_the_folder_has_the_hugging_face_layout(tiny_run: RunFolder) -> None:
    """Stock architecture, no code to trust, standard weight names."""
    folder = tiny_run.final("high-50-s0")
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert not {"auto_map", "model_file"} & config.keys()
    names = float64_llama.read_weights(folder / "model.safetensors")
    assert "model.layers.0.self_attn.q_proj.weight" in names
    assert {"tokenizer.json", "tokenizer.model", "tokenizer_config.json"} <= {
        p.name for p in folder.iterdir()
    }


def test_other_architectures_come_from_a_config_json(tmp_path: Path) -> None:
    config = {
        "model_type": "gpt2", "n_ctx": 64, "n_embd": 32, "n_head": 2, "n_layer": 2,
        "n_positions": 64, "layer_norm_epsilon": 1e-5, "vocab_size": 9,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = preset_of(str(tmp_path))
    full = full_config(shape, 300, 64, 1, 1)
    model = initialise_model(full, 0)
    logits = model(mx.array([[1, 2, 3]]))
    assert logits.shape == (1, 3, 300)
    body, tables = parameter_counts(full)
    assert tables >= 300 * 32
    assert body > 0


def test_wrong_models_are_errors_of_three_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        preset_of("nanno")
    assert "nano" in caught.value.fix
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(ConfigError):
        build_model({"model_type": "nothing"})
    with pytest.raises(ConfigError):
        build_model({"model_type": "llama", "model_file": "evil.py"})
    with pytest.raises(DataError):
        load_model(tmp_path)
    with pytest.raises(DataError):
        fetch_model("./nowhere")


def test_flops_count_the_head_and_not_the_look_up() -> None:
    config = {**preset_of("nano").config, "vocab_size": 4096}
    body, tables = parameter_counts(config)
    assert flops_per_token(config, 0) == 2 * (body + tables)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_found_when_they_are_loaded(
    value: float, tiny_run: RunFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_run.reference(), folder)
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[1]
    weights[name].flat[3] = value
    save_file(weights, folder / "model.safetensors", {"format": "mlx"})
    with pytest.raises(DataError, match="not finite") as caught:
        load_model(folder)
    assert name in caught.value.problem
