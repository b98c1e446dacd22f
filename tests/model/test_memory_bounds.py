"""Memory: the bounds hold, are not far off, and decide batch shapes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from mlxprune.model.architecture import full_config, preset_of
from mlxprune.model.memory_bounds import PROCESS_BYTES, MemoryPlan, ModelSizes

MEASURE = """
import json, sys
import mlxprune
import mlx.core as mx
import numpy as np
from mlxprune import machine
from mlxprune.engine import backend, hardware
from mlxprune.engine.optimizer import make_optimizer
from mlxprune.model.weights import initialise_model

config, context, rows, what = json.loads(sys.argv[1])
backend.detect()
if what == "scoring":
    backend.set_threads(1)
backend.limit_memory()
small = {**config, "hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 128, "head_dim": 32}
small |= {"intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}


def peak(config, rows, context):
    model = initialise_model(config, 0)
    mx.clear_cache()
    machine.reset_peak_resident()
    ids = np.random.default_rng(0).integers(0, config["vocab_size"], (rows, context + 1))
    ids = ids.astype(np.int32)
    if what == "scoring":
        losses = backend.loss_function(model)
        for _ in range(2):
            np.array(losses(ids[:, :-1], ids[:, 1:]))
    else:
        its = make_optimizer("adamw", 1e-4, 0.1)
        its.init(model.trainable_parameters())
        step = backend.step_function(model, its, 1, 1.0)
        for _ in range(2):
            step(ids[:, :-1], ids[:, 1:], 1e-4)()
    return machine.peak_resident_bytes()


print(json.dumps([peak(small, 1, 16), peak(config, rows, context)]))
"""


def config_of(vocab_size: int, **changes: Any) -> dict[str, Any]:
    shape = preset_of("pico")
    sizes = {
        "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 4, "intermediate_size": 352, "head_dim": 32,
    }  # fmt: skip
    return full_config(shape, vocab_size, 256, 1, 1) | sizes | changes


def plan_of(
    config: dict[str, Any], context: int, backend: str = "metal", threads: int = 1, allowed: int = 1
) -> MemoryPlan:
    return MemoryPlan(ModelSizes(config, context), backend, threads, allowed)


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", [8192, 131_072])
@pytest.mark.parametrize("what", ["training", "scoring"])
def test_what_is_held_is_within_the_bound(vocab_size: int, what: str) -> None:
    """In a process of its own; the bound is of use, too: not above three times what is held."""
    from mlxprune.engine import backend

    if not backend.detect().on_cpu:
        pytest.skip("peak memory of the process is what is measured")
    config = config_of(vocab_size)
    context, rows = 256, 16
    command = [sys.executable, "-c", MEASURE, json.dumps([config, context, rows, what])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, peak = json.loads(done.stdout)
    if what == "training":
        bound = plan_of(
            config, context, "cpu", threads=backend.detect().score_workers
        ).training_bytes(rows, "adamw")
    else:
        bound = plan_of(config, context, "cpu").scoring_bytes(rows * context)
    print(f"held {(peak - before) / 2**20:.0f} MiB, bound {bound / 2**20:.0f} MiB")
    assert before <= PROCESS_BYTES
    assert peak - before <= bound
    assert bound <= 3 * (peak - before) + (32 << 20)
    whole = 4 * rows * context * vocab_size
    assert vocab_size < 100_000 or what == "training" or peak - before < whole


def test_batches_shrink_until_they_fit() -> None:
    config = config_of(131_072)
    wide, tight, none = (
        plan_of(config, 256, allowed=limit).scoring_batch(65_536, 1)
        for limit in (1 << 40, 500 << 20, 1)
    )
    assert wide == 65_536 > tight > none == 256
    assert plan_of(config, 256).scoring_bytes(tight) <= 500 << 20

    def parts(limit: int) -> int:
        return plan_of(config, 256, allowed=limit).micro_batches(64, "adamw")

    assert parts(1 << 40) == 1
    assert 1 < parts(1400 << 20) < 64
    assert parts(1) == 64


def test_checkpointing_and_smaller_batches_need_less() -> None:
    config = config_of(8192, num_hidden_layers=16)

    def need(rows: int, checkpointing: bool) -> int:
        return plan_of(config, 1024).training_bytes(rows, "adamw", checkpointing)

    assert need(8, True) < need(8, False)
    assert need(1, False) < need(8, False)


@pytest.mark.parametrize("heads", [4, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("context", [128, pytest.param(320, marks=pytest.mark.slow)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_the_graph_holds_is_within_the_bound(
    heads: int, context: int, checkpointing: bool
) -> None:
    """Heads of 32 and 64, MLX's attention and ours: by MLX's own count of bytes, on a CPU."""
    import mlx.core as mx
    import numpy as np

    from mlxprune.engine import backend
    from mlxprune.engine.optimizer import make_optimizer
    from mlxprune.model.memory_bounds import memory_plan
    from mlxprune.model.weights import initialise_model
    from mlxprune.testing.forced import forced_graph

    rows = 2
    config = config_of(
        512,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=128 // heads,
    )
    ids = np.random.default_rng(0).integers(0, 512, (rows, context + 1)).astype(np.int32)
    with forced_graph("bfloat16", compiled=False):
        plan = memory_plan(config, context)
        training = plan.training_bytes(rows, "adamw", checkpointing)
        model = initialise_model(config, 0)
        its = make_optimizer("adamw", 1e-4, 0.1)
        its.init(model.trainable_parameters())
        step = backend.step_function(model, its, 1, 1.0, checkpointing)
        limits = mx.set_cache_limit(0), mx.set_memory_limit(1 << 20)  # MLX waits for what it holds
        try:
            mx.clear_cache()
            backend.reset_peak_memory()
            for _ in range(2):
                step(ids[:, :-1], ids[:, 1:], 1e-4)()
            held = backend.peak_memory()
        finally:
            mx.set_cache_limit(limits[0])
            mx.set_memory_limit(limits[1])
    print(f"held {held / 2**20:.0f} MiB, bound {training / 2**20:.0f} MiB")
    assert held <= training
    assert training < 12 * held + (300 << 20)


MACS = (8, 16, 24, 36, 64, 128)
FITS = {"pico": 8, "nano": 8, "micro": 8, "mini": 8, "125m": 8, "1b": 64, "3b": 128}  # GB


@pytest.mark.parametrize("gigabytes", MACS)
@pytest.mark.parametrize("name", FITS)
def test_what_fits_on_which_mac(name: str, gigabytes: int) -> None:
    """With the preset's own batch: a micro-batch of one sequence at the least is inside what MLX
    may take, from the size on that is listed; the usual batches are inside half of it."""
    from mlxprune.engine import backend, hardware
    from mlxprune.model.memory_bounds import memory_plan

    preset = preset_of(name)
    context = preset.training.context
    config = full_config(preset, 32_768, context, 1, 1)
    batch = max(1, preset.training.batch_tokens // context)
    backend.pretend(hardware.a_mac(gigabytes))
    try:
        plan = memory_plan(config, context)
        parts = plan.micro_batches(batch, "adamw")
        needed = plan.training_bytes(batch // parts, "adamw")
        scoring = plan.scoring_bytes(plan.scoring_batch(16_384, 1))
        working_set = 2 * plan.allowed
    finally:
        backend.unsettle()
    print(
        f"{name} on {gigabytes} GB: {parts} parts, {needed / 1e9:.1f} of {working_set / 1e9:.1f} GB"
    )
    assert (needed <= working_set) == (gigabytes >= FITS[name])
    assert scoring <= working_set or gigabytes < FITS[name]
