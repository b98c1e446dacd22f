"""The items file: the requests of tasks with their answers, one row an item, and what people are
told before they are asked."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.evaluation.requests import TaskRequests
from mlxprune.evaluation.task_metrics import TASK_METRIC_VERSION, item_outcomes
from mlxprune.execution.context import Execution
from mlxprune.files import PARTIAL, finish_file, write_atomic
from mlxprune.units import duration


def requests_sentence(requests: TaskRequests, seconds: float) -> str:
    """``32 tasks, 3,184 items, 2.1M tokens: about 2 min 10 s``."""
    shared = requests.whole / requests.inputs if requests.inputs else 1.0
    more = f" ({shared:.1f}x without sharing)" if shared > 1.05 else ""
    count = "1 task" if len(requests.asked) == 1 else f"{len(requests.asked)} tasks"
    items = f"{len(requests.gold):,} items, {requests.inputs:,} tokens{more}"
    return f"{count}, {items}: about {duration(seconds)}"


def warn_of_bad_lines(execution: Execution, requests: TaskRequests) -> None:
    """Warn of what is no item, of answers that do not fit, and of tasks whose file is not there."""
    for asked in requests.asked:
        label = asked.task.label
        reasons = Counter(reason for _, reason, _ in asked.found.bad)
        for reason, count in sorted(reasons.items()):
            what = "1 line is no item" if count == 1 else f"{count:,} lines are no items"
            execution.warn("evaluation", f"{label}: {what}: {reason} (bad-lines.jsonl)")
        if asked.left_out:
            what = f"the answers of {len(asked.left_out):,} items do not fit the model's context"
            execution.warn("evaluation", f"{label}: {what}: left out")
    for label, why in requests.absent.items():
        execution.warn("evaluation", f"{label} is left out: {why}")


def write_items(requests: TaskRequests, answers: np.ndarray, path: Path) -> None:
    """One row an item: where it stands, what was right, what the model chose, and the negative
    log-likelihood in nats, tokens and bytes of every choice. Nothing is rounded."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    outcomes = item_outcomes(requests, answers)
    labels = [asked.task.label for asked in requests.asked]
    counts = [asked.stop - asked.first for asked in requests.asked]
    task = pa.DictionaryArray.from_arrays(
        pa.array(np.repeat(np.arange(len(labels), dtype=np.int32), counts)), pa.array(labels)
    )
    offsets = pa.array(requests.offsets.astype(np.int32))

    def lists(values: np.ndarray) -> Any:
        return pa.ListArray.from_arrays(offsets, pa.array(values))

    table = pa.table(
        {
            "task": task,
            "row": pa.array([row for asked in requests.asked for row in asked.rows], pa.int64()),
            "group": pa.array(requests.group),
            "gold": pa.array(requests.gold),
            "prediction": pa.array(outcomes.prediction),
            "correct": pa.array(outcomes.correct),
            "nll": lists(answers["nll"]),
            "greedy": lists(answers["hit"]),
            "num_tokens": lists(requests.tokens),
            "num_bytes": lists(requests.bytes),
        }
    ).replace_schema_metadata({"metric_version": str(TASK_METRIC_VERSION)})
    partial = path.with_name(path.name + PARTIAL)
    pq.write_table(table, partial)
    finish_file(partial, path)


def write_bad_lines(requests: TaskRequests, path: Path) -> None:
    """Every line that is no item: file, row, reason, how it begins."""
    rows = [
        {"file": str(asked.task.path), "row": row, "reason": reason, "start": start}
        for asked in requests.asked
        for row, reason, start in asked.found.bad
    ]
    if rows:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomic(path, lines)
    else:
        path.unlink(missing_ok=True)
