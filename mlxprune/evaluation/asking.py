"""Asking: one model answers the requests of the tasks."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from mlxprune.errors import UsageError
from mlxprune.evaluation import requests
from mlxprune.evaluation.requests import TaskRequests
from mlxprune.execution.context import Execution
from mlxprune.execution.progress import adding_progress, stage_progress
from mlxprune.model.architecture import longest_context, read_model_config
from mlxprune.model.memory_bounds import memory_plan
from mlxprune.model.weights import load_model
from mlxprune.records import Json

LARGEST_CONTEXT = 2048  # where nobody says: that of the paper's models


def ask(
    execution: Execution,
    folder: Path,
    asked: TaskRequests,
    window: int,
    parts: Path,
    what: str | None = None,
) -> np.ndarray:
    """ANSWER rows of one model; what stands in ``parts``, a folder of this model and these
    asked, is not asked again."""
    from mlxprune.engine import backend

    device = backend.detect()
    plan = memory_plan(read_model_config(folder), window, execution.config.memory)
    tokens = plan.scoring_batch(device.answer_tokens_per_batch, 1)

    def load() -> requests.Answering:
        return backend.answer_function(load_model(folder)[0])

    parts.mkdir(parents=True, exist_ok=True)
    between = adding_progress(stage_progress(execution, "evaluation", "tokens", what), asked.inputs)
    return requests.answer_requests(asked, load, max(tokens, window), parts, between)


def answer_context(stated: Json, asked: int | None, model: str) -> int:
    """The context: what is asked for, up to the model's; by default its own, up to 2,048."""
    longest = longest_context(stated)
    if asked is not None and not 1 <= asked <= (longest or asked):
        fix = f"up to {longest}, or leave it out" if longest else "give a count of tokens"
        raise UsageError(
            f"a context of {asked} is none of this model's", f"--context, {model}", fix
        )
    return asked or min(longest or LARGEST_CONTEXT, LARGEST_CONTEXT)


def estimate_seconds(folder: Path, asked: TaskRequests) -> float:
    """Seconds that the asked will take: one batch from their middle, timed."""
    from mlxprune.engine import backend

    asking = backend.answer_function(load_model(folder)[0])
    order = sorted(asked.prefixes, key=lambda shared: len(shared.ids))
    middle = len(order) // 2
    some = order[max(0, middle - 8) : middle + 8]
    asking(some[:1])
    began = time.monotonic()
    asking(some)
    taken = time.monotonic() - began
    return taken * asked.inputs / max(1, sum(len(shared.ids) for shared in some))
