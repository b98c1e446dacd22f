"""Kernel checks: what this device computes, against NumPy float64 and against itself.

The sizes are small and the numbers fresh. A bound is the error of MLX's own operations on the same
input plus a margin, or that of the dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlxprune.records import Json

# Of the presets, of models on the hub, and one on each side of what Metal fuses.
HEAD_WIDTHS = (32, 40, 48, 64, 80, 96, 128, 256)
VOCABULARIES = (1, 2, 255, 257, 1001, 32_003)
ONE_BIT = {"float32": 2e-6, "float16": 2e-3, "bfloat16": 1.6e-2}  # of a sum of a few hundred terms
REPEATS = 20


def bound(single: float, half: float) -> float:
    """The first where scores are computed in float32, the second in half of it."""
    import mlx.core as mx

    from mlxprune.engine import backend

    return single if backend.detect().score_dtype == mx.float32 else half


def _worst(found: list[Any], exact: list[Any]) -> float:
    return max(float(np.abs(np.array(f) - e).max()) for f, e in zip(found, exact, strict=True))


def float32_is_float32() -> Json:
    """A product of float32 matrices, against float64 and one row alone against all: TF32, which MLX
    takes by default where a GPU has it, is off by 2^-11."""
    import mlx.core as mx

    generator = np.random.default_rng()
    a, b = (generator.standard_normal((512, 512)).astype(np.float32) for _ in range(2))
    product = np.array(mx.array(a) @ mx.array(b))
    true = a.astype(np.float64) @ b.astype(np.float64)
    size = float(np.abs(true).max())
    alone = np.concatenate([np.array(mx.array(a[i : i + 1]) @ mx.array(b)) for i in range(8)])
    error = float(np.abs(product - true).max()) / size
    apart = float(np.abs(product[:8] - alone).max()) / size
    return {"ok": error < 1e-5 and apart < 1e-5, "relative_error": error, "alone": apart}


def head_and_attention() -> Json:
    """The head's loss and gradient and attention's gradient in pieces, in float32."""
    import mlx.core as mx

    from mlxprune.engine import backend
    from mlxprune.engine.gpu import loss_graph, training_graph
    from mlxprune.engine.gpu.attention import attention
    from mlxprune.testing import float64_llama

    generator = np.random.default_rng()
    hidden, weight = generator.standard_normal((300, 16)), generator.standard_normal((700, 16))
    targets = generator.integers(0, 700, 300)
    loss, slope = float64_llama.cross_entropy_and_slope(hidden @ weight.T, targets)
    true = [loss.mean(), slope @ weight / 300, slope.T @ hidden / 300]
    h, w, t = mx.array(hidden.astype(np.float32)), mx.array(weight.astype(np.float32)), targets

    def stock(h: mx.array, w: mx.array) -> mx.array:
        return loss_graph.cross_entropy(h @ w.T, mx.array(t)).mean()

    def pieces(h: mx.array, w: mx.array) -> mx.array:
        return training_graph.fused_mean(h, w, mx.array(t), rows=64)[0]

    errors = {}
    for name, function in (("head", pieces), ("stock_head", stock)):
        value, gradients = mx.value_and_grad(function, argnums=(0, 1))(h, w)
        errors[name] = _worst([value, *gradients], true)
    q, c = (generator.standard_normal((2, 4, 40, 8)) for _ in range(2))
    k, v = (generator.standard_normal((2, 2, 40, 8)) for _ in range(2))
    exact = list(float64_llama.attention_and_gradients(q, k, v, c, 0.35))
    arrays = [mx.array(a.astype(np.float32)) for a in (q, k, v, c)]
    attends: dict[str, Callable[..., mx.array]] = {
        "attention": lambda q, k, v: attention(q, k, v, 0.35, rows=16),
        "stock_attention": lambda q, k, v: mx.fast.scaled_dot_product_attention(
            q, k, v, scale=0.35, mask="causal"
        ),
    }
    for name, attend in attends.items():
        outputs, gradients = mx.vjp(attend, arrays[:3], arrays[3:])
        errors[name] = _worst([*outputs, *gradients], exact)
    ok = all(errors[n] <= errors[f"stock_{n}"] + 1e-5 for n in ("head", "attention"))
    return {"ok": ok, "backend": backend.detect().name, **errors}


def head_widths() -> Json:
    """Of every head width: the forward pass of MLX's attention, which may be fused, and ours with
    its gradient, in each dtype; the largest error over the largest value."""
    import mlx.core as mx

    from mlxprune.engine.gpu.attention import attention
    from mlxprune.testing import float64_llama

    generator = np.random.default_rng()
    found: dict[str, float] = {}
    ok = True
    for width in HEAD_WIDTHS:
        scale = width**-0.5
        q, c = (generator.standard_normal((1, 4, 70, width)) for _ in range(2))
        k, v = (generator.standard_normal((1, 2, 70, width)) for _ in range(2))
        exact = list(float64_llama.attention_and_gradients(q, k, v, c, scale))
        for name, kind in (
            ("float32", mx.float32), ("bfloat16", mx.bfloat16), ("float16", mx.float16)
        ):  # fmt: skip
            arrays = [mx.array(a.astype(np.float32)).astype(kind) for a in (q, k, v, c)]
            forward = mx.fast.scaled_dot_product_attention(*arrays[:3], scale=scale, mask="causal")
            outputs, gradients = mx.vjp(
                lambda q, k, v, scale=scale: attention(q, k, v, scale, rows=32),
                arrays[:3], arrays[3:],
            )  # fmt: skip
            made = [forward, *outputs, *gradients]
            errors = [
                float(np.abs(np.array(m.astype(mx.float32)) - e).max() / np.abs(e).max())
                for m, e in zip(made, [exact[0], *exact], strict=True)
            ]
            found[f"{width}_{name}"] = max(errors)
            ok = ok and max(errors) <= 2 * ONE_BIT[name]
    return {"ok": ok, **{name: float(f"{error:.2g}") for name, error in found.items()}}


def vocabulary_edges() -> Json:
    """Losses of one position and of many, over vocabularies that no tile divides. In every second
    row the last columns weigh most, so a tile that is left out shows. The bound is that of a sum of
    n float32 numbers one after another, n 2^-24 (Higham 2002, section 4.2), as MLX's CPU adds."""
    import mlx.core as mx

    from mlxprune.engine.gpu import loss_graph
    from mlxprune.testing import float64_llama

    generator = np.random.default_rng()
    found: dict[str, float] = {}
    ok = True
    for size in VOCABULARIES:
        worst = 0.0
        for count in (1, 33):
            logits = generator.standard_normal((count, size)).astype(np.float32) * 3
            logits[::2, -3:] += 12
            targets = generator.integers(0, size, count)
            loss, _ = float64_llama.cross_entropy_and_slope(logits.astype(np.float64), targets)
            made = np.array(loss_graph.cross_entropy(mx.array(logits), mx.array(targets)))
            worst = max(worst, float(np.abs(made - loss).max()))
        ok = ok and worst < size * 2.0**-24 + 1e-5
        found[f"{size}"] = float(f"{worst:.2g}")
    return {"ok": ok, **found}


def lookup_gradient() -> Json:
    """The sum over the rows of repeated ids: float64's, and the same bytes many times."""
    import mlx.core as mx

    from mlxprune.engine.gpu.embedding import LookupOrder, lookup_order, sum_by_id

    generator = np.random.default_rng()
    ids = ((generator.zipf(1.3, 8192) - 1) % 4099).astype(np.int32)
    rows = generator.standard_normal((8192, 64)).astype(np.float32)
    true, size = np.zeros((4099, 64)), np.zeros((4099, 64))
    np.add.at(true, ids, rows.astype(np.float64))
    np.add.at(size, ids, np.abs(rows))
    order = LookupOrder(*map(mx.array, lookup_order(ids, 4099)))
    made = [np.array(sum_by_id(mx.array(rows), order)) for _ in range(REPEATS)]
    error = float((np.abs(made[0] - true) / np.maximum(size, 1e-9)).max())
    table = mx.zeros((4099, 64))
    stock = [np.array(table.at[mx.array(ids)].add(mx.array(rows))) for _ in range(REPEATS)]
    same = all(np.array_equal(made[0], other) for other in made)
    return {
        "ok": error < 2e-6 and same,
        "relative_error": error,
        "same_bytes": same,
        "scatter_has_the_same_bytes": all(np.array_equal(stock[0], other) for other in stock),
    }


def _small_model() -> tuple[Any, np.ndarray, np.ndarray]:
    """A fresh model of heads of 64, inputs and targets [4, 320]: long enough for every block."""
    from mlxprune.model.architecture import full_config, preset_of
    from mlxprune.model.weights import initialise_model

    config = full_config(preset_of("pico"), 997, 320, 1, 1)
    ids = ((np.random.default_rng(5).zipf(1.2, (4, 321)) - 1) % 997).astype(np.int32)
    return initialise_model(config, 7), ids[:, :-1].copy(), ids[:, 1:].copy()


def _trained(parts: int, fused: bool | None, compiled: bool | None, steps: int) -> Any:
    """(the model, its losses and norms) after some steps of the graph."""
    from dataclasses import replace

    from mlxprune.engine import backend
    from mlxprune.engine.gpu import training_graph
    from mlxprune.engine.optimizer import make_optimizer

    model, inputs, targets = _small_model()
    its = make_optimizer("adamw", 1e-3, 0.1)
    its.init(model.trainable_parameters())
    settings = backend.step_settings(parts, 1.0)
    if fused is not None:
        settings = replace(settings, fused_attention_gradient=fused)
    if compiled is not None:
        settings = replace(settings, compiled=compiled)
    step = training_graph.step_function(model, its, settings)
    return model, [step(inputs, targets, 1e-3)() for _ in range(steps)]


def _bytes_of(model: Any) -> bytes:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    flat = sorted(tree_flatten(model.parameters()))
    return b"".join(np.array(array.astype(mx.float32)).tobytes() for _, array in flat)


def same_step_same_bytes() -> Json:
    """Two steps of two parts from one state, several times; with MLX's own attention it is told and
    not asked for."""
    ours = {_bytes_of(_trained(2, None, None, 2)[0]) for _ in range(REPEATS // 4)}
    stock = {_bytes_of(_trained(2, True, None, 2)[0]) for _ in range(REPEATS // 4)}
    return {
        "ok": len(ours) == 1,
        "same_bytes": len(ours) == 1,
        "with_mlx_attention": len(stock) == 1,
    }


def compiled_against_eager() -> Json:
    """Losses and gradient norms of three steps, compiled, eager, and in four parts."""
    eager = np.array(_trained(1, None, False, 3)[1])
    compiled = np.array(_trained(1, None, True, 3)[1])
    parts = np.array(_trained(4, None, True, 3)[1])
    apart = [float((np.abs(o - eager) / np.abs(eager)).max()) for o in (compiled, parts)]
    limit = bound(2e-5, 2e-2)
    return {"ok": max(apart) < limit, "compiled": apart[0], "in_parts": apart[1], "bound": limit}


def scores_before_and_after_training() -> Json:
    """The same bytes whether or not the process has trained: no kernel of training is left."""
    from mlxprune.engine import backend

    model, inputs, targets = _small_model()
    before = np.array(backend.loss_function(model)(inputs, targets))
    backend.release()
    _trained(1, None, None, 1)
    backend.release()
    after = np.array(backend.loss_function(model)(inputs, targets))
    same = bool(np.array_equal(before, after))
    return {"ok": same, "same_bytes": same, "largest": float(np.abs(before - after).max())}
