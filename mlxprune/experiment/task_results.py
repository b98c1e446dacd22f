"""Contest: the arms of a study before the same items, together and two by two."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlxprune.evaluation.task_metrics import above_guessing, averaged_categories
from mlxprune.files import read_json
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
    told: dict[str, Any]  # the marks


def read_answers(run: RunFolder, name: str) -> ItemAnswers | None:
    """None for an arm that was asked nothing."""
    import pyarrow.parquet as pq

    path = run.evaluation(name)
    told = read_json(path).get("tasks")
    if told is None:
        return None
    table = pq.read_table(path.with_name(told["items_file"]))
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
        told,
    )


def gold_bits_parts(sheet: ItemAnswers) -> tuple[np.ndarray, GroupedMean]:
    """Bits of every right answer; their mean a byte in each task, tasks alike."""
    return sheet.gold_nll / LN2, equal_groups(sheet.gold_bytes, sheet.task)


def accuracy_parts(sheet: ItemAnswers) -> tuple[np.ndarray, GroupedMean]:
    """What every item adds to the average of the normalised accuracies, and its weights.

    The plain mean over a task is its accuracy over one minus the baseline, so the difference of two
    arms is that of their averages.
    """
    told = sheet.told["tasks"]
    values = np.zeros(len(sheet.task))
    weights = np.zeros(len(sheet.labels))
    counted = averaged_categories(list(sheet.told["categories"]))
    for code, label in enumerate(sheet.labels):
        mine = sheet.task == code
        # Categories inside a task count alike, however many items of each there are.
        each = np.bincount(sheet.group[mine])
        share = mine.sum() / ((each > 0).sum() * each[sheet.group[mine]])
        values[mine] = sheet.correct[mine] * share / (1 - told[label]["baseline"])
        category = told[label]["category"]
        if category in counted:
            weights[code] = 1 / len(counted) / len(sheet.told["categories"][category]["tasks"])
    return values, GroupedMean(np.ones(len(sheet.task)), sheet.task, weights)


def only_items(sheet: ItemAnswers, keep: np.ndarray) -> ItemAnswers:
    """Some of the items."""
    fields = ("task", "row", "group", "correct", "gold_nll", "gold_bytes")
    return replace(sheet, **{name: getattr(sheet, name)[keep] for name in fields})


def same_items(one: ItemAnswers, other: ItemAnswers) -> bool:
    """Whether two arms were asked the same items in one order."""
    return (
        one.labels == other.labels
        and np.array_equal(one.task, other.task)
        and np.array_equal(one.row, other.row)
    )


def clean_items(sheet: ItemAnswers, contaminated: dict[str, dict[str, list[int]]]) -> np.ndarray:
    """bool [items]: those that stand in the documents of no arm, so that all are asked the same."""
    clean = np.ones(len(sheet.task), bool)
    for code, label in enumerate(sheet.labels):
        rows = sorted({row for found in contaminated.values() for row in found.get(label, [])})
        clean[(sheet.task == code) & np.isin(sheet.row, rows)] = False
    return clean


def contaminated_rows(run: RunFolder) -> dict[str, dict[str, list[int]]] | None:
    """Of every arm, the rows of each task that stand in its documents; None if nobody looked."""
    place = run.evaluation("contamination")
    if not is_current(run, place):
        return None
    found: dict[str, dict[str, list[int]]] = read_json(place)["arms"]
    return found


def task_standing(run: RunFolder, arms: dict[str, dict[int, str]]) -> dict[str, Any] | None:
    """Marks of every arm as means over its seeds: categories, average, tasks, and the same on
    clean items. ``arms`` names the evaluations of each arm by seed."""
    rows = contaminated_rows(run)
    found: dict[str, Any] = {}
    for arm, seeds in arms.items():
        sheets = [(name, sheet) for name in seeds.values() if (sheet := read_answers(run, name))]
        if not sheets:
            continue
        told = [sheet.told for _, sheet in sheets]
        entry: dict[str, Any] = {
            "seeds": len(sheets),
            "average": _mean([t["average"] for t in told]),
            "gold_bpb": float(np.mean([_or_nan(t["gold_bpb"]) for t in told])),
            "categories": {
                name: _mean([t["categories"][name] for t in told])
                | {"tasks": told[0]["categories"][name]["tasks"]}
                for name in told[0]["categories"]
            },
            "tasks": {label: _of_task(label, told) for label in told[0]["tasks"]},
        }
        if rows is not None:
            entry |= _clean(sheets, rows, entry)
        found[arm] = entry
    if not found:
        return None
    first: ItemAnswers = next(
        sheet for s in arms.values() for n in s.values() if (sheet := read_answers(run, n))
    )
    about: dict[str, Any] = {"absent": first.told["absent"], "suite": first.told["suite"]}
    place = run.evaluation("contamination")
    if rows is not None:
        about["common"] = sum(map(len, read_json(place)["common"].values()))
    return {"arms": found, **about}


def _clean(
    sheets: list[tuple[str, ItemAnswers]],
    rows: dict[str, dict[str, list[int]]],
    entry: dict[str, Any],
) -> dict[str, Any]:
    """What of each task an arm has seen, and its marks without what any arm has seen."""
    clean = clean_items(sheets[0][1], rows)
    for code, label in enumerate(sheets[0][1].labels):
        mine = sheets[0][1].task == code
        seen = [len(rows.get(name, {}).get(label, [])) for name, _ in sheets]
        told = entry["tasks"][label]
        told["contaminated"] = float(np.mean(seen))
        told["clean_items"] = int((mine & clean).sum())
        told["clean_accuracy"] = told["clean_gold_bpb"] = None
        if (mine & clean).any():
            some = mine & clean
            told["clean_accuracy"] = float(
                np.mean([share_with_interval(s.correct[some], s.group[some])[0] for _, s in sheets])
            )
            told["clean_gold_bpb"] = float(
                np.mean(
                    [
                        ratio_with_error(s.gold_nll[some] / LN2, s.gold_bytes[some])[0]
                        for _, s in sheets
                    ]
                )
            )
    averages = [_average(sheet, clean) for _, sheet in sheets]
    return {
        "contaminated": float(
            np.mean([sum(map(len, rows.get(n, {}).values())) for n, _ in sheets])
        ),
        "clean_items": int(clean.sum()),
        "clean_average": None
        if averages[0] is None
        else float(np.mean([a or 0 for a in averages])),
    }


def _average(sheet: ItemAnswers, keep: np.ndarray) -> float | None:
    """The average of the normalised accuracies on some of the items."""
    told = sheet.told["tasks"]
    means = []
    for name in averaged_categories(list(sheet.told["categories"])):
        values = []
        for label in sheet.told["categories"][name]["tasks"]:
            mine = keep & (sheet.task == sheet.labels.index(label))
            if mine.any():
                accuracy = share_with_interval(sheet.correct[mine], sheet.group[mine])[0]
                values.append(above_guessing(accuracy, told[label]["baseline"]))
        if values:
            means.append(float(np.mean(values)))
    return float(np.mean(means)) if means else None


def _of_task(label: str, told: list[dict[str, Any]]) -> dict[str, Any]:
    found = _mean([t["tasks"][label] for t in told])
    first = told[0]["tasks"][label]
    fixed = (
        "category", "kind", "shots", "items", "of", "cut", "left_out", "bad_lines", "baseline",
        "traps",
    )  # fmt: skip
    return found | {key: first[key] for key in (*fixed, "normalised_one_answer")}


FIGURES = (
    "accuracy", "low", "high", "normalised_accuracy", "normalised_low", "normalised_high",
    "normalised_one_answer", "gold_bpb", "margin",
)  # fmt: skip


def _or_nan(value: float | None) -> float:
    """JSON has no number for what a broken model gives."""
    return math.nan if value is None else value


def _mean(told: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        key: float(np.mean([_or_nan(t[key]) for t in told]))
        for key in FIGURES
        if key in told[0] and told[0][key] is not None
    }
