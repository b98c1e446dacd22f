"""What the report shows of the tasks, of the target text, and of who learns what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import UnsetType

from mlxprune.evaluation.task_metrics import categories_in_order
from mlxprune.experiment.study_result import StudyResult
from mlxprune.experiment.task_results import ArmTask, MeanFigures
from mlxprune.report import figures


@dataclass(frozen=True)
class TaskBoard:
    """The tasks of a report: of every row a cell an arm, in the order of ``arms``."""

    arms: list[str]
    rows: list[tuple[str, list[MeanFigures]]]  # categories, then their average
    gold_bpb: list[float | None]
    picture: Any
    tasks: list[tuple[str, ArmTask, list[ArmTask]]]  # name, the first arm's, every arm's
    traps: list[tuple[str, str]]
    absent: dict[str, str]
    common: int  # items that share only phrases with documents
    lost: list[tuple[str, str]]  # what of a task's file was not asked
    contaminated: list[tuple[str, int, list[float | None]]] | None  # name, items, those seen
    clean: list[tuple[int | None, float | None]]  # items, average
    asked: int
    cut: int


def kinds_of(result: StudyResult) -> dict[str, str]:
    """Of every arm its kind, which its line and colour stand for."""
    return {name: arm.kind for name, arm in result.arms.items()}


def budget_picture(result: StudyResult, names: list[str]) -> Any:
    budgets = {name: result.budgets[name] for name in names if name in result.budgets}
    return figures.budgets(budgets, kinds_of(result)) if budgets else None


def task_board(result: StudyResult, names: list[str]) -> TaskBoard | None:
    """Of the arms ``names``; None where none was asked a task."""
    standing = result.tasks
    if standing is None:
        return None
    arms = {name: standing.arms[name] for name in names if name in standing.arms}
    first = next(iter(arms.values()))
    categories = [name for name, _ in categories_in_order(first.categories)]
    labels = [label for name in categories for label in first.categories[name].tasks]
    rows: list[tuple[str, list[MeanFigures]]] = [
        (name.replace("_", " "), [a.categories[name] for a in arms.values()]) for name in categories
    ]
    contaminated = [
        (label, first.tasks[label].items, [a.tasks[label].contaminated for a in arms.values()])
        for label in labels
        if any(a.tasks[label].contaminated for a in arms.values())
    ]
    return TaskBoard(
        arms=list(arms),
        rows=[*rows, ("average", [a.average for a in arms.values()])],
        gold_bpb=[a.gold_bpb for a in arms.values()],
        picture=figures.normalised_accuracies(
            categories, {n: {**a.categories} for n, a in arms.items()}, kinds_of(result)
        ),
        tasks=[
            (
                label.removeprefix("bigbench_"),
                first.tasks[label],
                [a.tasks[label] for a in arms.values()],
            )
            for label in labels
        ],
        traps=[(label, trap) for label in labels for trap in first.tasks[label].traps],
        absent=standing.absent,
        common=standing.common or 0,
        lost=[(label, what) for label in labels if (what := _lost(first.tasks[label]))],
        contaminated=None if first.contaminated is None else contaminated,
        clean=[(a.clean_items, _known(a.clean_average)) for a in arms.values()],
        asked=sum(t.items for t in first.tasks.values()),
        cut=sum(t.cut for t in first.tasks.values()),
    )


def _known(average: float | UnsetType | None) -> float | None:
    return None if isinstance(average, UnsetType) else average


def _lost(task: ArmTask) -> str:
    """What of a task's file was not asked, and not for want of a limit."""
    bad, left_out = sum(task.bad_lines.values()), len(task.left_out)
    parts = [f"{bad:,} bad lines"] if bad else []
    parts += [f"{left_out:,} answers that do not fit"] if left_out else []
    return ", ".join(parts)


def decile_picture(result: StudyResult, names: list[str]) -> Any:
    """Means over seeds, against the random arm of each, or the first one."""
    rows: dict[str, list[float]] = {}
    for name in names:
        tests = [test.deciles for test in result.arms[name].tests]
        if tests and all(bits is not None for test in tests for bits in test):
            rows[name] = [float(b) for b in np.mean(np.array(tests, float), axis=0)]
    control = next((n for n in rows if result.arms[n].kind == "random"), None)
    if control is None or len(rows) < 2:
        return None
    return figures.deciles(rows, control, kinds_of(result))


def target_rows(result: StudyResult, names: list[str]) -> dict[str, dict[str, float]]:
    """Bits per byte on the target text by domain and arm, and their plain mean."""
    rows: dict[str, dict[str, float]] = {}
    for name in names:
        targets = [test.target for test in result.arms[name].tests if test.target is not None]
        for target in targets:
            for domain, bits in [*target.domains.items(), ("plain mean", target.macro)]:
                row = rows.setdefault(domain, {})
                row[name] = row.get(name, 0.0) + bits / len(targets)
    return rows
