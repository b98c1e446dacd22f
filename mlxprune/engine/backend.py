"""Backend: the engine that computes losses, gradients and steps on the device of this process.

A GPU runs MLX's lazy graph (``gpu/``). The Linux CPU runs a Llama in NumPy (``cpu/``), because MLX
computes ``exp`` there at about 20 ns an element, on one thread; other models run the graph there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cache, partial
from typing import Any

import mlx.core as mx
import numpy as np

from mlxprune import machine
from mlxprune.engine import blas, hardware
from mlxprune.engine.cpu import layers, llama
from mlxprune.engine.cpu.shared_prefix import numpy_answers
from mlxprune.engine.cpu.threads import CpuThreads
from mlxprune.engine.gpu import loss_graph, training_graph
from mlxprune.engine.gpu.shared_prefix import Answers, graph_answers
from mlxprune.engine.hardware import Backend
from mlxprune.engine.optimizer import gradient_norm, update_in_place
from mlxprune.engine.shared_prefix import SharedPrefix
from mlxprune.errors import RunError

Losses = Callable[[np.ndarray, np.ndarray], Any]
Step = training_graph.Step


SPARE_BYTES = 1 << 30  # what a bound leaves out
_settled: Backend | None = None
_settled_peak: float | None = None


def detect() -> Backend:
    """The backend of this process; ``settle`` says what of it a run has decided."""
    global _lanes
    device = _settled or hardware.look()
    if device.on_cpu and _lanes is None:  # all cores for one process
        set_threads(machine.cores())
    return device


def settle(
    train_dtype: str, score_dtype: str, part_flops: float | None, peak: float | None = None
) -> None:
    """From here on this process computes with what was decided for the run: dtypes by name, the
    FLOPs of one batch or micro-batch at most, and the ``peak`` that was measured, FLOPs a second.
    """
    global _settled, _settled_peak
    _settled_peak = peak
    _settled = replace(
        hardware.look(),
        train_dtype=hardware.DTYPES[train_dtype],
        score_dtype=hardware.DTYPES[score_dtype],
        part_flops=part_flops,
    )


@contextlib.contextmanager
def computing_in(train_dtype: str, score_dtype: str) -> Iterator[None]:
    """These dtypes until the end of the context, then what was settled before."""
    global _settled
    before, kinds = _settled, hardware.DTYPES
    _settled = replace(detect(), train_dtype=kinds[train_dtype], score_dtype=kinds[score_dtype])
    release()
    try:
        yield
    finally:
        _settled = before
        release()


def pretend(device: Backend) -> None:
    """Plan for another device than this one; nothing may be computed until ``unsettle``."""
    global _settled
    _settled = device


def unsettle() -> None:
    """Back to what the device has by default, looked at anew."""
    global _settled, _settled_peak
    _settled = _settled_peak = None
    for seen in (hardware.look, measured_peak):
        seen.cache_clear()
    release()


_lanes: CpuThreads | None = None


def set_threads(count: int) -> None:
    """CPU: threads of this process. Scoring workers take one each."""
    import threadpoolctl

    global _lanes
    _lanes = CpuThreads(count)
    threadpoolctl.threadpool_limits(1, user_api="blas")  # NumPy's: each of ours is one
    blas.set_num_threads(count)  # MLX's, for models that run the graph


def use_threads(count: int) -> None:
    """CPU: so many threads from here on, with fresh buffers where the number changes."""
    if detect().on_cpu and len(cpu_threads()) != count:
        set_threads(count)


def cpu_threads() -> CpuThreads:
    """CPU: the threads that chunks of a batch are dealt to."""
    detect()
    assert _lanes is not None
    return _lanes


def peak_memory() -> int:
    """Bytes at most so far: of MLX's buffers on a GPU, of the whole process on the CPU."""
    return machine.peak_resident_bytes() if detect().on_cpu else int(mx.get_peak_memory())


def reset_peak_memory() -> None:
    mx.reset_peak_memory()
    machine.reset_peak_resident()


def limit_memory(bound: int | None = None) -> None:
    """Keep MLX's buffer cache from growing without bound as shapes change. On a GPU also keep what
    is encoded ahead within ``bound``, the bytes that are expected at most: over it MLX waits. By
    default nine tenths of the working set."""
    device = detect()
    mx.set_cache_limit(loss_graph.CPU_CACHE_BYTES if device.on_cpu else device.memory_bytes // 4)
    if not device.on_cpu:
        most = int(0.9 * 2 * device.memory_bytes)
        mx.set_memory_limit(most if bound is None else min(most, bound + SPARE_BYTES))


def release() -> None:
    """Forget the last model and give its buffers back."""
    global _last_losses
    _last_losses = None
    mx.clear_cache()


def peak_flops() -> float:
    """FLOPs a second of a large matrix product in the dtype of training: what utilisation refers
    to. Measured once, unless the run has."""
    return _settled_peak or measured_peak()


@cache
def measured_peak() -> float:
    """FLOPs a second, measured now.

    The best of a few rounds; on the CPU the rounds run one matrix a thread, as the engine does.
    """
    device = detect()
    size = {"cpu": 1024, "graph": 256, "cuda": 8192}.get(device.name, 4096)
    flops = 2.0 * size**3
    if device.on_cpu:
        matrix = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
        outputs = [np.empty_like(matrix) for _ in range(len(cpu_threads()))]

        def multiply() -> None:
            cpu_threads().map(
                lambda _, out: np.matmul(matrix, matrix, out=out), [[o] for o in outputs]
            )

        flops *= len(outputs)
    else:
        a = mx.random.normal((size, size)).astype(device.train_dtype)
        mx.eval(a)

        def multiply() -> None:
            mx.eval(a @ a)

    multiply()
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        multiply()
        taken.append(time.perf_counter() - began)
    return flops / min(taken)


def loss_function(model: Any) -> Losses:
    """inputs, targets int [B, T] -> -ln p(target) in nats, float32 [B, T], ready or under way.

    An id outside the model's vocabulary is a RunError: a gather would read whatever lies there.
    """
    device = detect()
    vocab_size = _vocab_size(model)
    shape = llama_shape(model) if device.on_cpu else None
    start: Losses
    if shape is None:
        start = _graph_losses(model)
    else:
        weights = llama.Weights(shape, arrays_of(model.parameters()), for_losses=True)
        start = partial(layers.losses, cpu_threads(), weights)

    def losses(inputs: np.ndarray, targets: np.ndarray) -> Any:
        refuse_outside(vocab_size, inputs, targets)
        return start(inputs, targets)

    return losses


def answer_function(model: Any) -> Callable[[list[SharedPrefix]], Answers]:
    """Of every shared prefix in a batch -ln p of its targets in nats, float32 [S], and whether each
    is the most likely id, bool [S]. Ids outside the vocabulary are a RunError."""
    vocab_size = _vocab_size(model)
    shape = llama_shape(model) if detect().on_cpu else None
    weights = None
    if shape is not None:
        weights = llama.Weights(shape, arrays_of(model.parameters()), for_losses=True)

    def answers(prefixes: list[SharedPrefix]) -> Answers:
        refuse_outside(
            vocab_size, *(a for shared in prefixes for a in (shared.ids, shared.targets))
        )
        if weights is not None:
            return numpy_answers(cpu_threads(), weights, prefixes)
        return graph_answers(model, prefixes)

    return answers


_last_losses: tuple[Any, Losses] | None = None


def _graph_losses(model: Any) -> Losses:
    """Of the model last asked for, the same function again: its compiled traces are kept."""
    global _last_losses
    if _last_losses is None or _last_losses[0] is not model:
        device = detect()
        made = loss_graph.loss_function(model, device.compiled, device.score_dtype)
        _last_losses = (model, made)
    return _last_losses[1]


def step_function(
    model: Any,
    its_optimizer: Any,
    parts: int,
    clip: float,
    gradient_checkpointing: bool = False,
) -> Step:
    """Start an optimizer step: inputs, targets int [B, T], the learning rate, and what is called
    between its parts -> what waits for it and returns (mean loss, gradient norm before the clip).

    The model and the optimizer's state are changed at the end of a step, so that one can be given
    up: what is called between its parts may raise. On the CPU a Llama's memory does not grow with
    the batch: ``parts`` and ``gradient_checkpointing`` change nothing there.
    """
    device = detect()
    vocab_size = _vocab_size(model)
    shape = llama_shape(model) if device.on_cpu else None
    if shape is None:
        settings = step_settings(parts, clip, gradient_checkpointing)
        step = training_graph.step_function(model, its_optimizer, settings)
    else:
        step = _cpu_step(model, its_optimizer, shape, clip)

    def checked(
        inputs: np.ndarray,
        targets: np.ndarray,
        rate: float,
        between: Callable[[], None] = lambda: None,
    ) -> Callable[[], tuple[float, float]]:
        refuse_outside(vocab_size, inputs, targets)
        return step(inputs, targets, rate, between)

    return checked


def step_settings(
    parts: int, clip: float, gradient_checkpointing: bool = False
) -> training_graph.StepSettings:
    """How this device computes a step of the graph."""
    device = detect()
    return training_graph.StepSettings(
        parts,
        clip,
        device.train_dtype,
        device.compiled_steps,
        device.fused_attention_gradient,
        gradient_checkpointing,
    )


def gradients(model: Any, inputs: np.ndarray, targets: np.ndarray) -> llama.Parameters:
    """The gradient of the mean loss by every parameter, float32, as a training step computes it."""
    shape = llama_shape(model) if detect().on_cpu else None
    if shape is not None:
        weights = llama.Weights(shape, arrays_of(model.trainable_parameters()))
        held = layers.loss_and_gradients(cpu_threads(), weights, inputs, targets)[1]
        return {name: array.copy() for name, array in held.items()}
    return training_graph.gradients(model, inputs, targets, step_settings(1, 1.0))


def _cpu_step(model: Any, its_optimizer: Any, shape: llama.LlamaShape, clip: float) -> Step:
    """Parameters and moments stay where they are and are written through NumPy's views of them."""
    from mlx.utils import tree_map

    # Arrays of our own: MLX may let equal constants, such as zeros, share a buffer.
    model.update(tree_map(lambda a: mx.array(np.array(a)), model.trainable_parameters()))
    its_optimizer.state = tree_map(lambda a: mx.array(np.array(a)), its_optimizer.state)
    its_optimizer.init(model.trainable_parameters())
    mx.eval(model.parameters(), its_optimizer.state)
    mx.clear_cache()  # MLX would keep what was copied; NumPy cannot use it
    weights = llama.Weights(shape, arrays_of(model.trainable_parameters()))

    def step(
        inputs: np.ndarray, targets: np.ndarray, rate: float, between: Callable[[], None]
    ) -> Callable[[], tuple[float, float]]:
        parameters = arrays_of(model.trainable_parameters())
        state = arrays_of(its_optimizer.state)
        moments: dict[str, llama.Parameters] = {}
        for path, array in state.items():
            name, _, moment = path.rpartition(".")
            if name in parameters:
                moments.setdefault(moment, {})[name] = array
        weights.update(parameters)
        loss, gradients = layers.loss_and_gradients(
            cpu_threads(), weights, inputs, targets, between
        )
        norm = gradient_norm(cpu_threads(), gradients)
        shrink = min(clip / (norm + 1e-6), 1.0)
        number = int(its_optimizer.state["step"].item()) + 1
        its_optimizer.learning_rate = rate
        update_in_place(
            cpu_threads(), its_optimizer, parameters, gradients, moments, number, shrink
        )
        its_optimizer.state["step"] = mx.array(number, mx.uint64)
        return lambda: (loss, norm)

    return step


def llama_shape(model: Any) -> llama.LlamaShape | None:
    """The shape of an mlx-lm model if the CPU's engine can compute it, else None."""
    from mlx.utils import tree_flatten
    from mlx_lm.models import llama as stock

    if type(model) is not stock.Model:
        return None
    args = model.args
    flat = tree_flatten(model.parameters())
    plain = all(name.endswith("weight") and array.dtype == mx.float32 for name, array in flat)
    if not plain or not llama.knows(asdict(args) | {"model_type": "llama"}):
        return None
    head_width = args.head_dim or args.hidden_size // args.num_attention_heads
    return llama.LlamaShape(
        args.hidden_size,
        args.num_attention_heads,
        args.num_key_value_heads,
        head_width,
        args.num_hidden_layers,
        args.rms_norm_eps,
        args.rope_theta,
        args.rope_traditional,
        args.tie_word_embeddings,
    )


def arrays_of(tree: Any) -> llama.Parameters:
    """NumPy views of the evaluated arrays of a tree, by dotted path: no copy."""
    from mlx.utils import tree_flatten

    return {name: np.array(array, copy=False) for name, array in tree_flatten(tree)}


def _vocab_size(model: Any) -> int | None:
    args = getattr(model, "args", None)
    return getattr(args, "vocab_size", None)


def refuse_outside(vocab_size: int | None, *ids: np.ndarray) -> None:
    """RunError unless 0 <= id < vocab_size everywhere."""
    if vocab_size is None:
        return
    for array in ids:
        if array.size and not 0 <= int(array.min()) <= int(array.max()) < vocab_size:
            raise RunError(
                f"token ids run from {array.min()} to {array.max()}, the vocabulary has "
                f"{vocab_size}",
                "the tokens and the model",
                "score with the tokenizer that the model was trained with",
            )
