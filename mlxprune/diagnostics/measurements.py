"""Measurements: what a device does with the presets, each in a child process that may die.

The functions at the top run in the child. Speeds are medians of the second half of some seconds of
work: at first a GPU is not up to its clock.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlxprune.model.architecture import flops_per_token, full_config, preset_of, training_defaults
from mlxprune.model.memory_bounds import PROCESS_BYTES, memory_plan
from mlxprune.model.timing import median_seconds, part_and_update
from mlxprune.model.weights import initialise_model
from mlxprune.records import Json, SparseRecord

HERE = "mlxprune.diagnostics.measurements"
PRODUCTS, SPEED, BUSY = f"{HERE}:products", f"{HERE}:model_speed", f"{HERE}:busy"
VOCABULARY = 8192
CPU_POSITIONS = 4096  # of a training step that is timed on a CPU
WIDTHS = (128, 320, 512, 768, 4096)  # of the presets, and one that fills any GPU
FLUSHES = 20
BARRIER = 85  # F_BARRIERFSYNC of macOS: in order, not yet safe


@dataclass(frozen=True)
class ProductsOrder:
    dtypes: list[str]
    widths: list[int]
    seconds: float


class Product(SparseRecord):
    """Rows of 4,096 times a square matrix of ``width``."""

    dtype: str
    width: int
    tflops: float


@dataclass(frozen=True)
class SpeedOrder:
    model: str  # a preset
    seconds: float


class ModelSpeed(SparseRecord):
    """A preset at its own context: tokens a second and the share of ``peak_tflops`` that it uses;
    one micro-batch of ``rows`` in training and one batch in scoring, their seconds and bytes, and
    the bound of those bytes; the first step, which compiles."""

    model: str
    context: int
    peak_tflops: float
    training_tokens_per_second: float
    training_utilisation: float
    parts: int  # of a step of the preset's own batch
    rows: int
    part_seconds: float
    update_seconds: float
    first_step_seconds: float
    training_bytes: int
    training_bound: int
    scoring_tokens_per_second: float
    scoring_utilisation: float
    batch_seconds: float
    scoring_bytes: int
    scoring_bound: int


@dataclass(frozen=True)
class BusyOrder:
    """Steps of many parts of a preset, until the run has had enough."""

    model: str
    parts: int


class FlushTimes(SparseRecord):
    """Milliseconds, medians: the disk's own flush, the system's, and in order only."""

    full: float | None
    system: float
    barrier: float | None


def products(link: Any, order: ProductsOrder) -> list[Product]:
    """In the child."""
    import mlx.core as mx

    found = []
    for dtype in order.dtypes:
        kind = getattr(mx, dtype)
        for width in order.widths:
            a = mx.random.normal((4096, width)).astype(kind)
            b = mx.random.normal((width, width)).astype(kind)
            mx.eval(a, b)
            seconds = median_seconds(partial(_product, a, b), order.seconds)
            found.append(
                Product(dtype=dtype, width=width, tflops=2e-12 * 4096 * width**2 / seconds)
            )
            link.edge()
    return found


def _product(a: Any, b: Any) -> None:
    import mlx.core as mx

    mx.eval(a @ b)


def ids_of(rows: int, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets int32 [rows, context], ids as frequent as in text."""
    ids = np.random.default_rng(0).zipf(1.2, (rows, context + 1)) % VOCABULARY
    return ids[:, :-1].astype(np.int32), ids[:, 1:].astype(np.int32)


def model_speed(link: Any, order: SpeedOrder) -> ModelSpeed:
    """In the child."""
    from mlxprune.engine import backend

    device, preset = backend.detect(), preset_of(order.model)
    context = preset.training.context
    config = full_config(preset, VOCABULARY, context, 1, 1)
    peak, cost = backend.peak_flops(), flops_per_token(config, context)
    batch = max(1, round(preset.training.batch_tokens / context))
    parts = parts_of(order.model, batch, context, device.part_flops)
    if device.on_cpu:  # where a step is not cut, a few rows say as much
        parts = batch // min(batch // parts, max(1, CPU_POSITIONS // context))
    steps = _step_times(config, batch // parts, context, order.seconds)
    training = batch * context / (parts * steps.part + steps.update)
    scoring = _batch_times(config, context, order.seconds)
    rate = scoring.tokens / scoring.seconds
    return ModelSpeed(
        model=order.model,
        context=context,
        peak_tflops=peak / 1e12,
        training_tokens_per_second=training,
        training_utilisation=3 * training * cost / peak,
        parts=parts,
        rows=batch // parts,
        part_seconds=steps.part,
        update_seconds=steps.update,
        first_step_seconds=steps.first,
        training_bytes=steps.held,
        training_bound=steps.bound,
        scoring_tokens_per_second=rate,
        scoring_utilisation=rate * cost / peak,
        batch_seconds=scoring.seconds,
        scoring_bytes=scoring.held,
        scoring_bound=scoring.bound,
    )


class _StepTimes(NamedTuple):
    """Seconds of one part, of the update, and of the first step; bytes held, and their bound."""

    part: float
    update: float
    first: float
    held: int
    bound: int


def _step_times(config: Json, rows: int, context: int, seconds: float) -> _StepTimes:
    from mlxprune.engine import backend
    from mlxprune.engine.optimizer import make_optimizer

    bound = memory_plan(config, context).training_bytes(rows) + own_bytes()
    backend.limit_memory(bound)
    model = initialise_model(config, 0)
    its = make_optimizer("adamw", 1e-4, 0.1)
    its.init(model.trainable_parameters())
    backend.reset_peak_memory()
    one = backend.step_function(model, its, 1, 1.0)
    a_part, of_two = ids_of(rows, context), ids_of(2 * rows, context)
    began = time.perf_counter()
    one(*a_part, 1e-4)()
    first = time.perf_counter() - began
    once = median_seconds(lambda: one(*a_part, 1e-4)(), seconds)
    held = backend.peak_memory()
    two = backend.step_function(model, its, 2, 1.0)
    twice = median_seconds(lambda: two(*of_two, 1e-4)(), seconds)
    return _StepTimes(*part_and_update(once, twice), first, held, bound)


def own_bytes() -> int:
    """What a process holds besides: a CPU's figures are of all of it, a GPU's of MLX's buffers."""
    from mlxprune.engine import backend

    return PROCESS_BYTES if backend.detect().on_cpu else 0


class _BatchTimes(NamedTuple):
    tokens: int
    seconds: float
    held: int
    bound: int


def _batch_times(config: Json, context: int, seconds: float) -> _BatchTimes:
    from mlxprune.engine import backend
    from mlxprune.scoring.windows import within_flops

    device, plan = backend.detect(), memory_plan(config, context)
    backend.release()
    model = initialise_model(config, 0)
    model.set_dtype(device.score_dtype)
    backend.reset_peak_memory()
    slots = within_flops(device.score_tokens_per_batch, config, context, device.part_flops)
    slots = plan.scoring_batch(slots, device.score_workers)
    inputs, targets = ids_of(max(1, slots // context), context)
    losses = backend.loss_function(model)
    took = median_seconds(lambda: np.array(losses(inputs, targets)), seconds)
    threads = len(backend.cpu_threads()) if device.on_cpu else 1
    held, bound = backend.peak_memory(), plan.scoring_bytes(slots, threads) + own_bytes()
    return _BatchTimes(inputs.size, took, held, bound)


def parts_of(model: str, batch: int, context: int, part_flops: float | None) -> int:
    """Into how many parts a run would cut a step of this preset."""
    from mlxprune.config.schema import Final
    from mlxprune.training.recipe import recipe_of
    from mlxprune.training.shapes import usual_parts

    settings = Final(model=model, context=context, batch_size=batch, tokens=1)
    preset = preset_of(model)
    assert training_defaults(settings, preset).context == context
    recipe = recipe_of(settings, preset, (VOCABULARY, 1, 1), 1, 0)
    return usual_parts(recipe, None, False, part_flops)


def busy(link: Any, order: BusyOrder) -> int:
    """In the child: steps that obey the run between their parts; the parts that were begun."""
    from mlxprune.engine import backend
    from mlxprune.engine.optimizer import make_optimizer

    preset = preset_of(order.model)
    context = preset.training.context
    model = initialise_model(full_config(preset, VOCABULARY, context, 1, 1), 0)
    its = make_optimizer("adamw", 1e-4, 0.1)
    its.init(model.trainable_parameters())
    step = backend.step_function(model, its, order.parts, 1.0)
    begun = 0

    def between() -> None:
        nonlocal begun
        begun += 1
        if begun == 2:
            link.tell("begun")
        if link.pending():
            link.obey(lambda: None)

    step(*ids_of(order.parts, context), 1e-4, between)()
    return begun


def flush_times(folder: Path) -> FlushTimes:
    """Of small files in ``folder``, as markers and checkpoints are written."""
    import fcntl

    full = getattr(fcntl, "F_FULLFSYNC", None)

    def median(flush: Callable[[int], object]) -> float | None:
        taken = []
        with tempfile.TemporaryFile(dir=folder) as file, contextlib.suppress(OSError):
            for _ in range(FLUSHES):
                file.write(b"x" * 4096)
                file.flush()
                start = time.perf_counter()
                flush(file.fileno())
                taken.append(1000 * (time.perf_counter() - start))
        return sorted(taken)[len(taken) // 2] if len(taken) == FLUSHES else None

    return FlushTimes(
        full=median(lambda fd: fcntl.fcntl(fd, full)) if full is not None else None,
        system=median(os.fsync) or 0.0,
        barrier=median(lambda fd: fcntl.fcntl(fd, BARRIER)) if full is not None else None,
    )
