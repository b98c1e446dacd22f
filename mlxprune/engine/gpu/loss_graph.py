"""The engine of Metal and CUDA: MLX's lazy graph, with no array of batch x context x vocabulary.

Weights and activations are in the backend's dtype, loss and optimizer in float32. The head and the
cross-entropy go a few rows at a time; in training their gradient is computed beside the loss,
because softmax minus the target is known as soon as the logits are. Where MLX's attention has no
fused gradient, blocks of queries compute theirs one after another, and skip the masked half.

The CPU backend runs this, too, for models that ``cpu`` does not know, and in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn

Head = Callable[["mx.array"], "mx.array"]
CPU_CACHE_BYTES = 512 << 20  # what MLX may keep of freed buffers, a process; not NumPy's
LOGITS_BYTES = 64 << 20  # of one piece of float32 logits of the graph
PLAIN_HEADS = ("llama", "qwen2", "qwen3")  # logits = hidden states times a matrix, in pieces


def loss_function(
    model: nn.Module, compiled: bool, dtype: mx.Dtype | None = None
) -> Callable[[np.ndarray, np.ndarray], mx.array]:
    """A function from inputs, targets int [B, T] to -ln p(target) in nats, float32 [B, T].

    The result is under way, not ready: NumPy waits for it. ``compiled`` keeps a trace a shape.
    float32 parameters, as of a model in training, are cast to ``dtype`` for the time of a batch.
    """
    import mlx.core as mx
    from mlx.utils import tree_map

    body, head = parts(model)

    def cast(array: mx.array) -> mx.array:
        return array.astype(dtype) if dtype and array.dtype == mx.float32 else array

    def losses(inputs: mx.array, targets: mx.array) -> mx.array:
        masters = model.parameters()
        model.update(tree_map(cast, masters))
        try:
            return chunked(inputs, targets)
        finally:
            model.update(masters)

    def chunked(inputs: mx.array, targets: mx.array) -> mx.array:
        hidden = body(inputs)
        flat = hidden.reshape(-1, hidden.shape[-1])
        expected = targets.reshape(-1)
        rows = rows_at_once(int(head(flat[:1]).shape[-1]))
        pieces: list[mx.array] = []
        for at in range(0, flat.shape[0], rows):
            (x,) = mx.depends([flat[at : at + rows]], pieces[-1:])  # one piece's logits at a time
            pieces.append(cross_entropy(head(x), expected[at : at + rows]))
        return mx.concatenate(pieces).reshape(targets.shape)

    if compiled:
        losses = partial(mx.compile, inputs=[model.state])(losses)

    def start(inputs: np.ndarray, targets: np.ndarray) -> mx.array:
        result = losses(mx.array(inputs), mx.array(targets))
        mx.async_eval(result)  # type: ignore[no-untyped-call]
        return result

    return start


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """-ln p(target) in nats: logits [..., V] of any float dtype, targets [...] -> float32 [...]."""
    import mlx.core as mx

    logits = logits.astype(mx.float32)
    picked = mx.take_along_axis(logits, targets[..., None], axis=-1).squeeze(-1)
    return mx.logsumexp(logits, axis=-1) - picked


def rows_at_once(vocab_size: int) -> int:
    return max(1, LOGITS_BYTES // (4 * vocab_size))


def parts(model: Any) -> tuple[Callable[[mx.array], mx.array], Head]:
    """(hidden states, head) of an mlx-lm model, or (the model, identity) if it has no such parts.

    Other architectures may scale or cap their logits; of the ones known not to, the parts are
    believed only if they give the logits of the whole.
    """
    import mlx.core as mx

    if type(model).__module__.rpartition(".")[2] not in PLAIN_HEADS:
        return model, lambda logits: logits
    inner = model.model
    module = model.lm_head if "lm_head" in model else inner.embed_tokens
    head: Any = module if "lm_head" in model else module.as_linear
    ids = mx.array([[0, 1, 2, 3]])
    expected, found = (x.astype(mx.float32) for x in (model(ids), head(inner(ids))))
    if "bias" in module or not bool(mx.allclose(expected, found, 1e-3, 1e-3).item()):
        return model, lambda logits: logits
    return inner, head
