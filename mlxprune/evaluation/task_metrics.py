"""What answers to the requests of tasks are worth, per item, task and category.

Accuracy as the paper has it: language modelling is right when every token of the answer is the most
likely one, a choice when its mean NLL a token is the lowest (of equals the first). A task whose
categories count alike is their plain mean. Normalised: (accuracy - baseline) / (1 - baseline); a
category is the plain mean of its tasks, the average that of the five categories.

Beside it stands what moves long before accuracy does: bits per byte of the right answer, and the
margin, how many more the others take.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np

from mlxprune.config.task_suite import suite_categories, suite_facts
from mlxprune.evaluation.requests import AskedTask, TaskRequests
from mlxprune.evaluation.tasks import TaskItems, choices_of
from mlxprune.records import Record, SparseRecord
from mlxprune.stats import ratio_with_error, share_with_interval
from mlxprune.units import LN2

TASK_METRIC_VERSION = 1
ONE_ANSWER = 0.1  # normalised accuracy of one answer to all, from which a task is marked
FEW_ITEMS = 150
T = TypeVar("T")


@dataclass(frozen=True)
class ItemOutcomes:
    """What every item came to, in the order of the requests, [items] each."""

    prediction: np.ndarray  # int64, which choice
    correct: np.ndarray  # bool
    gold_nll: np.ndarray  # float64, nats
    gold_bytes: np.ndarray  # int64
    margin: np.ndarray  # float64, bits per byte; NaN where there is no other choice


def item_outcomes(requests: TaskRequests, answers: np.ndarray) -> ItemOutcomes:
    """``answers`` ANSWER [choices]."""
    first, stop = requests.offsets[:-1], requests.offsets[1:]
    gold = first + requests.gold
    count = stop - first
    item_of = np.repeat(np.arange(len(gold)), count)
    mean = answers["nll"] / requests.tokens
    # Not a number is never the lowest: a broken model is wrong, not lucky.
    mean = np.where(np.isnan(mean), np.inf, mean)
    lowest = np.minimum.reduceat(mean, first) if len(gold) else mean
    is_lowest = np.flatnonzero(mean == lowest[item_of])
    prediction = np.zeros(len(gold), np.int64)
    prediction[item_of[is_lowest[::-1]]] = is_lowest[::-1]
    prediction -= first
    broken = ~np.isfinite(lowest)
    correct = np.where(count == 1, answers["hit"][gold], prediction == requests.gold) & ~broken
    bits = answers["nll"] / (LN2 * requests.bytes)
    total = np.add.reduceat(bits, first) if len(gold) else bits
    with np.errstate(invalid="ignore", divide="ignore"):
        margin = np.where(count > 1, (total - bits[gold]) / (count - 1) - bits[gold], np.nan)
    return ItemOutcomes(prediction, correct, answers["nll"][gold], requests.bytes[gold], margin)


class TaskResult(Record):
    """A task: what was asked of it, how often the answer was right, and how likely it was.

    ``low`` and ``high`` are 95 % intervals over items; ``normalised_`` figures are 0 for guessing
    and 1 for all right; ``one_answer`` is the best accuracy of a model that says the same to every
    item.
    """

    category: str
    kind: str | None
    shots: int
    items: int  # asked
    of: int  # in the file
    cut: int  # whose context lost its beginning
    left_out: list[int]  # rows whose answer does not fit the model's context
    bad_lines: dict[str, int]  # by reason
    baseline: float  # the accuracy of guessing
    accuracy: float
    low: float
    high: float
    normalised_accuracy: float
    normalised_low: float
    normalised_high: float
    one_answer: float
    normalised_one_answer: float
    gold_bpb: float | None  # bits per byte of the right answers
    gold_bpb_error: float | None
    margin: float | None  # bits per byte that the other answers take more
    margin_error: float | None
    traps: list[str]  # what makes the accuracy say less than it seems to


class MeanResult(SparseRecord):
    """The plain mean of tasks or of categories."""

    normalised_accuracy: float
    normalised_low: float
    normalised_high: float
    normalised_one_answer: float
    gold_bpb: float | None
    gold_bpb_error: float | None
    margin: float | None


class CategoryResult(MeanResult):
    tasks: list[str]
    absent: list[str]  # tasks of the suite whose file is not there


class SuiteResult(SparseRecord):
    """All tasks that a model was asked."""

    metric_version: int
    suite: str
    tasks: dict[str, TaskResult]
    categories: dict[str, CategoryResult]
    average: MeanResult
    average_over: int  # categories
    gold_bpb: float | None  # the plain mean over tasks
    absent: dict[str, str]  # task: why
    items_file: str | None = None  # one row an item, beside it


def suite_result(requests: TaskRequests, answers: np.ndarray) -> SuiteResult:
    """The results of tasks, categories and averages, and what was left out."""
    items = item_outcomes(requests, answers)
    results = {a.task.label: task_result(requests, a, items) for a in requests.asked}
    names = dict.fromkeys([*suite_categories(), *(t.category for t in results.values())])
    tasks_of_suite = suite_facts()["tasks"]
    categories: dict[str, CategoryResult] = {}
    for name in names:
        mine = {label: result for label, result in results.items() if result.category == name}
        if mine:
            mean = msgspec.structs.asdict(mean_result(list(mine.values())))
            absent = [
                label
                for label in requests.absent
                if tasks_of_suite.get(label, {}).get("category") == name
            ]
            categories[name] = CategoryResult(**mean, tasks=list(mine), absent=absent)
    counted = [categories[name] for name in averaged_categories(list(categories))]
    return SuiteResult(
        metric_version=TASK_METRIC_VERSION,
        suite=suite_facts()["name"],
        tasks=results,
        categories=categories,
        average=mean_result(counted),
        average_over=len(counted),
        gold_bpb=mean_of([result.gold_bpb for result in results.values()]),
        absent=requests.absent,
    )


def mean_of(values: Sequence[float | None]) -> float:
    """The plain mean; JSON has no number for what a broken model gives: None counts as NaN."""
    return float(np.mean([math.nan if value is None else value for value in values]))


def averaged_categories(names: list[str]) -> list[str]:
    """Which categories the average is over: the paper's, or where there is none of them, all."""
    return [name for name in names if name in suite_categories()] or names


def task_result(requests: TaskRequests, asked: AskedTask, items: ItemOutcomes) -> TaskResult:
    task, mine = asked.task, slice(asked.first, asked.stop)
    assert task.baseline is not None
    accuracy, low, high = share_with_interval(items.correct[mine], requests.group[mine])
    constant = one_answer_accuracy(asked.found)
    bits, error = ratio_with_error(items.gold_nll[mine] / LN2, items.gold_bytes[mine])
    margin = items.margin[mine]
    margin = margin[~np.isnan(margin)]
    count, baseline = asked.stop - asked.first, task.baseline
    return TaskResult(
        category=task.category,
        kind=task.kind,
        shots=task.shots,
        items=count,
        of=len(asked.found.items),
        cut=asked.cut,
        left_out=asked.left_out,
        bad_lines=dict(Counter(reason for _, reason, _ in asked.found.bad)),
        baseline=baseline,
        accuracy=accuracy,
        low=low,
        high=high,
        normalised_accuracy=above_guessing(accuracy, baseline),
        normalised_low=above_guessing(low, baseline),
        normalised_high=above_guessing(high, baseline),
        one_answer=constant,
        normalised_one_answer=above_guessing(constant, baseline),
        gold_bpb=bits,
        gold_bpb_error=error,
        margin=float(margin.mean()) if len(margin) else None,
        margin_error=float(margin.std(ddof=1) / math.sqrt(len(margin)))
        if len(margin) > 1
        else None,
        traps=task_traps(asked.found, count, baseline, above_guessing(constant, baseline)),
    )


def above_guessing(accuracy: float, baseline: float) -> float:
    """0 is guessing, 1 is everything; below guessing is negative, as in the paper."""
    return (accuracy - baseline) / (1 - baseline)


def one_answer_accuracy(task_items: TaskItems) -> float:
    """The best accuracy of a model that says the same to every item: one text, or one place."""
    answers = [choices_of(item)[item.gold] for item in task_items.items]
    choices = len(choices_of(task_items.items[0])) > 1
    said: list[Any] = [answer if task_items.task.kind != "schema" else c for c, answer in answers]
    places: list[Any] = [item.gold for item in task_items.items]
    groups = [item.group for item in task_items.items]
    each = Counter(groups)
    best = 0.0
    for column in (said, places) if choices else (said,):
        weights: dict[Any, float] = {}
        for value, group in zip(column, groups, strict=True):
            weights[value] = weights.get(value, 0.0) + 1 / each[group]
        best = max(best, max(weights.values()) / len(each))
    return best


def task_traps(
    task_items: TaskItems, asked: int, baseline: float, normalised_one_answer: float
) -> list[str]:
    """What makes the accuracy of a task say less than it seems to; ``asked`` of its items are."""
    notes = []
    golds = {item.gold for item in task_items.items}
    choices = len(choices_of(task_items.items[0])) > 1
    if choices and len(golds) == 1:
        notes.append(
            f"the right choice is always number {golds.pop() + 1}: a model that finds all alike "
            "scores 100"
        )
    elif normalised_one_answer >= ONE_ANSWER:
        notes.append(f"one answer to all scores {100 * normalised_one_answer:.1f}")
    if len(task_items.items) < FEW_ITEMS:
        point = 100 / asked / (1 - baseline)
        some = "" if asked == len(task_items.items) else f", {asked} asked"
        notes.append(f"{len(task_items.items)} items{some}: one is {point:.1f} points")
    return notes


def mean_result(results: Sequence[TaskResult | MeanResult]) -> MeanResult:
    """The plain mean of tasks or of categories; errors add up in squares."""
    count = len(results)
    accuracy = float(np.mean([r.normalised_accuracy for r in results]))
    margins = [r.margin for r in results if r.margin is not None]
    ends = []
    for name, sign in (("normalised_low", -1), ("normalised_high", 1)):
        # Wilson's intervals are not symmetric.
        squares = sum((getattr(r, name) - r.normalised_accuracy) ** 2 for r in results)
        ends.append(min(1.0, accuracy + sign * math.sqrt(squares) / count))
    errors = [r.gold_bpb_error or 0.0 for r in results]
    return MeanResult(
        normalised_accuracy=accuracy,
        normalised_low=ends[0],
        normalised_high=ends[1],
        normalised_one_answer=float(np.mean([r.normalised_one_answer for r in results])),
        gold_bpb=mean_of([r.gold_bpb for r in results]),
        gold_bpb_error=math.sqrt(sum(e**2 for e in errors)) / count,
        margin=float(np.mean(margins)) if margins else None,
    )


def categories_in_order(categories: dict[str, T]) -> list[tuple[str, T]]:
    """Categories as the paper lists them, own ones last."""
    names = dict.fromkeys([*suite_categories(), *categories])
    return [(name, categories[name]) for name in names if name in categories]
