"""The in-place updates of the CPU against MLX's optimizers."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxprune.engine import optimizer
from mlxprune.engine.cpu.threads import CpuThreads
from mlxprune.engine.optimizer import gradient_norm, make_optimizer, update_in_place


@pytest.mark.parametrize("name", ["adamw", "lion"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("threads", [1, 3])
def test_updates_equal_those_of_mlx(
    name: str, decay: float, threads: int, generator: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Eight steps with a changing rate, arrays that do not divide into blocks, tiny gradients."""
    monkeypatch.setattr(optimizer, "BLOCK", 100)
    shapes = {"a": (17, 23), "b": (5,), "c": (100, 3)}
    start = {n: generator.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    its = make_optimizer(name, 1e-2, decay)
    theirs: Any = {n: mx.array(a) for n, a in start.items()}
    its.init(theirs)
    own = make_optimizer(name, 1e-2, decay)
    ours = {n: a.copy() for n, a in start.items()}
    moments = {m: {n: np.zeros_like(a) for n, a in start.items()} for m in its.state["a"]}
    for step in range(1, 9):
        its.learning_rate = own.learning_rate = 1e-2 / step
        gradients = {
            n: (generator.standard_normal(s) * 10.0 ** generator.integers(-9, 3)).astype(np.float32)
            for n, s in shapes.items()
        }
        shrink = 1.0 if step % 2 else 0.25
        scaled = {n: mx.array(g * np.float32(shrink)) for n, g in gradients.items()}
        theirs = its.apply_gradients(scaled, theirs)
        update_in_place(CpuThreads(threads), own, ours, gradients, moments, step, shrink)
        for n, array in ours.items():
            assert np.allclose(array, np.array(theirs[n]), rtol=1e-5, atol=1e-6), (n, step)
            for moment, trees in moments.items():
                expected = np.array(its.state[n][moment])
                assert np.allclose(trees[n], expected, rtol=1e-5, atol=1e-12), (n, moment)


def test_the_norm_is_over_all_gradients(generator: np.random.Generator) -> None:
    gradients = {str(n): generator.standard_normal((n, 3)).astype(np.float32) for n in range(1, 9)}
    true = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients.values()))
    assert gradient_norm(CpuThreads(3), gradients) == pytest.approx(true, rel=1e-6)
