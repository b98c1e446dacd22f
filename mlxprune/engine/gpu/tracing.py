"""Tracing: what a model's classes do otherwise while a training step is traced, and only then.

mlx-lm's models look their attention up in their module and their layers' ``__call__`` in the class.
Both are replaced for the time of one trace and restored after it, so that scoring and evaluation
run the same kernels whether or not the process has trained before.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from mlxprune.engine.gpu import attention
from mlxprune.engine.gpu.embedding import LookupOrder, embed

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn


@contextlib.contextmanager
def blockwise_attention(model: Any) -> Iterator[None]:
    """Causal attention of more than ATTENTION_ROWS positions goes by blocks of queries."""
    module: Any = sys.modules[type(model).__module__]
    stock = getattr(module, "scaled_dot_product_attention", None)
    if stock is None:
        yield
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
        if plain and queries.shape[2] == keys.shape[2] > attention.ATTENTION_ROWS:
            return attention.attention(queries, keys, values, scale)
        return cast("mx.array", stock(queries, keys, values, cache, scale, mask, **others))

    module.scaled_dot_product_attention = chosen
    try:
        yield
    finally:
        module.scaled_dot_product_attention = stock


@contextlib.contextmanager
def checkpointed_layers(model: Any) -> Iterator[None]:
    """What a layer computes on its way is computed again for the gradient, not kept
    (Chen et al. 2016)."""
    import mlx.core as mx

    kind: Any = type(model.layers[0])
    stock = kind.__call__

    def checkpointed(layer: Any, *given: Any, **named: Any) -> Any:
        def inner(parameters: Any, *given: Any, **named: Any) -> Any:
            layer.update(parameters)
            return stock(layer, *given, **named)

        return mx.checkpoint(inner)(layer.trainable_parameters(), *given, **named)

    kind.__call__ = checkpointed
    try:
        yield
    finally:
        kind.__call__ = stock


@contextlib.contextmanager
def exact_lookups(
    model: nn.Module,
    masters: dict[str, mx.array],
    inputs: mx.array,
    order: LookupOrder,
    dtype: mx.Dtype,
) -> Iterator[None]:
    """The model looks ``inputs`` up in its float32 masters, by dotted path, with ``embed``'s
    gradient. Look-ups of anything else, such as positions that stand once, stay as they are."""
    import mlx.nn as nn

    tables = {
        id(module): masters[f"{path}.weight"]
        for path, module in model.named_modules()
        if type(module) is nn.Embedding and f"{path}.weight" in masters
    }
    kind: Any = nn.Embedding
    stock: Callable[[Any, mx.array], mx.array] = kind.__call__

    def chosen(module: Any, ids: mx.array) -> mx.array:
        table = tables.get(id(module))
        if table is None or ids is not inputs or table.shape[0] != order.sums.shape[0]:
            return stock(module, ids)
        return embed(table, ids, order, dtype)

    kind.__call__ = chosen
    try:
        yield
    finally:
        kind.__call__ = stock
