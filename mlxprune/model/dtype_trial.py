"""Dtype trial: how fast this GPU computes in each dtype, and how far that is from float32.

Apple's M1 and M2 have no bfloat16 of their own: MLX computes it by way of float32, slower than
float16. The trial is short and runs in a child process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mlxprune.model.architecture import full_config, preset_of
from mlxprune.model.timing import median_seconds
from mlxprune.model.weights import initialise_model
from mlxprune.records import Record
from mlxprune.stats import spearman

CONTEXT, VOCABULARY = 256, 8192
SOUND_CORRELATION = 0.99  # of ranks with those of float32


@dataclass(frozen=True)
class TrialOrder:
    model: str  # a preset
    dtypes: list[str]
    rows: int = 32
    seconds: float = 0.6  # of work for each figure


class DtypeFigures(Record):
    """Tokens a second, and against float32 the largest error of a token's loss in nats and the rank
    correlation of the mean losses of rows; ``train``: None where that dtype does not train."""

    dtype: str
    score: float
    train: float | None
    largest_error: float
    rank_correlation: float


def try_dtypes(link: Any, order: TrialOrder) -> list[DtypeFigures]:
    """In the child."""
    from mlxprune.engine import backend

    generator = np.random.default_rng(0)
    ids = generator.zipf(1.2, (order.rows, CONTEXT + 1)) % VOCABULARY
    inputs, targets = ids[:, :-1].astype(np.int32), ids[:, 1:].astype(np.int32)
    config = full_config(preset_of(order.model), VOCABULARY, CONTEXT, 1, 1)
    found: list[DtypeFigures] = []
    exact: np.ndarray | None = None
    for dtype in ("float32", *(d for d in order.dtypes if d != "float32")):
        with backend.computing_in("float32" if dtype == "float16" else dtype, dtype):
            model = initialise_model(config, 0)
            losses_of = backend.loss_function(model)
            losses = _score(losses_of, inputs, targets)
            exact = losses if exact is None else exact
            train = None
            if dtype != "float16":  # it would need its losses scaled: its gradients vanish
                step = _seconds_of_a_step(model, inputs, targets, order.seconds)
                train = order.rows * CONTEXT / step
            seconds = median_seconds(partial(_score, losses_of, inputs, targets), order.seconds)
        found.append(
            DtypeFigures(
                dtype=dtype,
                score=order.rows * CONTEXT / seconds,
                train=train,
                largest_error=float(np.abs(losses - exact).max()),
                rank_correlation=float(spearman(exact.mean(axis=1), losses.mean(axis=1)) or 0.0),
            )
        )
    return found


def _score(losses_of: Any, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.array(losses_of(inputs, targets))


def _seconds_of_a_step(
    model: Any, inputs: np.ndarray, targets: np.ndarray, seconds: float
) -> float:
    from mlxprune.engine import backend
    from mlxprune.engine.optimizer import make_optimizer

    its = make_optimizer("adamw", 1e-4, 0.1)
    its.init(model.trainable_parameters())
    step = backend.step_function(model, its, 1, 1.0)
    return median_seconds(lambda: step(inputs, targets, 1e-4)(), seconds)


def chosen_dtypes(figures: list[DtypeFigures]) -> tuple[str, str]:
    """(of training, of scoring): the fastest that keeps the ranks; bfloat16 unless another one is a
    tenth faster in scoring, float32 in training where it is as fast."""
    by_name = {one.dtype: one for one in figures}
    sound = [
        one
        for one in figures
        if math.isfinite(one.largest_error) and one.rank_correlation > SOUND_CORRELATION
    ]
    half = by_name["bfloat16"]
    fastest = max(sound, key=lambda one: one.score, default=by_name["float32"])
    score = fastest.dtype if half not in sound or fastest.score > 1.1 * half.score else "bfloat16"
    single = by_name["float32"]
    train = "float32" if (single.train or 0) >= (half.train or 0) else "bfloat16"
    return train, score
