"""Models: presets, sizes, initialisation, and the Hugging Face layout they are saved in.

Presets are data in ``models/``. Any other architecture comes from a config.json that mlx-lm builds.
Saved folders open in ``mlx_lm.load`` and ``transformers.AutoModelForCausalLM`` without trust flags.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlxprune.data.hub import fetch_from_hub
from mlxprune.errors import DataError, one_line
from mlxprune.execution.endings import ending_of
from mlxprune.files import finish_file, no_space_behind_runtime_errors, write_json
from mlxprune.model.architecture import build_model
from mlxprune.model.model_checks import EMBEDDINGS
from mlxprune.tokenization.tokenizer import copy_tokenizer

if TYPE_CHECKING:
    import mlx.nn as nn

MODEL_VERSION = 1
WEIGHTS = "model.safetensors"
OUTPUT_PROJECTIONS = ("o_proj.weight", "down_proj.weight", "c_proj.weight", "out_proj.weight")


def initialise_model(config: dict[str, Any], seed: int) -> nn.Module:
    """A model to train from scratch, the same on every backend.

    Matrices are normal with variance 2 / (5 d) (Nguyen and Salazar 2019, "small init"), those that
    write to the residual stream are divided by sqrt(2 layers) (Radford et al. 2019); norms start at
    one and biases at zero. Parameters of other kinds keep what their class gives them.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_unflatten

    mx.random.seed(seed)
    model = build_model(config)
    width = config.get("hidden_size", config.get("n_embd", 512))
    layers = config.get("num_hidden_layers", config.get("n_layer", 1))
    deviation = math.sqrt(2 / (5 * width))
    fresh = []
    for name, array in tree_flatten(model.parameters()):
        if array.ndim == 2 and name.endswith("weight"):
            digest = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=16).digest()
            generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
            scale = (
                deviation / math.sqrt(2 * layers)
                if name.endswith(OUTPUT_PROJECTIONS)
                else deviation
            )
            values = generator.standard_normal(array.shape, dtype=np.float32) * np.float32(scale)
            fresh.append((name, mx.array(values)))
        elif name.endswith("bias"):
            fresh.append((name, mx.zeros(array.shape, mx.float32)))
        else:
            fresh.append((name, array.astype(mx.float32)))
    model.update(tree_unflatten(fresh))
    mx.eval(model.parameters())
    return model


def save_model(
    model: nn.Module, config: dict[str, Any], tokenizer_folder: Path, folder: Path
) -> None:
    """Hugging Face layout: config.json, model.safetensors, the tokenizer's files."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    folder.mkdir(parents=True, exist_ok=True)
    weights = dict(sorted(tree_flatten(model.parameters())))
    partial = folder / f"partial-{WEIGHTS}"
    with no_space_behind_runtime_errors(folder):
        mx.save_safetensors(str(partial), weights, metadata={"format": "mlx"})
    finish_file(partial, folder / WEIGHTS)
    generation = {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]}
    write_json(folder / "generation_config.json", generation)
    write_json(folder / "config.json", config)
    copy_tokenizer(tokenizer_folder, folder)


def load_model(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A model of Hugging Face layout in the backend's compute dtype, and its configuration."""
    from mlxprune.engine import backend
    from mlxprune.engine.mlx_lm_import import ready_mlx_lm

    device = backend.detect()
    ready_mlx_lm()
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import load_model

    try:
        model, config = load_model(folder, trust_remote_code=False)
    except Exception as error:  # of mlx-lm, over files that somebody wrote
        if isinstance(error, RuntimeError) and ending_of(str(error)) is not None:
            raise  # it is the device's: whoever supervises begins again
        fix = "give a folder with config.json and model*.safetensors, or a hub id"
        raise DataError(f"cannot open the model: {one_line(error)}", str(folder), fix) from None
    for name, array in tree_flatten(model.parameters()):
        if not mx.issubdtype(array.dtype, mx.floating):
            continue
        finite = mx.isfinite(array)
        if mx.all(finite).item():
            continue
        # Some broken rows of an embedding leave the documents without a score that have such a
        # token; whoever scores tells which.
        if name.endswith(EMBEDDINGS) and mx.any(mx.all(finite, axis=-1)).item():
            continue
        fix = "fetch or train the model again"
        problem = f"the weight {one_line(name)} holds numbers that are not finite"
        raise DataError(problem, str(folder), fix)
    if "quantization" not in config:
        model.set_dtype(device.score_dtype)
    mx.eval(model.parameters())
    return model, config


MODEL_FILES = ("model*.safetensors", "config.json")


def fetch_model(name: str) -> Path:
    """A local folder, or a snapshot of a hub id with its weights."""
    patterns = ["*.json", "*.model", "*.txt", "*.tiktoken", "model*.safetensors"]
    return fetch_from_hub(name, patterns)
