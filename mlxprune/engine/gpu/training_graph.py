"""Training steps as MLX's lazy graph: loss, gradient and update, in micro-batches."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mlxprune.engine.gpu import loss_graph

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn

ATTENTION_ROWS = 256


def step_function(
    model: nn.Module,
    optimizer: Any,
    accumulate: int,
    clip: float,
    dtype: mx.Dtype,
    compiled: bool,
    fused_attention_gradient: bool,
) -> Callable[[np.ndarray, np.ndarray], Callable[[], tuple[float, float]]]:
    """Start an optimizer step: inputs, targets int [B, T] -> what waits for it and returns
    (mean loss, gradient norm before the clip).

    Master weights are float32; a step casts them to ``dtype``. The parameters of the model and the
    state of the optimizer are replaced.
    """
    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx.utils import tree_flatten, tree_map

    if not fused_attention_gradient:
        _install_attention(model)
    value_and_grad = mx.value_and_grad(mean_loss(model, dtype))

    def step(inputs: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
        masters = model.trainable_parameters()
        loss, gradients = mx.array(0.0), None
        pieces = zip(mx.split(inputs, accumulate), mx.split(targets, accumulate), strict=True)
        for x, y in pieces:
            if gradients is not None:  # one micro-batch after another, or memory is not saved
                leaves = [array for _, array in tree_flatten(gradients)]
                x, y = mx.depends([x, y], [loss, *leaves])
            part_loss, part = value_and_grad(masters, x, y)
            loss = loss + part_loss / accumulate
            part = tree_map(lambda g: g / accumulate, part) if accumulate > 1 else part
            gradients = part if gradients is None else tree_map(mx.add, gradients, part)
            if accumulate > 1 and not compiled:
                mx.eval(loss, gradients)
        gradients, norm = optim.clip_grad_norm(gradients, clip)
        model.update(optimizer.apply_gradients(gradients, masters))
        return loss, norm

    if compiled:
        state = [model.state, optimizer.state]
        step = partial(mx.compile, inputs=state, outputs=state)(step)

    def start(inputs: np.ndarray, targets: np.ndarray) -> Callable[[], tuple[float, float]]:
        loss, norm = step(mx.array(inputs), mx.array(targets))
        mx.async_eval(loss, norm, model.parameters(), optimizer.state)  # type: ignore[no-untyped-call]
        return lambda: (float(cast("float", loss.item())), float(cast("float", norm.item())))

    return start


def mean_loss(model: nn.Module, dtype: mx.Dtype) -> Callable[[Any, mx.array, mx.array], mx.array]:
    """A function of (float32 parameters, inputs, targets) to the mean -ln p(target)."""
    import mlx.core as mx
    from mlx.utils import tree_map

    splits = loss_graph.parts(model)[0] is not model

    def loss(parameters: Any, inputs: mx.array, targets: mx.array) -> mx.array:
        if dtype != mx.float32:
            parameters = tree_map(lambda p: p.astype(dtype), parameters)
        model.update(parameters)
        if not splits:
            return loss_graph.cross_entropy(model(inputs), targets).mean()
        inner = cast("Any", model)
        tied = "lm_head" not in inner
        weight = inner.model.embed_tokens.weight if tied else inner.lm_head.weight
        hidden = inner.model(inputs)
        flat = hidden.reshape(-1, hidden.shape[-1])
        result: mx.array = fused_mean(flat, weight, targets.reshape(-1))[0]
        return result

    return loss


def fused_mean(
    hidden: mx.array, weight: mx.array, targets: mx.array, rows: int | None = None
) -> list[mx.array]:
    """[mean loss, its gradient by hidden, by weight]: hidden [N, d], weight [V, d], targets [N].

    ``rows`` positions at a time; by default as many as LOGITS_BYTES hold.
    """
    import mlx.core as mx

    rows = rows or loss_graph.rows_at_once(weight.shape[0])

    @mx.custom_function
    def fused(hidden: mx.array, weight: mx.array, targets: mx.array) -> list[mx.array]:
        share = 1.0 / hidden.shape[0]
        losses: list[mx.array] = []
        by_weight = mx.zeros(weight.shape, mx.float32)
        by_hidden: list[mx.array] = []
        for at in range(0, hidden.shape[0], rows):
            # Each piece waits for all of the last: else the logits of all are alive at once.
            x, t = mx.depends(
                [hidden[at : at + rows], targets[at : at + rows]],
                [*losses[-1:], by_weight, *by_hidden[-1:]],
            )
            logits = (x @ weight.T).astype(mx.float32)
            normaliser = mx.logsumexp(logits, axis=-1, keepdims=True)
            picked = mx.take_along_axis(logits, t[:, None], axis=-1)
            losses.append((normaliser - picked)[:, 0])
            p = mx.exp(logits - normaliser)
            target = mx.arange(weight.shape[0])[None] == t[:, None]
            slope = ((p - target) * share).astype(hidden.dtype)
            by_hidden.append(slope @ weight)
            by_weight = by_weight + (slope.T @ x).astype(mx.float32)
        return [mx.concatenate(losses).mean(), mx.concatenate(by_hidden), by_weight]

    @fused.vjp
    def fused_vjp(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        hidden, weight, targets = primals
        slope = cotangents[0]
        return (
            (outputs[1] * slope).astype(hidden.dtype),
            (outputs[2] * slope).astype(weight.dtype),
            mx.zeros_like(targets),
        )

    return cast("list[mx.array]", fused(hidden, weight, targets))


def _install_attention(model: Any) -> None:
    """Let the model's module use ``attention`` where it would use MLX's, causal and uncached."""
    module: Any = sys.modules[type(model).__module__]
    stock = getattr(module, "scaled_dot_product_attention", None)
    if stock is None or hasattr(stock, "stock"):
        return

    def chosen(
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        cache: Any,
        scale: float,
        mask: Any,
        **others: Any,
    ) -> mx.array:
        plain = isinstance(mask, str) and mask == "causal" and cache is None and not others
        if plain and queries.shape[2] == keys.shape[2] > ATTENTION_ROWS:
            return attention(queries, keys, values, scale)
        return cast("mx.array", stock(queries, keys, values, cache, scale, mask, **others))

    chosen.stock = stock  # type: ignore[attr-defined]
    module.scaled_dot_product_attention = chosen


# Over 60 lines: forward and backward share what they close over.
def attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    scale: float,
    rows: int = ATTENTION_ROWS,
) -> mx.array:
    """Causal attention of [B, heads, T, D] over [B, kv heads, T, D]; the gradient goes ``rows``
    queries at a time."""
    import mlx.core as mx

    batch, heads, length, width = queries.shape
    groups = (batch, keys.shape[1], heads // keys.shape[1], length, width)
    blocks = [(at, min(at + rows, length)) for at in range(0, length, rows)]

    def weights(q: mx.array, k: mx.array, start: int, stop: int) -> mx.array:
        scores = ((q * scale) @ k.swapaxes(-1, -2)).astype(mx.float32)
        later = mx.arange(stop)[None] > mx.arange(start, stop)[:, None]
        return mx.softmax(mx.where(later, -math.inf, scores), axis=-1)

    # One block waits for the one before, so that one block's weights are alive at a time. MLX's own
    # forward pass is no help here: while a gradient is traced it is not fused either.
    @mx.custom_function
    def attend(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        q, k, v = q.reshape(groups), k[:, :, None], v[:, :, None]
        out: list[mx.array] = []
        for start, stop in blocks:
            (qs,) = mx.depends([q[..., start:stop, :]], out[-1:])
            p = weights(qs, k[..., :stop, :], start, stop).astype(q.dtype)
            out.append(p @ v[..., :stop, :])
        return mx.concatenate(out, axis=-2).reshape(queries.shape)

    @attend.vjp
    def attend_vjp(primals: Any, cotangent: mx.array, output: mx.array) -> tuple[mx.array, ...]:
        q, k, v = primals
        kk, vv = k[:, :, None], v[:, :, None]
        queries_g, d_out = q.reshape(groups), cotangent.reshape(groups)
        inner = (d_out * output.reshape(groups)).astype(mx.float32).sum(-1, keepdims=True)
        dk = mx.zeros(kk.shape, mx.float32)
        dv = mx.zeros(vv.shape, mx.float32)
        dq: list[mx.array] = []
        for start, stop in blocks:
            qs, c, d = mx.depends(
                [a[..., start:stop, :] for a in (queries_g, d_out, inner)], [dk, dv, *dq[-1:]]
            )
            ks, vs = kk[..., :stop, :], vv[..., :stop, :]
            p = weights(qs, ks, start, stop)
            dp = (c @ vs.swapaxes(-1, -2)).astype(mx.float32)
            ds = (p * (dp - d) * scale).astype(q.dtype)
            dq.append(ds @ ks)
            more_k = (ds.swapaxes(-1, -2) @ qs).astype(mx.float32).sum(2, keepdims=True)
            more_v = (p.astype(q.dtype).swapaxes(-1, -2) @ c).astype(mx.float32)
            dk = dk.at[..., :stop, :].add(more_k)
            dv = dv.at[..., :stop, :].add(more_v.sum(2, keepdims=True))
        return (
            mx.concatenate(dq, axis=-2).reshape(q.shape),
            dk.squeeze(2).astype(k.dtype),
            dv.squeeze(2).astype(v.dtype),
        )

    return cast("mx.array", attend(queries, keys, values))
