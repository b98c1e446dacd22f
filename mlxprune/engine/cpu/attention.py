"""Causal attention in NumPy and its gradient, a block of queries at a time.

Arrays are views [rows, kv heads, heads a kv head, length, head width], keys and values with one
head a kv head, so that grouped queries broadcast. Queries are already scaled. What lies right of
the diagonal block is never computed.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from mlxprune.engine.cpu.threads import Buffers

BLOCK_QUERIES = 64
BLOCK_WEIGHTS = 1 << 18  # attention weights at a time, so that they stay in the cache
SAFE_EXPONENT = 60.0  # sums of exp(x) for |x| up to here are far from the ends of float32


def attend(
    buffers: Buffers,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    out: np.ndarray,
    normaliser: np.ndarray | None,
    hidden: np.ndarray | None = None,
) -> None:
    """softmax(q k^T + mask) v into ``out``; the log-sum-exp of each row into ``normaliser``.

    ``hidden`` bool [B, B], over the last B positions: keys that queries do not see, though they
    come before.
    """
    keys = _turned(buffers, k)
    # |q k| <= |q| |k|: where that is small, softmax needs no shift by the largest score.
    shift = not largest_norm(q) * largest_norm(k) <= SAFE_EXPONENT
    for rows, start, stop in _blocks(q):
        weights = _scores(buffers, q, keys, rows, start, stop)
        if hidden is not None and stop > q.shape[3] - len(hidden):
            tail = q.shape[3] - len(hidden)
            first = max(start, tail)
            some = weights[..., first - start :, tail:]
            some[..., hidden[first - tail : stop - tail, : stop - tail]] = -np.inf
        if shift:
            most = weights.max(axis=-1, keepdims=True)
            weights -= most
        np.exp(weights, out=weights)
        total = row_sums(weights)
        result = out[rows, :, :, start:stop]
        np.matmul(weights, v[rows, :, :, :stop], out=result)
        result /= total
        if normaliser is not None:
            logarithm = np.log(total)
            normaliser[rows, :, :, start:stop] = logarithm + most if shift else logarithm


def attend_few(
    buffers: Buffers,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    out: np.ndarray,
    hidden: np.ndarray,
) -> None:
    """``attend`` of a few queries [..., S, D] over keys [..., T, D]; ``hidden`` bool [S, T]."""
    scores = buffers.take("scores", *q.shape[:4], k.shape[3])
    np.matmul(q, _turned(buffers, k), out=scores)
    scores[..., hidden] = -np.inf
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    total = row_sums(scores)
    np.matmul(scores, v, out=out)
    out /= total


def attend_backward(
    buffers: Buffers,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    out: np.ndarray,
    d_out: np.ndarray,
    dq: np.ndarray,
    dk: np.ndarray,
    dv: np.ndarray,
    normaliser: np.ndarray,
) -> None:
    """Gradients by q, k and v, given that by ``out``; the weights are computed again.

    Softmax backward: dS = P * (dP - rowsum(dP * P)), and rowsum(dP * P) = rowsum(dO * O).
    """
    dk[:] = 0
    dv[:] = 0
    inner = np.einsum("...d,...d->...", d_out, out)[..., None]
    keys = _turned(buffers, k)
    for rows, start, stop in _blocks(q):
        p = _scores(buffers, q, keys, rows, start, stop)
        p -= normaliser[rows, :, :, start:stop]
        np.exp(p, out=p)
        cotangent = d_out[rows, :, :, start:stop]
        dv[rows, :, :, :stop] += _over_group(p.swapaxes(-1, -2) @ cotangent)
        ds = buffers.take("d_scores", *p.shape)
        np.matmul(cotangent, v[rows, :, :, :stop].swapaxes(-1, -2), out=ds)
        ds -= inner[rows, :, :, start:stop]
        ds *= p
        np.matmul(ds, k[rows, :, :, :stop], out=dq[rows, :, :, start:stop])
        dk[rows, :, :, :stop] += _over_group(ds.swapaxes(-1, -2) @ q[rows, :, :, start:stop])


def row_sums(x: np.ndarray) -> np.ndarray:
    """Sums over the last axis, kept. A product with ones is four times as fast as ``sum`` here."""
    result: np.ndarray = x @ np.ones((x.shape[-1], 1), np.float32)
    return result


def _blocks(q: np.ndarray) -> list[tuple[slice, int, int]]:
    """(rows, first query, last query + 1)."""
    rows, kv_heads, group, length, _ = q.shape
    each = min(BLOCK_QUERIES, length) * length * kv_heads * group
    together = max(1, BLOCK_WEIGHTS // each)
    parts = [slice(row, min(row + together, rows)) for row in range(0, rows, together)]
    starts = range(0, length, BLOCK_QUERIES)
    return [(part, at, min(at + BLOCK_QUERIES, length)) for part in parts for at in starts]


def _turned(buffers: Buffers, k: np.ndarray) -> np.ndarray:
    """A copy of the keys [..., head width, length]: a product with it is a quarter faster."""
    keys = buffers.take("turned_keys", *k.shape[:3], k.shape[4], k.shape[3])
    keys[:] = k.swapaxes(-1, -2)
    return keys


def largest_norm(x: np.ndarray) -> float:
    """The largest Euclidean norm along the last axis; NaN if there is one."""
    return math.sqrt(float(np.einsum("...d,...d->...", x, x).max()))


def _scores(
    buffers: Buffers, q: np.ndarray, keys: np.ndarray, rows: slice, start: int, stop: int
) -> np.ndarray:
    """Masked q k^T of queries [start, stop) over keys [0, stop)."""
    count = rows.stop - rows.start
    scores = buffers.take("scores", count, q.shape[1], q.shape[2], stop - start, stop)
    np.matmul(q[rows, :, :, start:stop], keys[rows, :, :, :, :stop], out=scores)
    scores[..., start:] += _upper_triangle(stop - start)
    return scores


def _over_group(x: np.ndarray) -> np.ndarray:
    """Sum over the query heads that share a key head."""
    return x if x.shape[2] == 1 else x.sum(axis=2, keepdims=True)


@lru_cache(maxsize=8)
def _upper_triangle(rows: int) -> np.ndarray:
    return np.triu(np.full((rows, rows), -np.inf, np.float32), 1)
