"""Scoreboard: what the report shows of the tasks, of the target text, and of who learns what."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxprune.evaluation.task_metrics import categories_in_order
from mlxprune.report import figures


def task_facts(found: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """For the arms ``names``: the table and picture of the categories, the tasks, deciles."""
    shown: dict[str, Any] = {"task_board": None, "decile_picture": None, "target_rows": {}}
    told = {name: found["budgets"][name] for name in names if name in found["budgets"]}
    shown["budget_picture"] = figures.budgets(told) if told else None
    return shown | _tasks(found, names) | _deciles(found, names) | _target(found, names)


def _tasks(found: dict[str, Any], names: list[str]) -> dict[str, Any]:
    told = found.get("tasks")
    if not told:
        return {}
    arms = {name: told["arms"][name] for name in names if name in told["arms"]}
    first = next(iter(arms.values()))
    categories = [name for name, _ in categories_in_order(first["categories"])]
    rows = [
        (name.replace("_", " "), [a["categories"][name] for a in arms.values()])
        for name in categories
    ]
    rows.append(("average", [a["average"] for a in arms.values()]))
    labels = [label for name in categories for label in first["categories"][name]["tasks"]]
    return {
        "task_board": {
            "arms": list(arms),
            "rows": rows,
            "gold_bpb": [a["gold_bpb"] for a in arms.values()],
            "picture": figures.marks(categories, {n: a["categories"] for n, a in arms.items()}),
            "tasks": [
                (label.removeprefix("bigbench_"), first["tasks"][label],
                 [a["tasks"][label] for a in arms.values()])
                for label in labels
            ],
            "traps": [
                (label, trap) for label in labels for trap in first["tasks"][label]["traps"]
            ],
            "absent": told["absent"],
            "common": told.get("common", 0),
            "lost": [(label, what) for label in labels if (what := _lost(first["tasks"][label]))],
            "contaminated": [
                (label, first["tasks"][label]["items"],
                 [a["tasks"][label]["contaminated"] for a in arms.values()])
                for label in labels
                if any(a["tasks"][label].get("contaminated") for a in arms.values())
            ] if "contaminated" in first else None,
            "clean": [(a.get("clean_items"), a.get("clean_average")) for a in arms.values()],
            "items": sum(t["items"] for t in first["tasks"].values()),
            "cut": sum(t["cut"] for t in first["tasks"].values()),
        }
    }  # fmt: skip


def _lost(told: dict[str, Any]) -> str:
    """What of a task's file was not asked, and not for want of a limit."""
    bad, left_out = sum(told["bad_lines"].values()), len(told["left_out"])
    parts = [f"{bad:,} bad lines"] if bad else []
    parts += [f"{left_out:,} answers that do not fit"] if left_out else []
    return ", ".join(parts)


def _deciles(found: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Means over seeds, against the random arm of each, or the first one."""
    rows: dict[str, list[float | None]] = {}
    for name in names:
        tests = [s["test"]["deciles"] for s in found["arms"][name]["seeds"].values() if "test" in s]
        if tests and all(bits is not None for test in tests for bits in test):
            rows[name] = [float(b) for b in np.mean(np.array(tests, float), axis=0)]
    control = next((n for n in rows if found["arms"][n]["kind"] == "random"), None)
    if control is None or len(rows) < 2:
        return {}
    return {"decile_picture": figures.deciles(rows, control)}


def _target(found: dict[str, Any], names: list[str]) -> dict[str, Any]:
    rows: dict[str, dict[str, float]] = {}
    for name in names:
        tests = [
            s["test"]["target"]
            for s in found["arms"][name]["seeds"].values()
            if "target" in s.get("test", {})
        ]
        for test in tests:
            for domain, bits in [*test["domains"].items(), ("plain mean", test["macro"])]:
                row = rows.setdefault(domain, {})
                row[name] = row.get(name, 0.0) + bits / len(tests)
    return {"target_rows": rows}
