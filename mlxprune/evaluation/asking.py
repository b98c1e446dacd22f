"""Asking: one model answers the requests of the tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlxprune.errors import UsageError
from mlxprune.evaluation.model_answers import answers_in_child
from mlxprune.evaluation.requests import TaskRequests
from mlxprune.execution.context import Execution
from mlxprune.execution.progress import adding_progress, stage_progress
from mlxprune.model.architecture import longest_context
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
    report = stage_progress(execution, "evaluation", "tokens", what, obeys=False)
    between = adding_progress(report, asked.inputs)
    return answers_in_child(execution, folder, asked, window, parts, between)


def answer_context(stated: Json, asked: int | None, model: str) -> int:
    """The context: what is asked for, up to the model's; by default its own, up to 2,048."""
    longest = longest_context(stated)
    if asked is not None and not 1 <= asked <= (longest or asked):
        fix = f"up to {longest}, or leave it out" if longest else "give a count of tokens"
        raise UsageError(
            f"a context of {asked} is none of this model's", f"--context, {model}", fix
        )
    return asked or min(longest or LARGEST_CONTEXT, LARGEST_CONTEXT)
