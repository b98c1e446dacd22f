"""Architecture: presets, sizes, FLOPs, and the configuration of a model."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from mlxprune.config.schema import Training
from mlxprune.config.yaml_file import read_yaml
from mlxprune.errors import ConfigError, DataError, closest, one_line
from mlxprune.files import read_json
from mlxprune.records import Json, Record, record_of

if TYPE_CHECKING:
    import mlx.nn as nn


class PresetTraining(Record):
    """What a preset says of training where a configuration says nothing."""

    context: int
    batch_tokens: int  # targets an optimizer step
    optimizer: str
    learning_rate: float
    weight_decay: float


class TrainingDefaults(Record):
    """The same, with what the configuration says."""

    context: int
    batch_size: int  # sequences an optimizer step
    optimizer: str
    learning_rate: float
    weight_decay: float


@dataclass(frozen=True)
class Preset:
    """What sizes, costs and defaults are computed from; ``config`` is in Hugging Face keys."""

    name: str
    config: Json
    training: PresetTraining


def preset_names() -> list[str]:
    folder = files("mlxprune_models")
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )


def preset_of(name: str) -> Preset:
    """A preset by name, or a folder or file with a config.json."""
    if name in preset_names():
        tree = read_yaml(Path(str(files("mlxprune_models") / f"{name}.yaml")))
        return Preset(name, tree["config"], record_of(tree["training"], PresetTraining))
    path = Path(name).expanduser()
    path = path / "config.json" if path.is_dir() else path
    if path.suffix != ".json" or not path.exists():
        hint = closest(name, preset_names())
        raise ConfigError(f"no model preset {name!r}", "reference.model or final.model", hint)
    try:
        config = read_json(path)
        assert isinstance(config, dict) and "model_type" in config
    except (ValueError, AssertionError):
        fix = "give the config.json of a Hugging Face model"
        raise ConfigError("not a model configuration", str(path), fix) from None
    for key in (
        "vocab_size",
        "bos_token_id",
        "eos_token_id",
        "quantization",
        "quantization_config",
    ):
        config.pop(key, None)
    _refuse_odd_sizes(config, str(path))
    if config["model_type"] == "llama":
        config.setdefault("tie_word_embeddings", False)  # as transformers reads its absence
        if config.get("hidden_act", "silu") not in ("silu", "swish"):
            problem = f"mlx-lm computes a llama with silu, not {one_line(config['hidden_act'])}"
            raise ConfigError(problem, str(path), "set hidden_act to silu, or choose another model")
    return Preset(name, config, preset_of("nano").training)


# Figures of a config.json that sizes follow from: (names in use, the largest that is believed).
SIZES = (
    (("num_hidden_layers", "n_layer", "num_layers"), 10_000),
    (("hidden_size", "n_embd", "d_model"), 1 << 20),
    (("intermediate_size", "n_inner"), 1 << 22),
    (("num_attention_heads", "n_head", "num_key_value_heads"), 1 << 16),
    (("head_dim",), 1 << 16),
    (("vocab_size",), 1 << 26),
)


def _refuse_odd_sizes(config: Json, where: str) -> None:
    """Raises ConfigError where a size is no whole number from 1 to what is believed."""
    stated = text_config(config)
    for names, most in SIZES:
        for name in names:
            value = stated.get(name)
            if value is not None and (type(value) is not int or not 1 <= value <= most):
                problem = f"{name} is {one_line(value)[:40]}"
                raise ConfigError(problem, where, f"give a whole number from 1 to {most:,}")
    if config["model_type"] == "llama":
        needed = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        missing = [name for name in needed if name not in config]
        if missing:
            raise ConfigError(f"it has no {missing[0]}", where, "give the whole config.json")


def full_config(preset: Preset, vocab_size: int, context: int, prefix: int, end: int) -> Json:
    """The config.json of a model of this preset over this vocabulary."""
    config = {**preset.config, "vocab_size": vocab_size}
    config |= {"bos_token_id": prefix, "eos_token_id": end, "max_position_embeddings": context}
    if config["model_type"] == "llama":
        # What the configuration states is kept: the engine that knows it computes it.
        config = {
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "head_dim": config["hidden_size"] // config["num_attention_heads"],
            **config,
            "architectures": ["LlamaForCausalLM"],
            "torch_dtype": "float32",
        }
    return config


def text_config(config: Json) -> Json:
    """The keys of the language model: those of multimodal models lie one level down."""
    inner = config.get("text_config")
    return {**config, **(inner if isinstance(inner, dict) else {})}


def parameter_counts(config: Json) -> tuple[int, int]:
    """(parameters of matrix products and norms, parameters of the embedding tables).

    Llama-style in closed form; other architectures are built lazily and counted.
    """
    biased = config.get("attention_bias") or config.get("mlp_bias")
    if config["model_type"] == "llama" and not biased:
        d, layers, ff = (
            config[k] for k in ("hidden_size", "num_hidden_layers", "intermediate_size")
        )
        heads = config["num_attention_heads"]
        kv = config.get("num_key_value_heads") or heads
        head_dim = config.get("head_dim") or d // heads
        block = 2 * d * heads * head_dim + 2 * d * kv * head_dim + 3 * d * ff + 2 * d
        tables = 1 if config.get("tie_word_embeddings", True) else 2
        return layers * block + d, tables * config["vocab_size"] * d
    from mlx.utils import tree_flatten

    flat = tree_flatten(build_model(config).parameters())
    tables = sum(int(a.size) for n, a in flat if "embed" in n or "lm_head" in n or "wte" in n)
    return sum(int(a.size) for _, a in flat) - tables, tables


def flops_per_token(config: Json, context: int) -> float:
    """Forward FLOPs: 2 a matmul parameter (output head in, embedding look-up out) + attention."""
    body, _ = parameter_counts(config)
    config = text_config(config)
    width = int(config.get("hidden_size") or config.get("n_embd") or 0)
    layers = int(config.get("num_hidden_layers") or config.get("n_layer") or 0)
    # Causal attention: scores and weighted values, 2 * 2 * width * context / 2 a layer.
    return 2.0 * (body + config.get("vocab_size", 0) * width) + 2.0 * layers * width * context


def training_defaults(settings: Training, preset: Preset) -> TrainingDefaults:
    """The training settings with what the preset says where the configuration says nothing."""
    usual = preset.training
    context = settings.context or usual.context

    def given(asked: float | None, otherwise: float) -> float:
        return float(otherwise if asked is None else asked)

    rate = given(settings.learning_rate, usual.learning_rate)
    decay = given(settings.weight_decay, usual.weight_decay)
    return TrainingDefaults(
        context=context,
        batch_size=settings.batch_size or max(1, round(usual.batch_tokens / context)),
        optimizer=settings.optimizer or usual.optimizer,
        learning_rate=rate,
        weight_decay=decay / rate if settings.decoupled_weight_decay else decay,
    )


def build_model(config: Json) -> nn.Module:
    """The mlx-lm model of a configuration, with whatever weights its classes start from."""
    from mlxprune.engine import backend
    from mlxprune.engine.mlx_lm_import import ready_mlx_lm

    backend.detect()
    ready_mlx_lm()
    from mlx_lm.utils import _get_classes

    if config.get("model_file"):
        raise ConfigError(
            "the model asks to run its own code", "config.json", "choose another model"
        )
    try:
        model_class, arguments = _get_classes(config)
        model: nn.Module = model_class(arguments.from_dict(config))
    except Exception as error:  # of any of its classes, over figures that somebody wrote
        problem = f"mlx-lm cannot build a {config.get('model_type')!r} model: {one_line(error)}"
        raise ConfigError(problem, "config.json", "see the model types of mlx-lm") from None
    return model


def read_model_config(folder: Path) -> Json:
    """The config.json of a model's folder. Raises DataError where there is none."""
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict) or "model_type" not in config:
        fix = "give a folder with config.json and model*.safetensors, or a hub id"
        raise DataError("this is not a model", str(folder), fix)
    try:
        _refuse_odd_sizes({**config, "model_type": ""}, str(folder / "config.json"))
    except ConfigError as error:
        raise DataError(error.problem, error.where, error.fix) from None
    return config


CONTEXT_KEYS = (
    "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length",
    "max_sequence_length", "model_max_length", "max_seq_length",
)  # fmt: skip


def longest_context(config: Json) -> int | None:
    """The positions that a model was made for, by whichever name its configuration has."""
    config = text_config(config)
    for key in CONTEXT_KEYS:
        if isinstance(config.get(key), int) and config[key] > 0:
            return int(config[key])
    return None
