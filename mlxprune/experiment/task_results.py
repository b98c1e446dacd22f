"""Task results: the arms of a study asked the same items, together and two by two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from mlxprune.evaluation.task_metrics import (
    MeanResult,
    SuiteResult,
    TaskResult,
    above_guessing,
    averaged_categories,
    mean_of,
)
from mlxprune.experiment.records import ContaminationRecord, read_evaluation
from mlxprune.records import Json, SparseRecord, read_record
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import is_current
from mlxprune.stats import GroupedMean, equal_groups, ratio_with_error, share_with_interval
from mlxprune.units import LN2


@dataclass(frozen=True)
class ItemAnswers:
    """The answers of one arm and seed, [items] each, and what its tasks are."""

    labels: list[str]
    task: np.ndarray  # int64, which label
    row: np.ndarray
    group: np.ndarray
    correct: np.ndarray  # bool
    gold_nll: np.ndarray  # float64, nats
    gold_bytes: np.ndarray
    result: SuiteResult


def read_answers(run: RunFolder, name: str) -> ItemAnswers | None:
    """None for an arm that was asked nothing."""
    import pyarrow.parquet as pq

    path = run.evaluation(name)
    result = read_evaluation(run, name).tasks
    if result is None:
        return None
    table = pq.read_table(path.with_name(str(result.items_file)))
    task = table.column("task").combine_chunks()
    gold = table.column("gold").to_numpy()

    def of_gold(column: str) -> np.ndarray:
        lists = table.column(column).combine_chunks()
        at = lists.offsets.to_numpy()[:-1] + gold
        return np.asarray(lists.values)[at]

    return ItemAnswers(
        task.dictionary.to_pylist(),
        task.indices.to_numpy().astype(np.int64),
        table.column("row").to_numpy(),
        table.column("group").to_numpy(),
        table.column("correct").to_numpy(),
        of_gold("nll"),
        of_gold("num_bytes"),
        result,
    )


def gold_bits_parts(answers: ItemAnswers) -> tuple[np.ndarray, GroupedMean]:
    """Bits of every right answer; their mean a byte in each task, tasks alike."""
    return answers.gold_nll / LN2, equal_groups(answers.gold_bytes, answers.task)


def accuracy_parts(answers: ItemAnswers) -> tuple[np.ndarray, GroupedMean]:
    """What every item adds to the average of the normalised accuracies, and its weights.

    The plain mean over a task is its accuracy over one minus the baseline, so the difference of two
    arms is that of their averages.
    """
    tasks, categories = answers.result.tasks, answers.result.categories
    values = np.zeros(len(answers.task))
    weights = np.zeros(len(answers.labels))
    counted = averaged_categories(list(categories))
    for code, label in enumerate(answers.labels):
        mine = answers.task == code
        # Categories inside a task count alike, however many items of each there are.
        each = np.bincount(answers.group[mine])
        share = mine.sum() / ((each > 0).sum() * each[answers.group[mine]])
        values[mine] = answers.correct[mine] * share / (1 - tasks[label].baseline)
        category = tasks[label].category
        if category in counted:
            weights[code] = 1 / len(counted) / len(categories[category].tasks)
    return values, GroupedMean(np.ones(len(answers.task)), answers.task, weights)


def only_items(answers: ItemAnswers, keep: np.ndarray) -> ItemAnswers:
    """Some of the items."""
    fields = ("task", "row", "group", "correct", "gold_nll", "gold_bytes")
    return replace(answers, **{name: getattr(answers, name)[keep] for name in fields})


def same_items(one: ItemAnswers, other: ItemAnswers) -> bool:
    """Whether two arms were asked the same items in one order."""
    return (
        one.labels == other.labels
        and np.array_equal(one.task, other.task)
        and np.array_equal(one.row, other.row)
    )


def clean_items(answers: ItemAnswers, contaminated: dict[str, dict[str, list[int]]]) -> np.ndarray:
    """bool [items]: those that stand in the documents of no arm, so that all are asked the same."""
    clean = np.ones(len(answers.task), bool)
    for code, label in enumerate(answers.labels):
        rows = sorted({row for found in contaminated.values() for row in found.get(label, [])})
        clean[(answers.task == code) & np.isin(answers.row, rows)] = False
    return clean


def contaminated_rows(run: RunFolder) -> dict[str, dict[str, list[int]]] | None:
    """Of every arm, the rows of each task that stand in its documents; None if nobody looked."""
    record = read_contamination(run)
    return None if record is None else record.arms


def read_contamination(run: RunFolder) -> ContaminationRecord | None:
    place = run.evaluation("contamination")
    return read_record(place, ContaminationRecord) if is_current(run, place) else None


# --- the arms together ------------------------------------------------------------------------


class MeanFigures(SparseRecord):
    """Figures of a task, a category or the average, means over an arm's seeds."""

    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    normalised_accuracy: float | None = None
    normalised_low: float | None = None
    normalised_high: float | None = None
    normalised_one_answer: float | None = None
    gold_bpb: float | None = None
    margin: float | None = None


class ArmCategory(MeanFigures, kw_only=True):
    tasks: list[str]


class ArmTask(MeanFigures, kw_only=True):
    """A task as an arm answers it. What is ``clean`` stands in the documents of no arm."""

    category: str
    kind: str | None
    shots: int
    items: int
    of: int
    cut: int
    left_out: list[int]
    bad_lines: dict[str, int]
    baseline: float
    traps: list[str]
    contaminated: float | None = None  # items in the arm's documents, mean over seeds
    clean_items: int | None = None
    clean_accuracy: float | UnsetType | None = UNSET
    clean_gold_bpb: float | UnsetType | None = UNSET


class ArmTasks(SparseRecord):
    """What an arm answered, as means over its seeds."""

    seeds: int
    average: MeanFigures
    gold_bpb: float | None
    categories: dict[str, ArmCategory]
    tasks: dict[str, ArmTask]
    contaminated: float | None = None
    clean_items: int | None = None
    clean_average: float | UnsetType | None = UNSET


class TaskStanding(SparseRecord):
    """Every arm that was asked the tasks."""

    arms: dict[str, ArmTasks]
    absent: dict[str, str]
    suite: str
    common: int | None = None  # items that share only phrases with documents


def task_standing(run: RunFolder, arms: dict[str, dict[int, str]]) -> TaskStanding | None:
    """``arms`` names the evaluations of each arm by seed."""
    contamination = read_contamination(run)
    rows = None if contamination is None else contamination.arms
    standing: dict[str, ArmTasks] = {}
    first: SuiteResult | None = None
    for arm, seeds in arms.items():
        answers = {name: a for name in seeds.values() if (a := read_answers(run, name))}
        if answers:
            first = first or next(iter(answers.values())).result
            standing[arm] = _of_arm(answers, rows)
    if first is None:
        return None
    return TaskStanding(
        arms=standing,
        absent=first.absent,
        suite=first.suite,
        common=None if contamination is None else sum(map(len, contamination.common.values())),
    )


def _of_arm(
    answers: dict[str, ItemAnswers], rows: dict[str, dict[str, list[int]]] | None
) -> ArmTasks:
    results = [a.result for a in answers.values()]
    first = results[0]
    tasks = {label: _of_task([r.tasks[label] for r in results]) for label in first.tasks}
    arm = ArmTasks(
        seeds=len(answers),
        average=MeanFigures(**_means([r.average for r in results])),
        gold_bpb=mean_of([r.gold_bpb for r in results]),
        categories={
            name: ArmCategory(**_means([r.categories[name] for r in results]), tasks=category.tasks)
            for name, category in first.categories.items()
        },
        tasks=tasks,
    )
    return arm if rows is None else _with_clean(arm, answers, rows)


def _with_clean(
    arm: ArmTasks, answers: dict[str, ItemAnswers], rows: dict[str, dict[str, list[int]]]
) -> ArmTasks:
    """With what of each task an arm has seen, and its figures without what any arm has seen."""
    each = list(answers.values())
    clean = clean_items(each[0], rows)
    tasks = dict(arm.tasks)
    for code, label in enumerate(each[0].labels):
        some = (each[0].task == code) & clean
        accuracy: float | None = None
        bits: float | None = None
        if some.any():
            shares = [share_with_interval(a.correct[some], a.group[some])[0] for a in each]
            ratios = [ratio_with_error(a.gold_nll[some] / LN2, a.gold_bytes[some])[0] for a in each]
            accuracy, bits = float(np.mean(shares)), float(np.mean(ratios))
        seen = [len(rows.get(name, {}).get(label, [])) for name in answers]
        tasks[label] = msgspec.structs.replace(
            tasks[label],
            contaminated=float(np.mean(seen)),
            clean_items=int(some.sum()),
            clean_accuracy=accuracy,
            clean_gold_bpb=bits,
        )
    averages = [_average(a, clean) for a in each]
    known = None if averages[0] is None else float(np.mean([a or 0 for a in averages]))
    seen = [sum(map(len, rows.get(name, {}).values())) for name in answers]
    return msgspec.structs.replace(
        arm,
        tasks=tasks,
        contaminated=float(np.mean(seen)),
        clean_items=int(clean.sum()),
        clean_average=known,
    )


def _average(answers: ItemAnswers, keep: np.ndarray) -> float | None:
    """The average of the normalised accuracies on some of the items."""
    categories = answers.result.categories
    means = []
    for name in averaged_categories(list(categories)):
        values = []
        for label in categories[name].tasks:
            mine = keep & (answers.task == answers.labels.index(label))
            if mine.any():
                accuracy = share_with_interval(answers.correct[mine], answers.group[mine])[0]
                values.append(above_guessing(accuracy, answers.result.tasks[label].baseline))
        if values:
            means.append(float(np.mean(values)))
    return float(np.mean(means)) if means else None


def _of_task(results: list[TaskResult]) -> ArmTask:
    first = results[0]
    fields: Json = {
        name: getattr(first, name)
        for name in ArmTask.__struct_fields__
        if name not in MeanFigures.__struct_fields__ and hasattr(first, name)
    }
    fields |= _means(results)
    fields["normalised_one_answer"] = first.normalised_one_answer
    return ArmTask(**fields)


def _means(results: Sequence[TaskResult | MeanResult]) -> dict[str, float]:
    """The means of the figures that these results have."""
    return {
        name: mean_of([getattr(result, name) for result in results])
        for name in MeanFigures.__struct_fields__
        if getattr(results[0], name, None) is not None
    }
