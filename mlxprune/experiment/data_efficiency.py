"""Budgets: how an arm's figures grow with its targets, from ends that are all decayed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlxprune.files import read_json
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import is_current


def budget_points(
    run: RunFolder, primary: str, planned: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """Of every arm that has branches, by targets: the figures as means over its seeds.

    {targets, seeds, primary, macro, gold_bpb, accuracy}; the last two None without tasks.
    """
    found: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for name, facts in planned["arms"].items():
        branches = facts.get("branches") or {}
        ends = {**branches, name: facts["targets"]} if branches else {}
        for end, targets in ends.items():
            if is_current(run, run.evaluation(end)):
                told = read_json(run.evaluation(end))
                found.setdefault(facts["arm"], {}).setdefault(targets, []).append(told)
    return {
        arm: [_point(targets, told, primary) for targets, told in sorted(ends.items())]
        for arm, ends in found.items()
    }


def _point(targets: int, told: list[dict[str, Any]], primary: str) -> dict[str, Any]:
    marks = [t["tasks"] for t in told if "tasks" in t]
    point: dict[str, Any] = {
        "targets": targets,
        "seeds": len(told),
        "macro": float(np.mean([t["macro"] for t in told])),
        "gold_bpb": float(np.mean([m["gold_bpb"] for m in marks])) if marks else None,
        "accuracy": None,
    }
    if marks:
        averages = [m["average"]["normalised_accuracy"] for m in marks]
        point["accuracy"] = float(np.mean(averages))
    point["primary"] = {
        "macro": point["macro"],
        "tasks": point["gold_bpb"],
        "target": float(np.mean([t["target"]["macro"] for t in told]))
        if "target" in told[0]
        else None,
    }[primary]
    return point


def rho(arm: list[dict[str, Any]], control: list[dict[str, Any]]) -> dict[str, Any]:
    """The share of the control's targets at which the arm reaches the control's final figure.

    {share, bound}: interpolated in log targets between two ends (bound ""), or the first end when
    that is already as good (bound "<="), or 1 where it is not reached (bound ">=").
    """
    aim, whole = control[-1]["primary"], control[-1]["targets"]
    before = None
    for point in arm:
        if point["primary"] <= aim:
            if before is None:
                return {"share": point["targets"] / whole, "bound": "<="}
            drop = before["primary"] - point["primary"]
            part = (before["primary"] - aim) / drop if drop else 1.0
            low, high = math.log(before["targets"]), math.log(point["targets"])
            return {"share": math.exp(low + part * (high - low)) / whole, "bound": ""}
        before = point
    return {"share": 1.0, "bound": ">="}


def rho_sentence(found: dict[str, Any]) -> str:
    """``0.83`` or ``>= 1.00``."""
    return f"{found['bound']} {found['share']:.2f}".strip()
