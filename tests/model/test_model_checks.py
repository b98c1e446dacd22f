"""What would fail late, or give wrong figures in silence, is refused at the start."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxprune.errors import ConfigError, DataError
from mlxprune.files import read_json, write_json
from mlxprune.model.architecture import full_config, parameter_counts, preset_of
from mlxprune.model.model_checks import (
    check_scoring_model,
    checked,
    learned_positions,
    model_facts,
    refuse_untrainable,
    worse_than_uniform,
)
from mlxprune.model.weights import load_model
from mlxprune.testing.families import FAMILIES, write_model, write_tokenizer
from mlxprune.tokenization.tokenizer import load_tokenizer

TEXTS = [f"some words of a text, number {i}" for i in range(200)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), TEXTS)


@pytest.mark.parametrize("family", FAMILIES)
def test_models_of_other_families_will_do(family: str, tokenizer: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", family, tokenizer)
    found = check_scoring_model(folder, 128, "--context")
    assert found.warnings == []
    assert found.facts.rows == 384
    assert found.facts.stated in (128, 256)
    assert (found.facts.positions is None) == (family != "gpt2")


def test_more_positions_than_a_model_has_learned(tokenizer: Path, tmp_path: Path) -> None:
    """By the table itself, whatever the configuration calls it or says."""
    folder = write_model(tmp_path / "m", "gpt2", tokenizer)
    config = read_json(folder / "config.json")
    for stated in ({}, {"n_positions": 4096}, {"max_position_embeddings": 4096}):
        write_json(folder / "config.json", {**config, **stated})
        with pytest.raises(ConfigError, match="learned 128 positions") as caught:
            check_scoring_model(folder, 129, "score.context")
        assert caught.value.fix == "set score.context to 128"
    rotary = write_model(tmp_path / "r", "qwen2", tokenizer)
    assert "states a context of 256" in check_scoring_model(rotary, 512, "x").warnings[0]


def test_a_shard_that_is_named_must_be_there_and_whole(tokenizer: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "qwen2", tokenizer)
    weights = folder / "model.safetensors"
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    write_json(folder / "model.safetensors.index.json", index)
    shutil.move(weights, folder / "model-1.safetensors")
    with pytest.raises(DataError, match="1 of 2 shards of the model are missing"):
        model_facts(folder)
    (folder / "model.safetensors.index.json").unlink()
    whole = (folder / "model-1.safetensors").read_bytes()
    for broken in (whole[:-100], whole[:40], b"", b"\xff" * 60):
        (folder / "model-1.safetensors").write_bytes(broken)
        with pytest.raises(DataError, match="weights cannot be read"):
            model_facts(folder)


def test_ids_without_a_row(tokenizer: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "qwen2", tokenizer, rows=380)
    with pytest.raises(DataError, match="ids up to 383, and the embedding of the model 380 rows"):
        check_scoring_model(folder, 64, "x")


def test_ids_with_gaps_need_as_many_rows_as_the_largest(tokenizer: Path, tmp_path: Path) -> None:
    tree = read_json(tokenizer / "tokenizer.json")
    words = tree["model"]["vocab"]
    tree["model"]["vocab"] = {w: i if i < 300 else i + 500 for w, i in words.items()}
    shutil.copytree(tokenizer, tmp_path / "t")
    (tmp_path / "t" / "tokenizer.json").write_text(json.dumps(tree))
    loaded = load_tokenizer(tmp_path / "t")
    assert loaded.vocab_size == 884
    assert max(max(ids) for ids in loaded.encode(TEXTS)) < 884


def test_a_tokenizer_that_knows_no_other_script_says_so(tokenizer: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=200, special_tokens=["<e>"], show_progress=False)
    )
    folder = write_model(tmp_path / "m", "qwen2", tokenizer)
    made.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<e>"},
    )
    (warning,) = check_scoring_model(folder, 64, "x").warnings
    assert "give no token" in warning


def test_a_name_that_is_neither_folder_nor_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*_: object, **__: object) -> str:
        raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(DataError) as caught:
        checked("tinyq", 64, "x")
    assert "there is no folder of this name" in caught.value.problem
    assert "the hub is out of reach" in caught.value.problem
    with pytest.raises(DataError, match="no such folder"):
        checked("./tinyq", 64, "x")


LLAMA = {
    "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
    "head_dim": 16, "attention_bias": True, "mlp_bias": True,
}  # fmt: skip


def test_what_a_configuration_states_is_kept(tmp_path: Path) -> None:
    """And counted: widths of heads and biases are those of the model that is built."""
    from mlx.utils import tree_flatten

    from mlxprune.model.weights import initialise_model

    write_json(tmp_path / "config.json", LLAMA)
    made = full_config(preset_of(str(tmp_path)), 97, 64, 1, 1)
    assert {k: made[k] for k in LLAMA} == LLAMA
    assert made["tie_word_embeddings"] is False  # as transformers reads its absence
    parameters = dict(tree_flatten(initialise_model(made, 0).parameters()))
    assert parameters["model.layers.0.self_attn.q_proj.weight"].shape == (64, 32)
    assert "model.layers.0.mlp.up_proj.bias" in parameters
    assert sum(parameter_counts(made)) == sum(a.size for a in parameters.values())
    write_json(tmp_path / "config.json", {**LLAMA, "hidden_act": "gelu"})
    with pytest.raises(ConfigError, match="computes a llama with silu"):
        preset_of(str(tmp_path))


def test_our_presets_are_what_they_were() -> None:
    made = full_config(preset_of("pico"), 97, 64, 1, 1)
    assert (made["head_dim"], made["attention_bias"], made["tie_word_embeddings"]) == (
        64,
        False,
        True,
    )


def test_a_table_of_positions_must_hold_the_sequences_of_training() -> None:
    gpt2 = {**FAMILIES["gpt2"], "vocab_size": 97}
    assert learned_positions(gpt2) == 128
    with pytest.raises(ConfigError, match="has 128 positions, and sequences have 129"):
        refuse_untrainable(gpt2, 129, "final")
    refuse_untrainable(gpt2, 128, "final")
    refuse_untrainable({**FAMILIES["qwen2"], "vocab_size": 97}, 4096, "final")


def test_worse_than_guessing() -> None:
    assert worse_than_uniform(6.0, 384) is not None
    assert worse_than_uniform(5.9, 384) is None
    assert worse_than_uniform(None, 384) is None


def test_a_saved_family_opens(tokenizer: Path, tmp_path: Path) -> None:
    model, config = load_model(write_model(tmp_path / "m", "gemma2", tokenizer))
    assert config["model_type"] == "gemma2"
    assert model is not None


def spans(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The header of a safetensors file, changed."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    told = json.dumps(header).encode()
    path.write_bytes(len(told).to_bytes(8, "little") + told + data[8 + length :])


def test_two_tensors_on_the_same_bytes_are_refused(tokenizer: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "qwen2", tokenizer)
    names = [f"model.layers.0.self_attn.{n}_proj.weight" for n in ("o", "q")]

    def overlap(header: dict[str, Any]) -> None:
        header[names[0]] = header[names[1]]

    spans(folder / "model.safetensors", overlap)
    with pytest.raises(DataError, match="two tensors lie on the same bytes"):
        model_facts(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_hidden_layers", 10**6), ("num_hidden_layers", "2"), ("num_attention_heads", 0),
     ("hidden_size", -8), ("vocab_size", 10**12), ("hidden_size", 1.5)],
)  # fmt: skip
def test_sizes_that_nobody_means_are_refused_before_anything_is_built(
    key: str, value: Any, tokenizer: Path, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "m", "qwen2", tokenizer)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, key: value})
    with pytest.raises(DataError, match=key):
        model_facts(folder)
    if key != "vocab_size":  # that of a preset is the tokenizer's
        with pytest.raises(ConfigError, match=key):
            preset_of(str(folder))


def test_a_preset_without_its_sizes_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"model_type": "llama", "hidden_size": 8})
    with pytest.raises(ConfigError, match="it has no num_hidden_layers"):
        preset_of(str(tmp_path))
