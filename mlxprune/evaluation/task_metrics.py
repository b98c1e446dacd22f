"""Marks: what the answers to an exam are worth, per item, task and category.

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
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxprune.config.task_suite import suite_categories, suite_facts
from mlxprune.evaluation.requests import AskedTask, TaskRequests
from mlxprune.evaluation.tasks import TaskItems, choices_of
from mlxprune.stats import ratio_with_error, share_with_interval
from mlxprune.units import LN2

TASK_METRIC_VERSION = 1
ONE_ANSWER = 0.1  # normalised accuracy of one answer to all, from which a task is marked
FEW_ITEMS = 150


@dataclass(frozen=True)
class ItemOutcomes:
    """What every item came to, in the order of the exam, [items] each."""

    prediction: np.ndarray  # int64, which choice
    correct: np.ndarray  # bool
    gold_nll: np.ndarray  # float64, nats
    gold_bytes: np.ndarray  # int64
    margin: np.ndarray  # float64, bits per byte; NaN where there is no other choice


def item_outcomes(exam: TaskRequests, answers: np.ndarray) -> ItemOutcomes:
    """``answers`` ANSWER [choices]."""
    first, stop = exam.offsets[:-1], exam.offsets[1:]
    gold = first + exam.gold
    count = stop - first
    of = np.repeat(np.arange(len(gold)), count)
    mean = answers["nll"] / exam.tokens
    # Not a number is never the lowest: a broken model is wrong, not lucky.
    mean = np.where(np.isnan(mean), np.inf, mean)
    lowest = np.minimum.reduceat(mean, first) if len(gold) else mean
    is_lowest = np.flatnonzero(mean == lowest[of])
    prediction = np.zeros(len(gold), np.int64)
    prediction[of[is_lowest[::-1]]] = is_lowest[::-1]
    prediction -= first
    broken = ~np.isfinite(lowest)
    correct = np.where(count == 1, answers["hit"][gold], prediction == exam.gold) & ~broken
    bits = answers["nll"] / (LN2 * exam.bytes)
    total = np.add.reduceat(bits, first) if len(gold) else bits
    with np.errstate(invalid="ignore", divide="ignore"):
        margin = np.where(count > 1, (total - bits[gold]) / (count - 1) - bits[gold], np.nan)
    return ItemOutcomes(prediction, correct, answers["nll"][gold], exam.bytes[gold], margin)


def suite_result(exam: TaskRequests, answers: np.ndarray) -> dict[str, Any]:
    """Everything for people and files: tasks, categories, averages, and what was left out."""
    items = item_outcomes(exam, answers)
    found = {asked.task.label: task_result(exam, asked, items) for asked in exam.asked}
    names = list(dict.fromkeys([*suite_categories(), *(t["category"] for t in found.values())]))
    tasks_of_suite = suite_facts()["tasks"]
    categories: dict[str, Any] = {}
    for name in names:
        mine = {label: told for label, told in found.items() if told["category"] == name}
        if mine:
            categories[name] = _mean(list(mine.values()))
            categories[name]["tasks"] = list(mine)
            categories[name]["absent"] = [
                label
                for label in exam.absent
                if tasks_of_suite.get(label, {}).get("category") == name
            ]
    counted = [categories[name] for name in averaged_categories(list(categories))]
    return {
        "metric_version": TASK_METRIC_VERSION,
        "suite": suite_facts()["name"],
        "tasks": found,
        "categories": categories,
        "average": _mean(counted),
        "average_over": len(counted),
        "gold_bpb": float(np.mean([told["gold_bpb"] for told in found.values()])),
        "absent": exam.absent,
    }


def averaged_categories(names: list[str]) -> list[str]:
    """Which categories the average is over: the paper's, or where there is none of them, all."""
    return [name for name in names if name in suite_categories()] or names


def task_result(exam: TaskRequests, asked: AskedTask, items: ItemOutcomes) -> dict[str, Any]:
    task, mine = asked.task, slice(asked.first, asked.stop)
    assert task.baseline is not None
    told: dict[str, Any] = {
        "category": task.category,
        "kind": task.kind,
        "shots": task.shots,
        "items": asked.stop - asked.first,
        "of": len(asked.found.items),
        "cut": asked.cut,
        "left_out": asked.left_out,
        "bad_lines": dict(Counter(reason for _, reason, _ in asked.found.bad)),
        "baseline": task.baseline,
    }
    accuracy, low, high = share_with_interval(items.correct[mine], exam.group[mine])
    constant = one_answer_accuracy(asked.found)
    for name, value in (("accuracy", accuracy), ("low", low), ("high", high)):
        told[name] = value
        told[f"normalised_{name}"] = above_guessing(value, task.baseline)
    told["one_answer"] = constant
    told["normalised_one_answer"] = above_guessing(constant, task.baseline)
    bits, error = ratio_with_error(items.gold_nll[mine] / LN2, items.gold_bytes[mine])
    told["gold_bpb"], told["gold_bpb_error"] = bits, error
    margin = items.margin[mine]
    margin = margin[~np.isnan(margin)]
    told["margin"] = float(margin.mean()) if len(margin) else None
    told["margin_error"] = (
        float(margin.std(ddof=1) / math.sqrt(len(margin))) if len(margin) > 1 else None
    )
    told["traps"] = task_traps(asked.found, told)
    return told


def above_guessing(accuracy: float, baseline: float) -> float:
    """0 is guessing, 1 is everything; below guessing is negative, as in the paper."""
    return (accuracy - baseline) / (1 - baseline)


def one_answer_accuracy(found: TaskItems) -> float:
    """The best accuracy of a model that says the same to every item: one text, or one place."""
    answers = [choices_of(item)[item.gold] for item in found.items]
    choices = len(choices_of(found.items[0])) > 1
    said: list[Any] = [answer if found.task.kind != "schema" else c for c, answer in answers]
    places: list[Any] = [item.gold for item in found.items]
    groups = [item.group for item in found.items]
    each = Counter(groups)
    best = 0.0
    for column in (said, places) if choices else (said,):
        weights: dict[Any, float] = {}
        for value, group in zip(column, groups, strict=True):
            weights[value] = weights.get(value, 0.0) + 1 / each[group]
        best = max(best, max(weights.values()) / len(each))
    return best


def task_traps(found: TaskItems, told: dict[str, Any]) -> list[str]:
    """What makes the accuracy of a task say less than it seems to."""
    notes = []
    golds = {item.gold for item in found.items}
    choices = len(choices_of(found.items[0])) > 1
    if choices and len(golds) == 1:
        notes.append(
            f"the right choice is always number {golds.pop() + 1}: a model that finds all alike "
            "scores 100"
        )
    elif told["normalised_one_answer"] >= ONE_ANSWER:
        notes.append(f"one answer to all scores {100 * told['normalised_one_answer']:.1f}")
    if len(found.items) < FEW_ITEMS:
        point = 100 / told["items"] / (1 - told["baseline"])
        asked = "" if told["items"] == told["of"] else f", {told['items']} asked"
        notes.append(f"{len(found.items)} items{asked}: one is {point:.1f} points")
    return notes


def _mean(told: list[dict[str, Any]]) -> dict[str, Any]:
    """The plain mean of tasks or of categories; errors add up in squares."""
    count = len(told)
    result: dict[str, Any] = {}
    for name in ("normalised_accuracy", "normalised_one_answer", "gold_bpb"):
        result[name] = float(np.mean([t[name] for t in told]))
    margins = [t["margin"] for t in told if t["margin"] is not None]
    result["margin"] = float(np.mean(margins)) if margins else None
    for end in ("normalised_low", "normalised_high"):  # Wilson's intervals are not symmetric
        squares = sum((t[end] - t["normalised_accuracy"]) ** 2 for t in told)
        sign = -1 if end == "normalised_low" else 1
        result[end] = min(1.0, result["normalised_accuracy"] + sign * math.sqrt(squares) / count)
    errors = [t["gold_bpb_error"] or 0.0 for t in told]
    result["gold_bpb_error"] = math.sqrt(sum(e**2 for e in errors)) / count
    return result


def categories_in_order(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """Categories as the paper lists them, own ones last."""
    names = [*suite_categories(), *found]
    return [(name, found[name]) for name in dict.fromkeys(names) if name in found]
