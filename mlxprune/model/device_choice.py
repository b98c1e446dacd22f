"""Device choice: what a run has decided about its device, once, before its first batch.

Dtypes and the largest batch decide the last bits of every result, and both rest on measurements;
so they stand in device.json, and a run that is started again on the same device has the same.
"""

from __future__ import annotations

import math

from mlxprune.checksums import read_sealed, write_sealed
from mlxprune.config.schema import Config
from mlxprune.execution.children import ChildEnded, do_in_child
from mlxprune.execution.context import Execution
from mlxprune.execution.messages import Begin
from mlxprune.model.dtype_trial import DtypeFigures, TrialOrder, chosen_dtypes
from mlxprune.records import Record, record_of

EMULATED = ("applegpu_g13", "applegpu_g14")  # M1, M2: no bfloat16 of their own
FILE = "device.json"


class DeviceChoice(Record):
    """device.json. ``asked``: the key `dtype`; ``part_flops``: of one batch or micro-batch at most,
    null for no bound; ``trial``: what was measured, where it had to be."""

    backend: str
    device: str
    asked: str
    train_dtype: str
    score_dtype: str
    peak_flops: float
    part_flops: float | None
    why: str
    trial: list[DtypeFigures]


def settle_device(execution: Execution) -> DeviceChoice:
    """Decide, or read what was decided, and let this process and its children keep to it."""
    from mlxprune.engine import backend

    path = execution.run.path / FILE
    backend.unsettle()
    device = backend.detect()
    try:
        before = record_of(read_sealed(path), DeviceChoice)
    except (OSError, ValueError):
        before = None
    same = before is not None and (before.backend, before.device, before.asked) == (
        device.name,
        device.device,
        execution.config.dtype,
    )
    if before is not None and same:
        choice = before
    else:
        choice = _decide(execution)
        write_sealed(path, choice)
        if before is not None and before.device != choice.device:
            message = f"this run began on {before.device}: from here on its last bits are others"
            execution.warn("reference", message)
    backend.settle(choice.train_dtype, choice.score_dtype, choice.part_flops, choice.peak_flops)
    execution.children.begin = Begin(
        choice.train_dtype, choice.score_dtype, choice.part_flops, choice.peak_flops
    )
    return choice


def _decide(execution: Execution) -> DeviceChoice:
    from mlxprune.engine import backend, hardware

    device, config = backend.detect(), execution.config
    usual = str(device.train_dtype).removeprefix("mlx.core.")
    train, score, why = usual, usual, f"what {device.name} computes in"
    trial: list[DtypeFigures] = []
    if config.dtype != "auto" and device.on_cpu:
        execution.warn("reference", f"dtype {config.dtype} is for a GPU: the CPU has float32")
    elif config.dtype != "auto":
        train, score, why = _asked(config)
    elif str(hardware.device_info().get("architecture", "")).startswith(EMULATED):
        trial, why = _trial(execution)
        train, score = chosen_dtypes(trial) if trial else (usual, usual)
    peak = backend.peak_flops()
    return DeviceChoice(
        backend=device.name,
        device=device.device,
        asked=config.dtype,
        train_dtype=train,
        score_dtype=score,
        peak_flops=peak,
        part_flops=device.part_flops or (None if device.on_cpu else part_flops(peak)),
        why=why,
        trial=trial,
    )


def part_flops(peak: float) -> float:
    """A quarter of a second at the measured peak, rounded to a power of two, so that another
    measurement has the same result."""
    from mlxprune.engine.hardware import PART_SECONDS

    return 2.0 ** round(math.log2(PART_SECONDS * peak))


def _asked(config: Config) -> tuple[str, str, str]:
    train = "float32" if config.dtype == "float16" else config.dtype
    return train, config.dtype, "asked for"


def _trial(execution: Execution) -> tuple[list[DtypeFigures], str]:
    order = TrialOrder("micro", ["bfloat16", "float16", "float32"])
    try:
        found: list[DtypeFigures] = do_in_child(
            execution.children,
            execution.control,
            execution.log,
            "mlxprune.model.dtype_trial:try_dtypes",
            order,
            list[DtypeFigures],
        )
    except ChildEnded as ended:
        return [], f"the trial of dtypes failed: {ended}"
    return found, "the fastest of a short trial"
