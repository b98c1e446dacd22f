"""Doctor: what this machine and installation are, and a self-test that proves the numbers."""

from __future__ import annotations

import platform
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import machine
from mlxprune.engine import blas
from mlxprune.errors import one_line

MATMUL_SIZE = 2048
SLOW_MATMUL_SHARE = 0.5


def examine_machine() -> dict[str, Any]:
    """Facts about machine and installation, and what is wrong with them."""
    import psutil

    facts: dict[str, Any] = {
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": machine.package_versions(),
        "memory_bytes": psutil.virtual_memory().total,
        "free_disk_bytes": shutil.disk_usage(Path.cwd()).free,
    }
    loaded = blas.load()
    facts["blas"] = {"library": _short(loaded.library), "how": loaded.how, "fast": loaded.fast}
    problems = []
    try:
        from mlxprune.engine import backend

        device = backend.detect()
        facts["backend"] = {
            "name": device.name,
            "device": device.device,
            "dtype": str(device.compute_dtype),
            "memory_for_batches": device.memory_bytes,
        }
        facts["matmul"] = matmul_speed()
        share = facts["matmul"]["mlx_gflops"] / facts["matmul"]["numpy_gflops"]
        if share < SLOW_MATMUL_SHARE:
            problems.append(
                f"MLX multiplies matrices at {share:.2f} of NumPy's speed: "
                "pip install scipy-openblas32, and import mlxprune before mlx"
            )
    except ImportError as error:
        problems.append(f"MLX does not load ({one_line(error)}): pip install 'mlx[cpu]' on Linux")
    facts["problems"] = problems
    return facts


def _short(library: str) -> str:
    """A path without the folders above the package: nothing of the user's home is shown."""
    parts = Path(library).parts
    return "/".join(parts[-3:]) if len(parts) > 3 else library


def matmul_speed(size: int = MATMUL_SIZE) -> dict[str, float]:
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
    return {f"{n}_gflops": 2e-9 * size**3 / sorted(t[1:])[2] for n, t in taken.items()}


def doctor_lines(facts: dict[str, Any]) -> list[str]:
    """The facts for people."""
    shown = [
        f"python     {facts['python']} on {facts['platform']}",
        f"memory     {facts['memory_bytes'] / 2**30:.1f} GiB",
        f"disk       {facts['free_disk_bytes'] / 1e9:.0f} GB free",
        "packages   " + ", ".join(f"{n} {v}" for n, v in facts["packages"].items()),
    ]
    if "backend" in facts:
        device = facts["backend"]
        shown.append(f"device     {device['name']}: {device['device']}, {device['dtype']}")
    state = "fast" if facts["blas"]["fast"] else "SLOW"
    shown.append(f"blas       {state}: {facts['blas']['library']} ({facts['blas']['how']})")
    if "matmul" in facts:
        speed = facts["matmul"]
        shown.append(
            f"matmul     {speed['mlx_gflops']:.0f} GFLOP/s through MLX, "
            f"{speed['numpy_gflops']:.0f} through NumPy"
        )
    for name, check in facts.get("checks", {}).items():
        detail = ", ".join(f"{k} {v}" for k, v in check.items() if k not in ("ok", "seconds"))
        shown.append(f"{'ok  ' if check['ok'] else 'FAIL'}       {name}: {detail}")
    shown += [f"problem    {p}" for p in facts["problems"]]
    if not facts["problems"] and facts.get("ok", True):
        shown.append("all well")
    return shown
