"""Evidence: one file that says whether this device computes right, and how fast.

``mlxprune doctor --selftest --report FILE``. It holds no name, no path and no text, so that it can
be shared; every line of its table ends in ok, FAIL or a number.
"""

from __future__ import annotations

import platform
import queue
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from mlxprune import machine, macos
from mlxprune.diagnostics.doctor import MachineFacts
from mlxprune.diagnostics.measurements import (
    BUSY,
    PRODUCTS,
    SPEED,
    WIDTHS,
    BusyOrder,
    FlushTimes,
    ModelSpeed,
    Product,
    ProductsOrder,
    SpeedOrder,
    flush_times,
)
from mlxprune.diagnostics.selftest import run_selftest
from mlxprune.errors import MlxpruneError, one_line
from mlxprune.execution.children import ChildEnded, Children, do_in_child
from mlxprune.execution.messages import Begin, Done, Ended, Failed, Hold, Save, Saved, Told
from mlxprune.model.device_choice import part_flops
from mlxprune.model.dtype_trial import DtypeFigures, TrialOrder
from mlxprune.records import SparseRecord

TRIAL = "mlxprune.model.dtype_trial:try_dtypes"
MODELS = ("pico", "nano", "micro", "125m")
CPU_MODELS = MODELS[:3]  # a step of 125m takes minutes there
DTYPES = ["float32", "bfloat16", "float16"]
SECONDS = 3.0  # of work behind a figure


class SystemFacts(SparseRecord):
    """The machine and its state; on a Mac before and after the measurements."""

    chip: str | None = None
    gpu_cores: int | None = None
    architecture: str | None = None
    working_set_bytes: int | None = None
    system: str | None = None
    translated: bool | None = None  # by Rosetta
    plugged: bool | None = None
    low_power: bool | None = None
    display_sleep_minutes: int | None = None
    displays_asleep: bool | None = None
    thermal: str | None = None
    pressure: str | None = None
    swap_bytes: int | None = None


class Evidence(SparseRecord):
    """The file. ``failed``: what could not be measured, and why; ``answered_seconds``: how long a
    child at work on steps of many parts took to hold."""

    facts: MachineFacts
    before: SystemFacts
    after: SystemFacts
    seconds: float
    trial: list[DtypeFigures]
    products: list[Product]
    models: list[ModelSpeed]
    flushes: FlushTimes | None
    answered_seconds: float | None
    child_start_seconds: float | None
    failed: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether every check passed and every measurement ended."""
        return bool(self.facts.ok) and not self.failed and not self.facts.problems


def system_facts() -> SystemFacts:
    from mlxprune.engine import hardware

    info = hardware.device_info()
    settings = macos.ask("pmset", "-g")
    graphics = macos.graphics_of(macos.ask("system_profiler", "SPDisplaysDataType", "-json"))
    version = platform.mac_ver()[0]
    return SystemFacts(
        chip=graphics.get("chip") or info.get("device_name"),
        gpu_cores=graphics.get("gpu_cores"),
        architecture=info.get("architecture"),
        working_set_bytes=info.get("max_recommended_working_set_size", info.get("total_memory")),
        system=f"macOS {version}" if version else f"{platform.system()} {platform.machine()}",
        translated=macos.is_translated(macos.ask("sysctl", "-n", "sysctl.proc_translated")),
        plugged=macos.plugged_of(macos.ask("pmset", "-g", "batt")),
        low_power=macos.low_power_of(settings),
        display_sleep_minutes=macos.display_sleep_of(settings),
        displays_asleep=graphics.get("displays_asleep"),
        thermal=macos.thermal_of(macos.ask("notifyutil", "-g", machine.THERMAL_KEY)),
        pressure=macos.pressure_of(macos.ask("sysctl", "-n", machine.PRESSURE_KEY)),
        swap_bytes=psutil.swap_memory().used,
    )


class _Nobody:
    """A control that asks for nothing, and a log that keeps nothing."""

    def pending(self) -> bool:
        return False

    def obey(self, save: Callable[[], None]) -> None:
        raise AssertionError("nothing is pending")

    def emit(self, stage: str | None, event: Any, force: bool = False) -> None:
        pass


def gather_evidence(say: Callable[[str], None], small: bool = False) -> Evidence:
    """The self-test, then what is measured; ``say`` is told what is under way. ``small``: all of
    no size, to see that it works."""
    from mlxprune.engine import backend

    began = time.monotonic()
    before = system_facts()
    facts = run_selftest(say=say)
    children, nobody = Children(), _Nobody()
    device = backend.detect()
    peak = backend.measured_peak()
    bound = device.part_flops or (None if device.on_cpu else part_flops(peak))
    train, score = (
        str(d).removeprefix("mlx.core.") for d in (device.train_dtype, device.score_dtype)
    )
    children.begin = Begin(train, score, bound, peak)
    failed: dict[str, str] = {}
    models: tuple[str, ...] = CPU_MODELS if device.on_cpu else MODELS
    models, seconds = (MODELS[:1], 0.0) if small else (models, SECONDS)

    def measured(name: str, function: str, order: Any, kind: Any, usual: Any) -> Any:
        say(f"{name} ...")
        try:
            return do_in_child(children, nobody, nobody, function, order, kind)
        except (ChildEnded, MlxpruneError, OSError) as error:
            failed[name] = one_line(error)
            return usual

    try:
        trial, dtypes = [], DTYPES[:1]  # the CPU's engine has float32 alone
        if not device.on_cpu:
            dtypes = DTYPES
            asked = TrialOrder("pico", DTYPES, 1, 0.0) if small else TrialOrder("nano", DTYPES)
            trial = measured("dtypes", TRIAL, asked, list[DtypeFigures], [])
        order = ProductsOrder(dtypes, [*(WIDTHS[:1] if small else WIDTHS)], seconds / 10)
        found = measured("matrix products", PRODUCTS, order, list[Product], [])
        speeds = [
            speed
            for model in models
            if (speed := measured(model, SPEED, SpeedOrder(model, seconds), ModelSpeed, None))
        ]
        say("how fast it answers ...")
        start, answered = _answering(children, failed, small)
    finally:
        children.close()
    with tempfile.TemporaryDirectory() as folder:
        flushes = flush_times(Path(folder))
    return Evidence(
        facts=facts,
        before=before,
        after=system_facts(),
        seconds=round(time.monotonic() - began, 1),
        trial=trial,
        products=found,
        models=speeds,
        flushes=flushes,
        answered_seconds=answered,
        child_start_seconds=start,
        failed=failed,
    )


def _answering(
    children: Children, failed: dict[str, str], small: bool
) -> tuple[float | None, float | None]:
    """Seconds that a fresh child takes to begin, and seconds until one at work on a long step holds
    when it is told to."""
    children.close()
    began = time.monotonic()
    (child,) = children.take()
    start = held = told = None
    try:
        child.start(BUSY, BusyOrder("pico" if small else "nano", 64))
        while held is None and time.monotonic() - began < 120:
            try:
                received = child.inbox.get(timeout=5)
            except queue.Empty:
                continue
            match received.message:
                case Told():
                    start, told = time.monotonic() - began, time.monotonic()
                    child.send(Hold())
                    child.send(Save())
                case Saved() if told is not None:
                    held = time.monotonic() - told
                case Done() | Failed() | Ended():
                    failed["answering"] = type(received.message).__name__
                    break
    finally:
        child.close()
    if held is None:
        failed.setdefault("answering", "no answer within two minutes")
    return start, held


def evidence_lines(evidence: Evidence) -> list[str]:
    """The measurements as a table for people; the checks are ``doctor_lines``'."""
    shown = []
    for one in evidence.trial:
        train = f"{one.train:,.0f}" if one.train else "-"
        shown.append(
            f"{one.dtype:<10} nano: scoring {one.score:,.0f}, training {train} tokens/s, largest "
            f"error {one.largest_error:.4f} nats, rank correlation {one.rank_correlation:.5f}"
        )
    for dtype in dict.fromkeys(p.dtype for p in evidence.products):
        rates = ", ".join(
            f"{p.width}: {p.tflops:.2f}" for p in evidence.products if p.dtype == dtype
        )
        shown.append(f"products   {dtype}, TFLOP/s by width {rates}")
    for m in evidence.models:
        inside = m.training_bytes <= m.training_bound and m.scoring_bytes <= m.scoring_bound
        # A CPU's figure is of the process, and that of scoring comes after training in the same.
        verdict = "inside" if inside else "OUTSIDE"
        if evidence.facts.backend is not None and evidence.facts.backend.name == "cpu":
            verdict = "of the process;"
        shown += [
            f"{m.model:<10} training {m.training_tokens_per_second:,.0f} tokens/s "
            f"({m.training_utilisation:.0%}), {m.parts} x {m.rows} rows of {m.context}, a part "
            f"{m.part_seconds:.3f} s, an update {m.update_seconds:.3f} s, the first "
            f"{m.first_step_seconds:.1f} s",
            f"           scoring {m.scoring_tokens_per_second:,.0f} tokens/s "
            f"({m.scoring_utilisation:.0%}), a batch {m.batch_seconds:.3f} s; memory "
            f"{m.training_bytes / 2**20:,.0f} and {m.scoring_bytes / 2**20:,.0f} MiB, "
            f"{verdict} their bounds of {m.training_bound / 2**20:,.0f} "
            f"and {m.scoring_bound / 2**20:,.0f}",
        ]
    if (flushes := evidence.flushes) is not None:
        full = "-" if flushes.full is None else f"{flushes.full:.1f}"
        shown.append(f"flushes    disk {full} ms, system {flushes.system:.1f} ms")
    if evidence.answered_seconds is not None:
        shown.append(
            f"answers    a child held {evidence.answered_seconds:.2f} s after it was told to; it "
            f"had begun after {evidence.child_start_seconds:.1f} s"
        )
    for name in ("thermal", "pressure", "low_power", "displays_asleep"):
        told = [getattr(one, name) for one in (evidence.before, evidence.after)]
        if any(value is not None for value in told):
            shown.append(f"{name:<10} {told[0]} before, {told[1]} after")
    shown += [f"FAIL       {name}: {why}" for name, why in evidence.failed.items()]
    return shown
