"""Training steps as MLX's lazy graph: the gradients of one micro-batch after another, then the
update."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mlxprune.engine.gpu import loss_graph
from mlxprune.engine.gpu.embedding import LookupOrder, lookup_order
from mlxprune.engine.gpu.tracing import blockwise_attention, checkpointed_layers, exact_lookups

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn

Gradients = Any  # a tree of float32 arrays like that of the parameters
Step = Callable[..., Callable[[], tuple[float, float]]]


@dataclass(frozen=True)
class StepSettings:
    """How a step is cut and computed, besides the model and the optimizer."""

    parts: int  # micro-batches
    clip: float
    dtype: Any  # of weights and activations; master weights and sums of gradients are float32
    compiled: bool
    fused_attention_gradient: bool  # whether MLX's own attention is taken
    gradient_checkpointing: bool = False


# Over 60 lines: a part, the update and their start share the model and the optimizer.
def step_function(model: nn.Module, optimizer: Any, settings: StepSettings) -> Step:
    """Start an optimizer step: inputs, targets int [B, T], the learning rate, and what is called
    before every micro-batch -> what waits for it and returns (mean loss, gradient norm before the
    clip).

    A micro-batch adds its gradient to the sum so far, in a graph of its own: there is one trace for
    any number of parts, and between two of them a step can pause or be given up, which leaves the
    model as it was. At most two are under way. The parameters of the model and the state of the
    optimizer are replaced at the end.
    """
    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx.utils import tree_map

    parts = settings.parts
    gradient_of = mx.value_and_grad(mean_loss(model, settings.dtype))

    def one_part(
        inputs: mx.array,
        targets: mx.array,
        order: list[mx.array],
        so_far: tuple[mx.array, Gradients] | None,
    ) -> tuple[mx.array, Gradients]:
        masters = model.trainable_parameters()
        with traced_for_training(model, settings):
            loss, gradients = gradient_of(masters, inputs, targets, LookupOrder(*order))
        model.update(masters)
        if parts > 1:
            loss, gradients = loss / parts, tree_map(lambda g: g / parts, gradients)
        if so_far is not None:
            loss, gradients = loss + so_far[0], tree_map(mx.add, so_far[1], gradients)
        return loss, gradients

    def update(gradients: Gradients) -> mx.array:
        gradients, norm = optim.clip_grad_norm(gradients, settings.clip)
        model.update(optimizer.apply_gradients(gradients, model.trainable_parameters()))
        return cast("mx.array", norm)

    if settings.compiled:
        one_part = partial(mx.compile, inputs=[model.state])(one_part)
        state = [model.state, optimizer.state]
        update = partial(mx.compile, inputs=state, outputs=state)(update)

    def start(
        inputs: np.ndarray,
        targets: np.ndarray,
        rate: float,
        between: Callable[[], None] = lambda: None,
    ) -> Callable[[], tuple[float, float]]:
        so_far: tuple[mx.array, Gradients] | None = None
        vocab_size = _vocabulary(model)
        for x, y in zip(np.split(inputs, parts), np.split(targets, parts), strict=True):
            between()
            order = [mx.array(a) for a in lookup_order(x, vocab_size)]
            before = so_far[0] if so_far is not None else None
            so_far = one_part(mx.array(x), mx.array(y), order, so_far)
            mx.async_eval(so_far)  # type: ignore[no-untyped-call]
            if before is not None:
                mx.eval(before)
        assert so_far is not None
        loss, gradients = so_far
        del so_far  # the update may take the place of the gradients
        optimizer.learning_rate = rate
        norm = update(gradients)
        mx.async_eval(norm, model.parameters(), optimizer.state)  # type: ignore[no-untyped-call]
        return lambda: (float(cast("float", loss.item())), float(cast("float", norm.item())))

    return start


@contextlib.contextmanager
def traced_for_training(model: nn.Module, settings: StepSettings) -> Iterator[None]:
    """What a training step computes otherwise than scoring, for the time of its trace."""
    with contextlib.ExitStack() as stack:
        if not settings.fused_attention_gradient:
            stack.enter_context(blockwise_attention(model))
        if settings.gradient_checkpointing:
            stack.enter_context(checkpointed_layers(model))
        yield


def gradients(
    model: nn.Module, inputs: np.ndarray, targets: np.ndarray, settings: StepSettings
) -> dict[str, np.ndarray]:
    """The gradient of the mean loss by every parameter, float32, as a step computes it, eagerly."""
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_map

    masters = model.trainable_parameters()
    full = tree_map(lambda a: a.astype(mx.float32), masters)
    order = LookupOrder(*map(mx.array, lookup_order(inputs, _vocabulary(model))))
    with traced_for_training(model, settings):
        loss = mean_loss(model, settings.dtype)
        found = mx.grad(loss)(full, mx.array(inputs), mx.array(targets), order)
    model.update(masters)
    mx.eval(found)
    return {
        name: np.array(array.astype(mx.float32))
        for name, array in cast("list[tuple[str, mx.array]]", tree_flatten(found))
    }


def _vocabulary(model: Any) -> int:
    """Rows of the table that token ids are looked up in; 1 where the model does not say."""
    return int(getattr(getattr(model, "args", None), "vocab_size", 1))


def mean_loss(model: nn.Module, dtype: mx.Dtype) -> Callable[..., mx.array]:
    """A function of (float32 parameters, inputs, targets, LookupOrder of the inputs) to the mean
    -ln p(target)."""
    from mlx.utils import tree_flatten, tree_map

    splits = loss_graph.parts(model)[0] is not model

    def loss(masters: Any, inputs: mx.array, targets: mx.array, order: LookupOrder) -> mx.array:
        by_path = dict(cast("list[tuple[str, mx.array]]", tree_flatten(masters)))
        model.update(tree_map(lambda p: p.astype(dtype), masters))
        with exact_lookups(model, by_path, inputs, order, dtype):
            if not splits:
                return loss_graph.cross_entropy(model(inputs), targets).mean()
            inner = cast("Any", model)
            hidden = inner.model(inputs)
        head = "model.embed_tokens.weight" if "lm_head" not in inner else "lm_head.weight"
        flat = hidden.reshape(-1, hidden.shape[-1])
        result: mx.array = fused_mean(flat, by_path[head], targets.reshape(-1))[0]
        return result

    return loss


def fused_mean(
    hidden: mx.array, weight: mx.array, targets: mx.array, rows: int | None = None
) -> list[mx.array]:
    """[mean loss, its gradient by hidden, by weight]: hidden [N, d] in the compute dtype, weight
    float32 [V, d], targets [N]. The gradient by weight is float32.

    ``rows`` positions at a time; by default as many as LOGITS_BYTES hold.
    """
    import mlx.core as mx

    rows = rows or loss_graph.rows_at_once(weight.shape[0])
    ids = mx.array(np.arange(weight.shape[0], dtype=np.int32))

    @mx.custom_function
    def fused(hidden: mx.array, weight: mx.array, targets: mx.array) -> list[mx.array]:
        share = 1.0 / hidden.shape[0]
        losses: list[mx.array] = []
        by_hidden: list[mx.array] = []
        by_weight = None
        table = weight.astype(hidden.dtype)
        for at in range(0, hidden.shape[0], rows):
            x, t = hidden[at : at + rows], targets[at : at + rows]
            if by_weight is not None:
                # Each piece waits for all of the last: else the logits of all are alive at once.
                x, t = mx.depends([x, t], [losses[-1], by_weight, by_hidden[-1]])
            logits = (x @ table.T).astype(mx.float32)
            normaliser = mx.logsumexp(logits, axis=-1, keepdims=True)
            picked = mx.take_along_axis(logits, t[:, None], axis=-1)
            losses.append((normaliser - picked)[:, 0])
            p = mx.exp(logits - normaliser)
            slope = ((p - (ids[None] == t[:, None])) * share).astype(hidden.dtype)
            by_hidden.append(slope @ table)
            more = (slope.T @ x).astype(mx.float32)
            by_weight = more if by_weight is None else by_weight + more
        assert by_weight is not None
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
