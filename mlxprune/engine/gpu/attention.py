"""Attention: causal, with a gradient that goes some queries at a time.

MLX has no fused gradient of attention on Metal: while a gradient is traced it keeps the whole
matrix of weights, batch x heads x context x context. Here one block's weights are
alive at a time, and the masked half is left out.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import mlx.core as mx

ATTENTION_ROWS = 256


@cache
def _later(start: int, stop: int) -> mx.array:
    """Which of the positions before ``stop`` a query from ``start`` on must not see; an array that
    is made once, not in every step."""
    import mlx.core as mx

    return mx.array(np.arange(stop)[None] > np.arange(start, stop)[:, None])


# Over 60 lines: forward and backward share what they close over.
def attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    scale: float,
    rows: int | None = None,
) -> mx.array:
    """Causal attention of [B, heads, T, D] over [B, kv heads, T, D]; the gradient goes ``rows``
    queries at a time, by default ATTENTION_ROWS."""
    import mlx.core as mx

    rows = rows or ATTENTION_ROWS
    batch, heads, length, width = queries.shape
    groups = (batch, keys.shape[1], heads // keys.shape[1], length, width)
    blocks = [(at, min(at + rows, length)) for at in range(0, length, rows)]

    def weights(q: mx.array, k: mx.array, start: int, stop: int) -> mx.array:
        scores = ((q * scale) @ k.swapaxes(-1, -2)).astype(mx.float32)
        return mx.softmax(mx.where(_later(start, stop), -math.inf, scores), axis=-1)

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
        dk = dv = None
        dq: list[mx.array] = []
        for start, stop in reversed(blocks):  # the last reaches all keys: the others add to it
            before = [a for a in (dk, dv, *dq[-1:]) if a is not None]
            qs, c, d = (a[..., start:stop, :] for a in (queries_g, d_out, inner))
            if before:
                qs, c, d = mx.depends([qs, c, d], before)
            ks, vs = kk[..., :stop, :], vv[..., :stop, :]
            p = weights(qs, ks, start, stop)
            dp = (c @ vs.swapaxes(-1, -2)).astype(mx.float32)
            ds = (p * (dp - d) * scale).astype(q.dtype)
            dq.append(ds @ ks)
            more_k = (ds.swapaxes(-1, -2) @ qs).astype(mx.float32).sum(2, keepdims=True)
            more_v = (p.astype(q.dtype).swapaxes(-1, -2) @ c).astype(mx.float32)
            more_v = more_v.sum(2, keepdims=True)
            dk = more_k if dk is None else dk.at[..., :stop, :].add(more_k)
            dv = more_v if dv is None else dv.at[..., :stop, :].add(more_v)
        assert dk is not None
        assert dv is not None
        return (
            mx.concatenate(dq[::-1], axis=-2).reshape(q.shape),
            dk.squeeze(2).astype(k.dtype),
            dv.squeeze(2).astype(v.dtype),
        )

    return cast("mx.array", attend(queries, keys, values))
