"""What differs between Metal, CUDA and the CPU: one place for dtype, kernels, batch sizes, memory.

On a GPU the stock lazy graph is the fast one. On the Linux CPU, MLX computes ``exp`` at about 20 ns
an element on one thread and attends to the masked half too, so three operations run in NumPy on
views of MLX's own buffers: SwiGLU, causal attention and cross-entropy. Each has its gradient, and
the tests hold each against float64.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import mlx.core as mx
import numpy as np

from mlxprune import blas

ATTENTION_BLOCK_ROWS = 128
CPU_CACHE_BYTES = 512 << 20  # a process; scoring runs one a core
CROSS_ENTROPY_BLOCK_ROWS = 256  # their exponentials stay in the second-level cache


@dataclass(frozen=True)
class Backend:
    """The device that MLX computes on, and what follows from it."""

    name: str  # metal, cuda, cpu
    device: str  # for people
    compute_dtype: mx.Dtype  # of weights and activations; loss and optimizer are float32
    score_tokens_per_batch: int  # input positions of one scoring batch, before the memory limit
    score_workers: int  # processes that score
    compiles_train_step: bool
    memory_bytes: int  # what batch shapes may assume: half of the recommended working set


@cache
def detect() -> Backend:
    """The backend of this process. On the CPU it installs the NumPy kernels in mlx-lm."""
    info = _device_info()
    if mx.metal.is_available():
        working_set = int(info.get("max_recommended_working_set_size", 8 << 30))
        name = str(info.get("device_name", "Apple GPU"))
        return Backend("metal", name, mx.bfloat16, 32_768, 1, True, working_set // 2)
    if mx.default_device().type == mx.DeviceType.gpu:
        memory = int(info.get("memory_size", info.get("total_memory", 16 << 30)))
        name = str(info.get("device_name", "CUDA GPU"))
        return Backend("cuda", name, mx.bfloat16, 65_536, 1, True, memory // 2)
    import psutil
    import threadpoolctl

    # NumPy brings its own BLAS threads; two pools that spin against each other cost a factor of 2.
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    threadpoolctl.threadpool_limits(1, user_api="blas")
    blas.set_num_threads(cores)
    _install_cpu_kernels()
    memory = psutil.virtual_memory().total
    return Backend("cpu", f"CPU, {cores} cores", mx.float32, 4_096, cores, False, memory // 2)


def _device_info() -> dict[str, Any]:
    try:
        return dict(mx.device_info())
    except Exception:  # MLX raises ValueError or RuntimeError by backend and version
        return {}


def peak_memory() -> int:
    """Bytes that MLX held at most since the last reset."""
    return int(mx.get_peak_memory())


def limit_cache() -> None:
    """Keep MLX's buffer cache from growing without bound as shapes change."""
    device = detect()
    most = CPU_CACHE_BYTES if device.name == "cpu" else device.memory_bytes // 4
    mx.set_cache_limit(most)


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """-ln p(target) per position, in nats.

    ``logits`` [..., V] of any float dtype, ``targets`` [...] integer; the result is float32 [...].
    """
    logits = logits.astype(mx.float32)
    if detect().name == "cpu":
        flat: Any = _cpu_cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
        return flat.reshape(targets.shape)
    picked = mx.take_along_axis(logits, targets[..., None], axis=-1).squeeze(-1)
    return mx.logsumexp(logits, axis=-1) - picked


def _install_cpu_kernels() -> None:
    from mlx_lm.models import llama

    stock_swiglu, stock_attention = llama.swiglu, llama.scaled_dot_product_attention

    def swiglu(gate: mx.array, up: mx.array) -> mx.array:
        result: Any = _cpu_swiglu if gate.dtype == mx.float32 else stock_swiglu
        return result(gate, up)

    def attention(
        queries: mx.array, keys: mx.array, values: mx.array, cache: Any, scale: float, mask: Any
    ) -> mx.array:
        own = isinstance(mask, str) and mask == "causal" and queries.shape[2] == keys.shape[2]
        if not own or queries.dtype != mx.float32 or cache is not None:
            stock: mx.array = stock_attention(queries, keys, values, cache, scale, mask)
            return stock
        result: mx.array = _cpu_attention(scale)(queries, keys, values)
        return result

    llama.swiglu, llama.scaled_dot_product_attention = swiglu, attention


def _view(array: mx.array) -> np.ndarray:
    """The evaluated array's own memory as NumPy, without a copy."""
    return np.array(array, copy=False)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) in one buffer; exp(-x) overflows to inf for x < -88, which gives 0."""
    with np.errstate(over="ignore"):
        result = np.negative(x)
        np.exp(result, out=result)
    result += 1.0
    return np.reciprocal(result, out=result)


@mx.custom_function
def _cpu_swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """silu(gate) * up, float32, any shape."""
    mx.eval(gate, up)
    result = _sigmoid(_view(gate))
    result *= _view(gate)
    result *= _view(up)
    return mx.array(result)


@_cpu_swiglu.vjp
def _cpu_swiglu_vjp(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array
) -> tuple[mx.array, mx.array]:
    gate, up = primals
    mx.eval(gate, up, cotangent)
    x, y, c = _view(gate), _view(up), _view(cotangent)
    sigmoid = _sigmoid(x)
    silu = sigmoid * x
    up_gradient = silu * c
    # d silu / dx = sigmoid + silu * (1 - sigmoid)
    gate_gradient = np.subtract(1.0, sigmoid)
    gate_gradient *= silu
    gate_gradient += sigmoid
    gate_gradient *= y
    gate_gradient *= c
    return mx.array(gate_gradient), mx.array(up_gradient)


@cache
def _cpu_attention(scale: float) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
    """Causal attention over [B, heads, L, D] float32; blocks of rows skip the masked half."""

    @mx.custom_function
    def attention(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        mx.eval(queries, keys, values)
        q, k, v = _grouped(queries, keys, values)
        result = np.empty(q.shape[:-1] + v.shape[-1:], np.float32)
        for start, stop in _row_blocks(q.shape[-2]):
            p = _causal_softmax(q, k, start, stop, scale)
            np.matmul(p, v[..., :stop, :], out=result[..., start:stop, :])
        return mx.array(result.reshape(queries.shape[:-1] + v.shape[-1:]))

    @attention.vjp
    def attention_vjp(
        primals: tuple[mx.array, mx.array, mx.array], cotangent: mx.array, output: mx.array
    ) -> tuple[mx.array, mx.array, mx.array]:
        queries, keys, values = primals
        mx.eval(queries, keys, values, cotangent, output)
        q, k, v = _grouped(queries, keys, values)
        c = _view(cotangent).reshape(q.shape[:-1] + v.shape[-1:])
        o = _view(output).reshape(c.shape)
        dq = np.empty_like(q)
        dk = np.zeros(q.shape[:-1] + k.shape[-1:], np.float32)
        dv = np.zeros(q.shape[:-1] + v.shape[-1:], np.float32)
        for start, stop in _row_blocks(q.shape[-2]):
            p = _causal_softmax(q, k, start, stop, scale)
            rows = c[..., start:stop, :]
            dv[..., :stop, :] += p.swapaxes(-1, -2) @ rows
            # softmax backward: dS = P * (dP - rowsum(dP * P)), and rowsum(dP * P) = rowsum(dO * O)
            ds = rows @ v[..., :stop, :].swapaxes(-1, -2)
            ds -= (rows * o[..., start:stop, :]).sum(axis=-1, keepdims=True)
            ds *= p
            ds *= scale
            np.matmul(ds, k[..., :stop, :], out=dq[..., start:stop, :])
            dk[..., :stop, :] += ds.swapaxes(-1, -2) @ q[..., start:stop, :]
        return (
            mx.array(dq.reshape(queries.shape)),
            mx.array(dk.sum(axis=2)),
            mx.array(dv.sum(axis=2)),
        )

    return cast("Callable[[mx.array, mx.array, mx.array], mx.array]", attention)


def _grouped(
    queries: mx.array, keys: mx.array, values: mx.array
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views as [B, kv heads, query heads a kv head, L, D], so that grouped queries broadcast."""
    batch, heads, length, width = queries.shape
    kv_heads = keys.shape[1]
    q = _view(queries).reshape(batch, kv_heads, heads // kv_heads, length, width)
    return q, _view(keys)[:, :, None], _view(values)[:, :, None]


def _row_blocks(length: int) -> list[tuple[int, int]]:
    return [
        (start, min(start + ATTENTION_BLOCK_ROWS, length))
        for start in range(0, length, ATTENTION_BLOCK_ROWS)
    ]


def _causal_softmax(
    q: np.ndarray, k: np.ndarray, start: int, stop: int, scale: float
) -> np.ndarray:
    """Attention weights of rows [start, stop) over columns [0, stop), in one buffer."""
    s = q[..., start:stop, :] @ k[..., :stop, :].swapaxes(-1, -2)
    s *= scale
    s[..., start:stop] += _upper_triangle(stop - start)
    s -= s.max(axis=-1, keepdims=True)
    np.exp(s, out=s)
    s /= s.sum(axis=-1, keepdims=True)
    result: np.ndarray = s
    return result


@cache
def _upper_triangle(rows: int) -> np.ndarray:
    return np.triu(np.full((rows, rows), -np.inf, np.float32), 1)


@mx.custom_function
def _cpu_cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """logits float32 [N, V], targets integer [N] -> -ln p(target), float32 [N]."""
    mx.eval(logits, targets)
    x, t = _view(logits), _view(targets)
    loss = np.empty(len(t), np.float32)
    scratch = np.empty((min(len(t), CROSS_ENTROPY_BLOCK_ROWS), x.shape[1]), np.float32)
    for start in range(0, len(t), CROSS_ENTROPY_BLOCK_ROWS):
        rows = x[start : start + CROSS_ENTROPY_BLOCK_ROWS]
        shift = rows.max(axis=-1)
        e = np.subtract(rows, shift[:, None], out=scratch[: len(rows)])
        np.exp(e, out=e)
        picked = rows[np.arange(len(rows)), t[start : start + len(rows)]]
        loss[start : start + len(rows)] = np.log(e.sum(axis=-1)) + shift - picked
    return mx.array(loss)


@_cpu_cross_entropy.vjp
def _cpu_cross_entropy_vjp(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array
) -> tuple[mx.array, mx.array]:
    logits, targets = primals
    mx.eval(logits, targets, cotangent)
    x, t, c = _view(logits), _view(targets), _view(cotangent)
    gradient = np.empty(x.shape, np.float32)
    for start in range(0, len(t), CROSS_ENTROPY_BLOCK_ROWS):
        rows = slice(start, min(start + CROSS_ENTROPY_BLOCK_ROWS, len(t)))
        g = np.subtract(x[rows], x[rows].max(axis=-1, keepdims=True), out=gradient[rows])
        np.exp(g, out=g)
        g *= (c[rows] / g.sum(axis=-1))[:, None]
        g[np.arange(len(g)), t[rows]] -= c[rows]
    return mx.array(gradient), mx.zeros_like(targets)
