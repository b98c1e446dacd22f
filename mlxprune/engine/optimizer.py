"""Optimizers: AdamW and Lion with decoupled weight decay, MLX's on a GPU, in place on the CPU.

The state is MLX's in both cases, with MLX's names, so a checkpoint does not say where it was made.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlxprune.engine.cpu.llama import Parameters
from mlxprune.engine.cpu.threads import Buffers, CpuThreads

BLOCK = 1 << 16  # elements at a time: all that an update reads stays in the cache


def make_optimizer(name: str, learning_rate: float, weight_decay: float) -> Any:
    """MLX's optimizer, with the betas of the paper's stack."""
    import mlx.optimizers as optim

    if name == "lion":  # betas of llm-foundry's Lion
        return optim.Lion(learning_rate, betas=[0.9, 0.99], weight_decay=weight_decay)
    return optim.AdamW(
        learning_rate,
        betas=[0.9, 0.95],
        eps=1e-8,
        weight_decay=weight_decay,
        bias_correction=True,
    )


def gradient_norm(threads: CpuThreads, gradients: Parameters) -> float:
    """The Euclidean norm over all gradients, summed by array in float64."""

    def squares(_: Buffers, name: str) -> float:
        flat = gradients[name].ravel()
        return float(np.dot(flat, flat))

    return math.sqrt(math.fsum(threads.map(squares, threads.deal(list(gradients)))))


# Over 60 lines: one update with its block as an inner function: they share every array.
def update_in_place(
    threads: CpuThreads,
    optimizer: Any,
    parameters: Parameters,
    gradients: Parameters,
    moments: dict[str, Parameters],
    step: int,
    shrink: float,
) -> None:
    """The update of ``optimizer`` at ``step`` (from 1), gradients times ``shrink``, float32.

    ``moments`` are the arrays of the optimizer's state: m, and for AdamW v, by parameter. AdamW is
    Loshchilov and Hutter 2019 with bias correction, Lion is Chen et al. 2023. Gradients are
    overwritten.
    """
    rate = float(optimizer.learning_rate.item())
    first, second = optimizer.betas
    keep = np.float32(1 - rate * optimizer.weight_decay)
    adam = "v" in moments
    if adam:
        scale = np.float32(rate / (1 - first**step))
        second_scale = np.float32(1 / math.sqrt(1 - second**step))
        epsilon = np.float32(optimizer.eps)

    def block(buffers: Buffers, place: tuple[str, int]) -> None:
        name, at = place
        p, g, m = (
            tree[name].reshape(-1)[at : at + BLOCK]
            for tree in (parameters, gradients, moments["m"])
        )
        t = buffers.take("update", len(p))
        if shrink != 1.0:
            g *= np.float32(shrink)
        p *= keep
        if adam:
            v = moments["v"][name].reshape(-1)[at : at + BLOCK]
            np.multiply(g, np.float32(1 - first), out=t)
            m *= np.float32(first)
            m += t
            np.multiply(g, g, out=g)
            g *= np.float32(1 - second)
            v *= np.float32(second)
            v += g
            np.sqrt(v, out=t)
            t *= second_scale
            t += epsilon
            np.divide(m, t, out=t)
            t *= scale
        else:
            np.multiply(m, np.float32(first), out=t)
            m *= np.float32(second)
            m += np.float32(1 - second) * g
            g *= np.float32(1 - first)
            t += g
            np.sign(t, out=t)
            t *= np.float32(rate)
        p -= t

    places = [
        (name, at) for name, array in parameters.items() for at in range(0, array.size, BLOCK)
    ]
    threads.map(block, threads.deal(places))
