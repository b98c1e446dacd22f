"""Doctor: what this machine and installation are, and a self-test that proves the numbers."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from mlxprune import machine, macos
from mlxprune.engine import blas
from mlxprune.errors import one_line
from mlxprune.records import Json, Record, SparseRecord

MATMUL_SIZE = 2048
SLOW_MATMUL_SHARE = 0.5


class BlasFacts(Record):
    """The library behind matrix products, and how it came to be it."""

    library: str
    how: str
    fast: bool


class BackendFacts(Record):
    name: str
    device: str
    dtype: str
    memory_for_batches: int


class MatmulSpeed(Record):
    """GFLOP/s of a float32 product."""

    mlx_gflops: float
    numpy_gflops: float


class MachineFacts(SparseRecord):
    """What ``doctor --json`` prints; ``ok`` and ``checks`` are those of the self-test."""

    platform: str
    python: str
    packages: dict[str, str]
    memory_bytes: int
    free_disk_bytes: int
    blas: BlasFacts
    problems: list[str]
    busy: str | None = None  # that others work on it, so that speeds are lower than they could be
    backend: BackendFacts | None = None  # None: MLX does not load
    matmul: MatmulSpeed | None = None
    ok: bool | None = None
    checks: dict[str, Json] | None = None


def examine_machine() -> MachineFacts:
    """Facts about machine and installation, and what is wrong with them."""
    import psutil

    translated = macos.is_translated(macos.ask("sysctl", "-n", "sysctl.proc_translated"))
    version = platform.mac_ver()[0]
    unfit = macos.why_unfit(platform.system(), platform.machine(), version, translated)
    busy = machine.busy_words()  # before this works itself
    loaded = blas.load()
    held: BackendFacts | None = None
    speed: MatmulSpeed | None = None
    problems = [unfit] if unfit else []
    try:
        from mlxprune.engine import backend

        device = backend.detect()
        held = BackendFacts(
            name=device.name,
            device=device.device,
            dtype=str(device.train_dtype),
            memory_for_batches=device.memory_bytes,
        )
        if sys.platform == "darwin" and device.name == "cpu":
            problems.append(
                "MLX sees no Metal here (a virtual machine?): everything is computed on the CPU"
            )
        speed = matmul_speed()
        share = speed.mlx_gflops / speed.numpy_gflops
        if share < SLOW_MATMUL_SHARE:
            problems.append(
                f"MLX multiplies matrices at {share:.2f} of NumPy's speed: "
                "pip install scipy-openblas32, and import mlxprune before mlx"
            )
    except ImportError as error:
        problems.append(f"MLX does not load ({one_line(error)}): pip install 'mlx[cpu]' on Linux")
    return MachineFacts(
        platform=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages=machine.package_versions(),
        memory_bytes=psutil.virtual_memory().total,
        free_disk_bytes=shutil.disk_usage(Path.cwd()).free,
        blas=BlasFacts(library=_short(loaded.library), how=loaded.how, fast=loaded.fast),
        problems=problems,
        busy=busy,
        backend=held,
        matmul=speed,
    )


def _short(library: str) -> str:
    """A path without the folders above the package: nothing of the user's home is shown."""
    parts = Path(library).parts
    return "/".join(parts[-3:]) if len(parts) > 3 else library


def matmul_speed(size: int = MATMUL_SIZE) -> MatmulSpeed:
    """GFLOP/s of a float32 product through MLX and through NumPy, medians of five, in turns."""
    import mlx.core as mx
    import threadpoolctl

    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    x, y = mx.array(a), mx.array(b)
    taken: dict[str, list[float]] = {"mlx": [], "numpy": []}
    with threadpoolctl.threadpool_limits(machine.cores(), user_api="blas"):
        for _ in range(6):
            for name, product in (("mlx", lambda: mx.eval(x @ y)), ("numpy", lambda: a @ b)):
                start = time.perf_counter()
                product()
                taken[name].append(time.perf_counter() - start)
    mlx, numpy = (2e-9 * size**3 / sorted(taken[name][1:])[2] for name in ("mlx", "numpy"))
    return MatmulSpeed(mlx_gflops=mlx, numpy_gflops=numpy)


def doctor_lines(facts: MachineFacts) -> list[str]:
    """The facts for people."""
    shown = [
        f"python     {facts.python} on {facts.platform}",
        f"memory     {facts.memory_bytes / 2**30:.1f} GiB",
        f"disk       {facts.free_disk_bytes / 1e9:.0f} GB free",
        "packages   " + ", ".join(f"{n} {v}" for n, v in facts.packages.items()),
    ]
    if (device := facts.backend) is not None:
        shown.append(f"device     {device.name}: {device.device}, {device.dtype}")
    state = "fast" if facts.blas.fast else "SLOW"
    shown.append(f"blas       {state}: {facts.blas.library} ({facts.blas.how})")
    if (speed := facts.matmul) is not None:
        shown.append(
            f"matmul     {speed.mlx_gflops:.0f} GFLOP/s through MLX, "
            f"{speed.numpy_gflops:.0f} through NumPy"
        )
    for name, check in (facts.checks or {}).items():
        detail = ", ".join(f"{k} {v}" for k, v in check.items() if k not in ("ok", "seconds"))
        shown.append(f"{'ok  ' if check['ok'] else 'FAIL'}       {name}: {detail}")
    if facts.busy:
        shown.append(f"busy       {facts.busy}: speeds are lower than they could be")
    shown += [f"problem    {p}" for p in facts.problems]
    if not facts.problems and facts.ok is not False:
        shown.append("all well")
    return shown
