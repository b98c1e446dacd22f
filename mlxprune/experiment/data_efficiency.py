"""Data efficiency: how an arm's figures grow with its targets, from ends that are all decayed."""

from __future__ import annotations

import math

import numpy as np

from mlxprune.evaluation.task_metrics import mean_of
from mlxprune.experiment.records import ArmEvaluation, StudyArms, read_evaluation
from mlxprune.records import Record
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import is_current


class BudgetPoint(Record):
    """The figures of an arm at so many targets, as means over its seeds."""

    targets: int
    seeds: int
    macro: float
    gold_bpb: float | None  # None without tasks, as the next
    accuracy: float | None
    primary: float | None


class Rho(Record):
    """The share of the control's targets at which the arm reaches the control's final figure.

    Interpolated in log targets between two ends (bound ""), or the first end when that is already
    as good (bound "<="), or 1 where it is not reached (bound ">=").
    """

    share: float
    bound: str

    def __str__(self) -> str:
        """``0.83`` or ``>= 1.00``."""
        return f"{self.bound} {self.share:.2f}".strip()


def budget_points(run: RunFolder, primary: str, arms: StudyArms) -> dict[str, list[BudgetPoint]]:
    """Of every arm that has branches, by targets."""
    by_arm: dict[str, dict[int, list[ArmEvaluation]]] = {}
    for name, record in arms.arms.items():
        ends = {**record.branches, name: record.targets} if record.branches else {}
        for end, targets in ends.items():
            if is_current(run, run.evaluation(end)):
                evaluation = read_evaluation(run, end)
                by_arm.setdefault(record.arm, {}).setdefault(targets, []).append(evaluation)
    return {
        arm: [_point(targets, of, primary) for targets, of in sorted(ends.items())]
        for arm, ends in by_arm.items()
    }


def _point(targets: int, evaluations: list[ArmEvaluation], primary: str) -> BudgetPoint:
    macro = float(np.mean([e.macro for e in evaluations]))
    suites = [e.tasks for e in evaluations if e.tasks is not None]
    aims = [e.target.macro for e in evaluations if e.target is not None]
    gold = mean_of([s.gold_bpb for s in suites]) if suites else None
    figures = {"macro": macro, "tasks": gold, "target": float(np.mean(aims)) if aims else None}
    return BudgetPoint(
        targets=targets,
        seeds=len(evaluations),
        macro=macro,
        gold_bpb=gold,
        accuracy=mean_of([s.average.normalised_accuracy for s in suites]) if suites else None,
        primary=figures[primary],
    )


def rho(arm: list[BudgetPoint], control: list[BudgetPoint]) -> Rho:
    """See ``Rho``; points by their targets, the shortest first."""
    aim, whole = _primary(control[-1]), control[-1].targets
    before: BudgetPoint | None = None
    for point in arm:
        if _primary(point) <= aim:
            if before is None:
                return Rho(share=point.targets / whole, bound="<=")
            drop = _primary(before) - _primary(point)
            part = (_primary(before) - aim) / drop if drop else 1.0
            low, high = math.log(before.targets), math.log(point.targets)
            return Rho(share=math.exp(low + part * (high - low)) / whole, bound="")
        before = point
    return Rho(share=1.0, bound=">=")


def _primary(point: BudgetPoint) -> float:
    return math.nan if point.primary is None else point.primary
