"""A short measurement of this machine: how fast it trains and scores, in FLOPs a second.

Run in a child process: a probe must never take the run down with it, nor leave memory behind.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlxprune.errors import RunError, one_line
from mlxprune.model.architecture import (
    flops_per_token,
    parameter_counts,
    preset_of,
    read_model_config,
    text_config,
)
from mlxprune.model.timing import median_seconds, part_and_update
from mlxprune.model.weights import initialise_model
from mlxprune.records import Json, Record, plain, record_of

PROBED_LAYERS = 2  # of a pretrained model
LARGEST_PROBED = 20_000_000  # parameters; larger models are extrapolated from `micro`


class Throughput(Record):
    """Targets a second."""

    train: float
    score: float


def measure_throughput(shape_name: str, vocab_size: int, context: int) -> Throughput:
    """Of a preset on this machine, extrapolated when it is large."""
    shape = preset_of(shape_name)
    body, _ = parameter_counts({**shape.config, "vocab_size": vocab_size})
    probed = shape_name if body <= LARGEST_PROBED else "micro"
    answer = _measured_in_child(probed, [probed, str(vocab_size), str(context)])
    rates = record_of(answer, Throughput)
    if probed != shape_name:
        cost = flops_per_token({**shape.config, "vocab_size": vocab_size}, context)
        small = preset_of(probed).config
        factor = flops_per_token({**small, "vocab_size": vocab_size}, context) / cost
        rates = Throughput(train=rates.train * factor, score=rates.score * factor)
    return rates


def measure_scoring(folder: Path, context: int) -> float:
    """Tokens a second that a model of a folder's configuration scores on this machine, with random
    weights; of a deep one the first layers are timed, and FLOPs give the rest."""
    return float(_measured_in_child(str(folder), ["score", str(folder), str(context)]))


def _measured_in_child(model: str, arguments: list[str]) -> Any:
    """What this module, run as a program, prints last. Raises RunError, which names the model."""
    command = [sys.executable, "-m", "mlxprune.planning.throughput", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        last = one_line(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no word")
        raise RunError(f"the probe failed: {last}", model, "mlxprune doctor says what is wrong")
    return json.loads(done.stdout.strip().splitlines()[-1])


def shallow(config: Json, layers: int = PROBED_LAYERS) -> Json:
    """The same model with its first layers alone, lists of layers cut with them."""
    for key in ("num_hidden_layers", "n_layer", "num_layers"):
        depth = config.get(key)
        if isinstance(depth, int) and depth > layers:
            cut = {
                k: v[:layers] if isinstance(v, list) and len(v) == depth else v
                for k, v in config.items()
            }
            return {**cut, key: layers}
    return config


def _probe_scoring(folder: Path, context: int) -> float:
    import numpy as np

    from mlxprune.engine import backend

    device = backend.detect()
    config = preset_of(str(folder)).config
    vocabulary = int(text_config(read_model_config(folder)).get("vocab_size") or 50_000)
    whole = {**config, "vocab_size": vocabulary}
    part = shallow(whole)
    model = initialise_model({**part, "max_position_embeddings": context} | part, 0)
    if not device.on_cpu:
        model.set_dtype(device.score_dtype)
    rows = max(1, min(2048, device.score_tokens_per_batch) // context)
    ids = np.random.default_rng(0).integers(0, vocabulary, (rows, context + 1))
    inputs, targets = ids[:, :-1].astype(np.int32), ids[:, 1:].astype(np.int32)
    losses = backend.loss_function(model)
    taken = median_seconds(lambda: np.array(losses(inputs, targets)), 0.7)
    return rows * context / taken * flops_per_token(part, context) / flops_per_token(whole, context)


def _probe(shape_name: str, vocab_size: int, context: int) -> Throughput:
    import numpy as np

    from mlxprune.config.schema import Final
    from mlxprune.engine import backend
    from mlxprune.engine.optimizer import make_optimizer
    from mlxprune.model.device_choice import part_flops
    from mlxprune.training.recipe import recipe_of
    from mlxprune.training.shapes import usual_parts

    device, shape = backend.detect(), preset_of(shape_name)
    bound = device.part_flops or (None if device.on_cpu else part_flops(backend.peak_flops()))
    usual = max(1, round(shape.training.batch_tokens / context))
    batch = usual if bound else max(1, 2048 // context)  # a CPU does not cut a step
    settings = Final(model=shape_name, context=context, batch_size=batch, tokens=1)
    recipe = recipe_of(settings, shape, (vocab_size, 1, 1), 1, 0)
    parts = usual_parts(recipe, None, False, bound)
    rows = batch // parts
    model = initialise_model(recipe.config, 0)
    ids = np.random.default_rng(0).integers(0, vocab_size, (2 * rows, context + 1))
    inputs, targets = ids[:, :-1].astype(np.int32), ids[:, 1:].astype(np.int32)
    losses = backend.loss_function(model)
    one, two = (inputs[:rows], targets[:rows]), (inputs, targets)
    least = 0.7 if device.on_cpu else 2.0  # a GPU has to get up to its clock
    scoring = rows * context / median_seconds(lambda: np.array(losses(*one)), least)
    backend.release()
    its = make_optimizer(recipe.optimizer, recipe.learning_rate, recipe.weight_decay)
    its.init(model.trainable_parameters())

    def seconds(parts: int, batch: tuple[np.ndarray, np.ndarray]) -> float:
        step = backend.step_function(model, its, parts, recipe.clip)
        return median_seconds(lambda: step(*batch, recipe.learning_rate)(), least)

    taken = seconds(1, one)
    if parts > 1:  # a whole step: its parts, and one update
        a_part, update = part_and_update(taken, seconds(2, two))
        taken = parts * a_part + update
    return Throughput(train=batch * context / taken, score=scoring)


if __name__ == "__main__":
    if sys.argv[1] == "score":
        print(json.dumps(_probe_scoring(Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        print(json.dumps(plain(_probe(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
