"""Hardware: the kinds of device that MLX computes on, and what follows from each: one place for
dtypes, engine, batch sizes, memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import mlx.core as mx
import psutil

from mlxprune import machine


@dataclass(frozen=True)
class Backend:
    """The device that MLX computes on, and what follows from it."""

    name: str  # metal, cuda, cpu; graph: the engine of a GPU, forced on a CPU
    device: str  # for people
    train_dtype: mx.Dtype  # of weights and activations; sums, loss and optimizer are float32
    score_dtype: mx.Dtype
    score_tokens_per_batch: int  # input positions of one scoring batch, before the memory limit
    answer_tokens_per_batch: int  # of requests: a GPU keeps keys and values of all layers, too
    score_workers: int  # processes that score
    compiled: bool  # whether batches of scoring are compiled, one trace a shape
    compiled_steps: bool  # whether training steps are
    fused_attention_gradient: bool  # MLX has one; else ours goes by blocks of queries
    memory_bytes: int  # what batch shapes may assume: half of the recommended working set
    part_flops: float | None = None  # of one batch or micro-batch at most; None: no bound

    @property
    def on_cpu(self) -> bool:
        """Whether the engine in NumPy works, for models that it knows."""
        return self.name == "cpu"


DTYPES = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32}
FORCED = "MLXPRUNE_FORCE_GRAPH"  # dtype[,eager]: what a GPU runs, on a CPU, for tests
FORCED_PART_FLOPS = 2.0**30
PART_SECONDS = 0.25  # of the measured peak: longer ones make a Mac's screen and its watchdog wait


@cache
def look() -> Backend:
    """The device of this machine, as it is by default."""
    half = mx.bfloat16
    forced = os.environ.get(FORCED)
    if forced:
        dtype, _, how = forced.partition(",")
        kind = DTYPES[dtype]
        return Backend(
            "graph", f"the engine of a GPU on a CPU, {forced}", kind, kind, 4_096, 4_096, 1,
            how != "eager", how != "eager", False, 4 << 30, FORCED_PART_FLOPS,
        )  # fmt: skip
    info = device_info()
    if mx.metal.is_available():
        working_set = int(info.get("max_recommended_working_set_size", 8 << 30))
        name = str(info.get("device_name", "Apple GPU"))
        return _metal(name, working_set)
    if mx.default_device().type == mx.DeviceType.gpu:
        total = int(info.get("memory_size", info.get("total_memory", 16 << 30)))
        name = str(info.get("device_name", "CUDA GPU"))
        # MLX builds every fused kernel of a training step with NVRTC, seconds each: a compiled step
        # had not ended after three quarters of a minute on an H100, an eager one takes 0.2 s.
        return Backend("cuda", name, half, half, 32_768, 16_384, 1, True, False, False, total // 2)
    cores = machine.cores()
    total = psutil.virtual_memory().total
    single = mx.float32
    return Backend(
        "cpu",
        f"CPU, {cores} cores",
        single,
        single,
        2_048,
        32_768,
        cores,
        False,
        False,
        False,
        total // 2,
    )


def _metal(name: str, working_set: int) -> Backend:
    half = mx.bfloat16
    return Backend("metal", name, half, half, 16_384, 8_192, 1, True, True, False, working_set // 2)


def a_mac(gigabytes: float) -> Backend:
    """What ``detect`` would say on a Mac with so much memory, on the safe side: MLX may take two
    thirds of it, three quarters from 48 GB on."""
    working_set = int(gigabytes * 2**30 * (0.75 if gigabytes >= 48 else 2 / 3))
    return _metal(f"a Mac with {gigabytes:g} GB", working_set)


def device_info() -> dict[str, Any]:
    """What MLX says of its device; nothing where it says nothing."""
    try:
        return dict(mx.device_info())
    except Exception:  # MLX raises ValueError or RuntimeError by backend and version
        return {}
