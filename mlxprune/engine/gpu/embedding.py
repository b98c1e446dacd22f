"""Embedding: the look-up of token ids, with a gradient that has the same bytes every time.

MLX adds up the gradient of a look-up by atomic additions on Metal and CUDA: their order, and so the
last bits, differ from run to run, and in bfloat16 a frequent token loses several per cent. Here the
host sorts the ids, and the device adds the rows of each id in float32 by matrix products whose
order is fixed:

    sorted rows, in blocks of BLOCK_ROWS -> sums by id inside every block (a small product with ones
    and zeros) -> the sums of ids that go on over several blocks (one more) -> a row for every id.

The products take 2 N BLOCK_ROWS d operations for N ids of width d, next to nothing beside the
2 N V d of a product over the whole vocabulary V.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

if TYPE_CHECKING:
    import mlx.core as mx

BLOCK_ROWS = 64


class LookupOrder(NamedTuple):
    """Where the rows of a look-up go in its gradient: int32 arrays, of NumPy or of MLX.

    N ids, padded to blocks of BLOCK_ROWS; B blocks; V ids of the vocabulary.
    """

    order: Any  # [B * BLOCK_ROWS]: which row stands where when they are sorted by id
    place: Any  # the same shape: the how many-th id of its block a sorted row belongs to
    home: Any  # [B]: the block in which the id that a block begins with began, itself if there
    sums: Any  # [V]: which sum over a block an id has; past the last where it does not occur
    carried: Any  # [V]: in which block an id began that goes on in the next; past the last if none


def lookup_order(ids: np.ndarray, vocab_size: int) -> LookupOrder:
    """The order of a batch of ``ids`` (int, any shape), computed on the host."""
    flat = ids.ravel()
    blocks = -(-flat.size // BLOCK_ROWS)
    padded = np.full(blocks * BLOCK_ROWS, vocab_size, np.int32)  # past the vocabulary: sorted last
    padded[: flat.size] = flat
    order = np.argsort(padded, kind="stable")
    ranked = padded[order].reshape(blocks, BLOCK_ROWS)
    changed = np.zeros((blocks, BLOCK_ROWS), np.int32)
    changed[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    place = np.cumsum(changed, axis=1, dtype=np.int32)
    goes_on = np.zeros(blocks, bool)
    goes_on[1:] = ranked[1:, 0] == ranked[:-1, -1]
    # What a block begins with began in the last block before it inside which any id begins, ...
    first = np.flatnonzero(~goes_on | (place[:, -1] > 0))
    home = np.arange(blocks, dtype=np.int32)
    before = first[np.searchsorted(first, np.arange(blocks), side="left") - 1]
    home[goes_on] = before[goes_on]
    # ... and every id begins where it stands for the first time.
    begins = np.ones(padded.size, bool)
    begins[1:] = ranked.ravel()[1:] != ranked.ravel()[:-1]
    at = np.flatnonzero(begins)
    known = ranked.ravel()[at]
    at, known = at[known < vocab_size], known[known < vocab_size]
    sums = np.full(vocab_size, blocks * BLOCK_ROWS, np.int32)
    sums[known] = at // BLOCK_ROWS * BLOCK_ROWS + place.ravel()[at]
    carried = np.full(vocab_size, blocks, np.int32)
    spills = home[goes_on]
    last = ranked[spills, -1]
    carried[last[last < vocab_size]] = spills[last < vocab_size]
    return LookupOrder(order.astype(np.int32), place.ravel(), home, sums, carried)


def embed(weight: mx.array, ids: mx.array, order: LookupOrder, dtype: mx.Dtype) -> mx.array:
    """Rows of ``weight`` float32 [V, d] at ``ids`` [B, T] in ``dtype`` [B, T, d]; the gradient is
    the float32 sum over the rows of each id, in the order of ``order``."""
    import mlx.core as mx

    @mx.custom_function
    def looked_up(weight: mx.array, ids: mx.array, *order: mx.array) -> mx.array:
        return weight[ids].astype(dtype)

    @looked_up.vjp
    def looked_up_vjp(primals: Any, cotangent: mx.array, output: mx.array) -> tuple[mx.array, ...]:
        weight, ids, *arrays = primals
        rows = cotangent.reshape(-1, cotangent.shape[-1])
        summed = sum_by_id(rows, LookupOrder(*arrays))
        return (summed.astype(weight.dtype), *(mx.zeros_like(a) for a in (ids, *arrays)))

    return cast("mx.array", looked_up(weight, ids, *order))


def sum_by_id(rows: mx.array, order: LookupOrder) -> mx.array:
    """The float32 sums [V, d] of the rows [N, d] of each id."""
    import mlx.core as mx

    width = rows.shape[-1]
    blocks = order.home.shape[0]
    missing = order.order.shape[0] - rows.shape[0]
    if missing:
        rows = mx.concatenate([rows, mx.zeros((missing, width), rows.dtype)])
    ranked = rows[order.order].astype(mx.float32).reshape(blocks, BLOCK_ROWS, width)
    places = mx.array(np.arange(BLOCK_ROWS, dtype=np.int32))
    member = order.place.reshape(blocks, 1, BLOCK_ROWS) == places[:, None]
    inside = member.astype(mx.float32) @ ranked  # [blocks, ids of a block, d]
    numbers = mx.array(np.arange(blocks, dtype=np.int32))
    continues = (order.home[None] == numbers[:, None]) & (numbers[None] != numbers[:, None])
    spilled = continues.astype(mx.float32) @ inside[:, 0]
    none = mx.zeros((1, width), mx.float32)
    whole = mx.concatenate([inside.reshape(-1, width), none])[order.sums]
    return whole + mx.concatenate([spilled, none])[order.carried]
