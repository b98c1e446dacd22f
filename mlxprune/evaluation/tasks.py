"""Tasks: what a test of question and answer is, where its items lie, and their three line formats.

The facts of the paper's 33 tasks stand in ``gauntlet.yaml``; their files are a user's clone of
llm-foundry. Own tasks are JSON Lines in the same formats:

    language_modeling   {"context": "...", "continuation": "..."}
    multiple_choice     {"query": "...", "choices": ["...", ...], "gold": 0}
    schema              {"context_options": ["...", ...], "continuation": "...", "gold": 0}
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlxprune.config.task_suite import SUITE_NAME, is_suite_name, suite_categories, suite_facts
from mlxprune.config.yaml_file import read_yaml
from mlxprune.data.containers import jsonl_values
from mlxprune.data.rows import BadLine
from mlxprune.errors import ConfigError, DataError, closest, one_line

OWN = "own"  # the category of own tasks that name none
LAYOUTS = ("", "local_data", "eval/local_data", "scripts/eval/local_data")
SETTINGS = "tasks.yaml"  # beside own tasks: what differs from the defaults
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.xz")
FIELDS = {
    "language_modeling": ("context", "continuation"),
    "multiple_choice": ("query", "choices", "gold"),
    "schema": ("context_options", "continuation", "gold"),
}


@dataclass(frozen=True)
class Task:
    """``baseline`` is the accuracy of guessing; None where it follows from the choices."""

    label: str
    category: str
    path: Path
    kind: str | None  # None until an own file is read
    shots: int = 0
    delimiter: str = " "  # between a context and its continuation
    between: str = "\n"  # between examples
    baseline: float | None = None
    by_category: bool = False  # shots and accuracy go by the items' own categories


@dataclass(frozen=True, slots=True)
class Item:
    """One question: the same context for all choices, or the same continuation (a schema)."""

    row: int  # of its line in the file
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    gold: int
    group: str = ""  # its category inside the task


@dataclass(frozen=True)
class FoundTasks:
    """The tasks that were asked for, and those of them whose file is not there."""

    tasks: list[Task]
    absent: dict[str, str]  # label: why


def find_tasks(names: list[str], folder: str | None) -> FoundTasks:
    """Tasks by name: a file or folder of own ones, ``gauntlet``, one of its categories or labels;
    in one order, whatever that of the names.

    ``folder`` is a clone of llm-foundry or its ``local_data``. A name that means nothing is a
    ConfigError that says the nearest.
    """
    known = suite_facts()["tasks"]
    tasks: dict[str, Task] = {}
    absent: dict[str, str] = {}
    for name in names:
        if not is_suite_name(name):
            for task in _own_tasks(name):
                if task.label in tasks or task.label in known:
                    fix = "rename the file: the name of a task is its file's"
                    raise ConfigError(f"two tasks are called {task.label!r}", str(task.path), fix)
                tasks[task.label] = task
            continue
        root = _local_data(folder)
        for label, told in known.items():
            if name in (SUITE_NAME, label, told["category"]):
                task = _of_suite(label, told, root)
                if task.path.exists():
                    tasks[label] = task
                else:
                    absent[label] = f"no file {told['path']}"
    if not tasks:
        fix = "evaluation.gauntlet, or --gauntlet, is a clone of llm-foundry"
        raise DataError(f"no file of {', '.join(names)} is there", str(folder), fix)
    order = {label: number for number, label in enumerate(known)}
    found = sorted(tasks.values(), key=lambda t: (order.get(t.label, len(order)), t.label))
    return FoundTasks(found, absent)


def _local_data(folder: str | None) -> Path:
    if folder is None:
        fix = "git clone https://github.com/mosaicml/llm-foundry, and name it there"
        raise ConfigError(
            "the tasks of the gauntlet need its files", "evaluation.gauntlet, or --gauntlet", fix
        )
    root = Path(folder).expanduser()
    for layout in LAYOUTS:
        if any((root / layout / category).is_dir() for category in suite_categories()):
            return root / layout
    fix = f"it has folders such as {suite_categories()[0]}/, or scripts/eval/local_data below it"
    raise ConfigError("these are not the files of the gauntlet", str(root), fix)


def _of_suite(label: str, told: dict[str, Any], root: Path) -> Task:
    given = {**suite_facts()["defaults"], **told}
    path = root / given.pop("path")
    given["baseline"] = float(given["baseline"])
    return Task(label, path=path, **given)


def _own_tasks(name: str) -> list[Task]:
    path = Path(name).expanduser()
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.name.endswith(SUFFIXES) and p.is_file())
        if not found:
            raise DataError("no task is in this folder", name, "give *.jsonl files, one a task")
        folder = path
    elif path.is_file():
        found, folder = [path], path.parent
    else:
        raise ConfigError(f"no task, file or folder {name!r}", "tasks", _nearest(name))
    for file in found:
        try:
            file.name.encode()
        except UnicodeEncodeError:
            fix = "rename it: the name of a task is its file's"
            raise ConfigError("the name of a task's file is not UTF-8", repr(file), fix) from None
    settings = read_yaml(folder / SETTINGS) if (folder / SETTINGS).exists() else {}
    tasks = {_stem(p): Task(_stem(p), OWN, p, None) for p in found}
    for label, told in settings.items():
        if label in tasks:
            tasks[label] = _with_settings(tasks[label], told, folder / SETTINGS)
        elif path.is_dir():
            hint = closest(str(label), tasks)
            raise ConfigError(f"no task {label!r} is beside it", str(folder / SETTINGS), hint)
    return list(tasks.values())


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(
        Path(name).name, [*suite_facts()["tasks"], *suite_categories(), SUITE_NAME], 1
    )
    if near:
        return f"did you mean {near[0]!r}?"
    return f"name {SUITE_NAME}, one of its categories or tasks, or a file or folder of your own"


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(s) for s in SUFFIXES if path.name.endswith(s))


OWN_KEYS: dict[str, Any] = {
    "category": str,
    "kind": str,
    "shots": int,
    "delimiter": str,
    "between": str,
    "baseline": (int, float),
    "by_category": bool,
}


def _with_settings(task: Task, told: Any, where: Path) -> Task:
    if not isinstance(told, dict):
        raise ConfigError(
            f"{task.label} is not a table of keys", str(where), "see docs/commands.md"
        )
    for key, value in told.items():
        if key not in OWN_KEYS:
            raise ConfigError(f"{task.label}: no key {key!r}", str(where), closest(key, OWN_KEYS))
        wrong = not isinstance(value, OWN_KEYS[key]) or isinstance(value, bool) != (
            key == "by_category"
        )
        if wrong or (key == "kind" and value not in FIELDS):
            fix = f"kind is one of {', '.join(FIELDS)}" if key == "kind" else "see docs/commands.md"
            raise ConfigError(f"{task.label}: {key} cannot be {one_line(value)}", str(where), fix)
        if key == "category" and value in suite_categories():
            fix = "choose another: those of the paper are means over its own tasks"
            raise ConfigError(f"{task.label}: category {value} is the paper's", str(where), fix)
        if (key == "shots" and value < 0) or (key == "baseline" and not 0 <= value < 1):
            fix = "shots count from 0, a baseline is an accuracy below 1"
            raise ConfigError(f"{task.label}: {key} cannot be {value}", str(where), fix)
    return replace(task, **told)


# --- items ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskItems:
    """The items of a file in its order, and the lines that are none: (row, reason, start)."""

    task: Task
    items: list[Item]
    bad: list[tuple[int, str, str]]


def read_task(task: Task) -> TaskItems:
    """Read a task's file. Strings are stripped as llm-foundry does; choices stay as they are."""
    items: list[Item] = []
    bad: list[tuple[int, str, str]] = []
    kind = task.kind
    for row, _, value in jsonl_values(task.path):
        if isinstance(value, BadLine):
            bad.append((row, value.reason, value.start))
            continue
        kind = kind or _kind_of(value)
        made = _item(row, value, kind, task.by_category) if kind else "unknown_format"
        if isinstance(made, Item):
            items.append(made)
        else:
            bad.append((row, made, one_line(str(value)[:80])))
    if not items:
        why = f"{len(bad)} lines, the first: {bad[0][1]}" if bad else "the file is empty"
        formats = "; ".join(", ".join(fields) for fields in FIELDS.values())
        raise DataError(f"task {task.label} has no item: {why}", str(task.path), f"keys: {formats}")
    if task.by_category:  # a category's items stand together, as its shots come from it
        items.sort(key=lambda item: item.group)
    baseline = task.baseline
    if baseline is None:
        baseline = 0.0 if kind == "language_modeling" else _guessing(items)
    return TaskItems(replace(task, kind=kind, baseline=baseline), items, bad)


def _guessing(items: list[Item]) -> float:
    return sum(1 / len(choices_of(item)) for item in items) / len(items)


def choices_of(item: Item) -> list[tuple[str, str]]:
    """(context, continuation) of every choice."""
    count = max(len(item.contexts), len(item.continuations))
    contexts = item.contexts if len(item.contexts) == count else item.contexts * count
    said = item.continuations if len(item.continuations) == count else item.continuations * count
    return list(zip(contexts, said, strict=True))


def _kind_of(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    return next((k for k, keys in FIELDS.items() if all(key in value for key in keys)), None)


def _item(row: int, value: Any, kind: str, by_category: bool) -> Item | str:
    """The item of a line, or why it is none."""
    if not isinstance(value, dict):
        return "not_an_object"
    for key in FIELDS[kind]:
        if key not in value:
            return f"missing_{key}"
    group = ""
    if by_category:
        if not isinstance(value.get("category"), str):
            return "missing_category"
        group = value["category"]
    options = {"multiple_choice": "choices", "schema": "context_options"}.get(kind)
    single = "query" if kind == "multiple_choice" else "continuation"
    gold = 0
    if options is not None:
        listed = value[options]
        if not isinstance(listed, list) or not listed:
            return f"empty_{options}"
        if len(listed) == 1:
            return f"one_of_{options}"
        if not all(isinstance(choice, str) for choice in listed):
            return f"{options}_not_strings"
        if any(not choice.strip() for choice in listed):
            return f"blank_among_{options}"
        gold = value["gold"]
        if type(gold) is not int:
            return "gold_not_an_index"
        if not 0 <= gold < len(listed):
            return "gold_out_of_range"
    strings = [value[single], *(value[options] if options else [value["context"]])]
    if not all(isinstance(s, str) for s in strings):
        return "not_a_string"
    try:
        "".join(strings).encode()
    except UnicodeEncodeError:
        return "invalid_unicode"
    alone = value[single].strip()
    if kind == "language_modeling":
        return Item(row, (value["context"].strip(),), (alone,), 0, group) if alone else "no_answer"
    if kind == "multiple_choice":
        return Item(row, (alone,), tuple(value["choices"]), gold, group)
    return (
        Item(row, tuple(value["context_options"]), (alone,), gold, group) if alone else "no_answer"
    )
