"""MLX's matrix products on Linux run on OpenBLAS; a late import warns once."""

from __future__ import annotations

import subprocess
import sys

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="macOS has Accelerate")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


@linux
def test_mlx_calls_openblas_through_the_shim() -> None:
    """The slot behind cblas_sgemm is what a product through MLX uses: a poisoned slot is felt."""
    code = """
import ctypes, mlxprune, numpy as np
from mlxprune.engine import blas
calls = []
number, matrix = ctypes.c_float, [ctypes.c_void_p, ctypes.c_int]
signature = ctypes.CFUNCTYPE(None, *[ctypes.c_int] * 6, number, *matrix * 2, number, *matrix)
real = signature(("scipy_cblas_sgemm", blas.openblas))
def counted(*a):
    calls.append(a[3:6]); real(*a)
keep = signature(counted)
slots = (ctypes.c_void_p * 3).in_dll(ctypes.CDLL(None), blas.SLOTS_SYMBOL)
slots[0] = ctypes.cast(keep, ctypes.c_void_p).value
import mlx.core as mx
a = np.random.rand(64, 64).astype(np.float32)
product = np.array(mx.matmul(mx.array(a), mx.array(a), stream=mx.cpu))
assert np.allclose(product, a @ a, rtol=1e-5), "wrong product"
print(len(calls))
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1


@linux
def test_importing_mlx_first_warns_once() -> None:
    done = python(
        "import mlx.core, mlxprune; from mlxprune.engine import blas as b; b.load(); b.load()"
    )
    assert done.stderr.count("import mlxprune first") == 1
    done = python("import mlxprune, mlx.core")
    assert done.stderr == ""


@linux
def test_a_blas_of_ones_own_is_named_and_a_wrong_one_is_not_fatal() -> None:
    code = "import os; os.environ['MLXPRUNE_BLAS'] = %r\n"
    code += "import mlxprune.engine.blas as b; print(b.load())"
    assert "fast=False" in python(code % "none").stdout
    done = python(code % "/nowhere/libblas.so")
    assert "MLXPRUNE_BLAS=/nowhere/libblas.so" in done.stderr
    assert "scipy-openblas32" in done.stdout
