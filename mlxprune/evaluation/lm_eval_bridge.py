"""lm-eval: any task of lm-evaluation-harness, through the bridge that mlx-lm ships."""

from __future__ import annotations

import importlib.metadata
import logging
import math
from pathlib import Path

from mlxprune.engine.mlx_lm_import import ready_mlx_lm
from mlxprune.errors import ConfigError, RunError, UsageError, closest, one_line
from mlxprune.records import Json, Record

INSTALL = "pip install 'mlxprune[lm-eval]'"


class LmEvalResult(Record):
    """Of lm-eval's own object what is a figure or a name, by task."""

    results: dict[str, Json]
    versions: Json
    shots: Json
    samples: Json
    packages: dict[str, str]


def evaluate_with_lm_eval(
    model: Path, names: list[str], include: list[str], shots: int | None, limit: int | None
) -> LmEvalResult:
    """The tasks as lm-eval names and measures them.

    ``include`` are folders of task YAML files of the user's own. Raises UsageError where the extra
    is not installed, ConfigError for a task that nobody knows.
    """
    ready_mlx_lm()
    try:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager
        from mlx_lm.evaluate import MLXLM
    except ImportError as error:
        problem = f"lm-eval is not installed: {one_line(error)}"
        raise UsageError(problem, "--lm-eval", INSTALL) from None
    for folder in include:
        if not Path(folder).is_dir():
            raise ConfigError("no such folder", f"--include {folder}", "name one with task YAML")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=include or None)
    for name in names:
        if not manager.match_tasks([name]):
            raise ConfigError(
                f"lm-eval knows no task {name!r}", "--lm-eval", closest(name, manager.all_tasks)
            )
    try:
        found = simple_evaluate(
            model=MLXLM(str(model), use_chat_template=False),
            tasks=names,
            num_fewshot=shots,
            limit=limit,
            task_manager=manager,
            log_samples=False,
            bootstrap_iters=0,
        )
    except Exception as error:  # its tasks fetch and run what they please, and fail in many ways
        fix = "most often its data could not be fetched: check the network, or HF_HUB_OFFLINE"
        problem = f"lm-eval failed: {type(error).__name__}: {one_line(error)}"
        raise RunError(problem, ", ".join(names), fix) from None
    return LmEvalResult(
        results={task: _plain(told) for task, told in found["results"].items()},
        versions=found["versions"],
        shots=found["n-shot"],
        samples=found["n-samples"],
        packages={name: importlib.metadata.version(name) for name in ("lm-eval", "mlx-lm")},
    )


def _plain(told: Json) -> dict[str, str | int | float]:
    """Figures and names; what is no number in JSON is left out."""
    kept = {}
    for key, value in told.items():
        if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
            kept[key] = value
        elif hasattr(value, "item"):
            kept[key] = value.item()
    return kept
