"""Families: models of other architectures than ours, made small with random weights, each with a
tokenizer of its own, in the layout that people download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mlxprune.files import write_json
from mlxprune.model.weights import initialise_model, save_model

END = "<|endoftext|>"
VOCABULARY = 384
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {
        "model_type": "qwen2", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 48, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "tie_word_embeddings": True, "max_position_embeddings": 256,
    },
    "gpt2": {
        "model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128,
        "n_ctx": 128, "layer_norm_epsilon": 1e-5,
    },
    "gemma2": {
        "model_type": "gemma2", "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48,
        "num_attention_heads": 4, "head_dim": 8, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 256, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0, "rope_theta": 10000.0, "rope_traditional": False,
    },
}  # fmt: skip


def write_tokenizer(folder: Path, texts: list[str], vocabulary: int = VOCABULARY) -> Path:
    """A byte-level BPE with one control token, as of GPT-2."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    made.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "bos_token": END},
    )
    return folder


def write_model(
    folder: Path, family: str, tokenizer: Path, rows: int = VOCABULARY, **changes: Any
) -> Path:
    """A model of a family with random weights and this tokenizer; ``rows`` of its embedding."""
    config = {**FAMILIES[family], "vocab_size": rows, "bos_token_id": 0, "eos_token_id": 0}
    config |= changes
    save_model(initialise_model(config, 0), config, tokenizer, folder)
    return folder
