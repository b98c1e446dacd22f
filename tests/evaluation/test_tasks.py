"""Tasks: the line formats, what is no item and why, and how tasks are found by name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mlxprune.config.task_suite import suite_categories, suite_facts
from mlxprune.errors import ConfigError, DataError
from mlxprune.evaluation.tasks import OWN, Task, choices_of, find_tasks, read_task

GOOD: dict[str, dict[str, Any]] = {
    "language_modeling": {"context": " a b ", "continuation": " c "},
    "multiple_choice": {"query": " q ", "choices": ["x ", "y"], "gold": 1},
    "schema": {"context_options": ["p", "q"], "continuation": " r", "gold": 0},
}


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.mark.parametrize("kind", GOOD)
def test_each_format_is_known_by_its_keys(kind: str, tmp_path: Path) -> None:
    task = Task("t", OWN, write(tmp_path / "t.jsonl", GOOD[kind]), None)
    found = read_task(task)
    assert (found.task.kind, len(found.items), found.bad) == (kind, 1, [])
    expected = {
        "language_modeling": ([("a b", "c")], 0.0),
        "multiple_choice": ([("q", "x "), ("q", "y")], 0.5),  # choices stay as they are
        "schema": ([("p", "r"), ("q", "r")], 0.5),
    }[kind]
    assert (choices_of(found.items[0]), found.task.baseline) == expected


def test_every_line_that_is_no_item_is_named_and_counted(tmp_path: Path) -> None:
    good = GOOD["multiple_choice"]
    bad: list[tuple[Any, str]] = [
        (b"{broken", "bad_json"),
        (b'{"query": "\xff"}', "invalid_utf8"),
        ([1], "not_an_object"),
        ({"query": "q", "gold": 0}, "missing_choices"),
        ({**good, "choices": []}, "empty_choices"),
        ({**good, "choices": "ab"}, "empty_choices"),
        ({**good, "choices": ["a", 1]}, "choices_not_strings"),
        ({**good, "choices": ["a", "  "]}, "blank_among_choices"),
        ({**good, "gold": 2}, "gold_out_of_range"),
        ({**good, "gold": -1}, "gold_out_of_range"),
        ({**good, "gold": "1"}, "gold_not_an_index"),
        ({**good, "gold": True}, "gold_not_an_index"),
        ({**good, "query": 5}, "not_a_string"),
        (b'{"query": "\\ud800", "choices": ["a", "b"], "gold": 0}', "invalid_unicode"),
        ({**good, "choices": ["a"], "gold": 0}, "one_of_choices"),
    ]
    path = write(tmp_path / "t.jsonl", good, *(row for row, _ in bad), good)
    found = read_task(Task("t", OWN, path, "multiple_choice"))
    assert [item.row for item in found.items] == [0, len(bad) + 1]
    assert [(row, reason) for row, reason, _ in found.bad] == [
        (n + 1, reason) for n, (_, reason) in enumerate(bad)
    ]


def test_an_answer_of_nothing_and_a_missing_category_are_no_items(tmp_path: Path) -> None:
    rows = [{"context": "a", "continuation": " "}, GOOD["language_modeling"]]
    found = read_task(Task("t", OWN, write(tmp_path / "t.jsonl", *rows), None))
    assert [reason for _, reason, _ in found.bad] == ["no_answer"]
    rows = [
        GOOD["schema"],
        {**GOOD["schema"], "category": "b"},
        {**GOOD["schema"], "category": "a"},
    ]
    task = Task("t", OWN, write(tmp_path / "c.jsonl", *rows), None, by_category=True)
    found = read_task(task)
    assert [reason for _, reason, _ in found.bad] == ["missing_category"]
    assert [item.group for item in found.items] == ["a", "b"]  # a category's items together


def test_a_file_without_an_item_is_an_error(tmp_path: Path) -> None:
    for rows in ([], [{"text": "no task"}]):
        task = Task("t", OWN, write(tmp_path / "t.jsonl", *rows), None)
        with pytest.raises(DataError, match="no item"):
            read_task(task)


def test_own_tasks_come_from_files_and_folders_with_settings(tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", GOOD["schema"])
    packed = write(tmp_path / "two.jsonl", GOOD["multiple_choice"]).read_bytes()
    (tmp_path / "two.jsonl").unlink()
    (tmp_path / "two.jsonl.gz").write_bytes(gzip.compress(packed))
    (tmp_path / "tasks.yaml").write_text("two: {shots: 3, delimiter: '\\n', baseline: 0.2}\n")
    found = find_tasks([str(tmp_path)], None).tasks
    assert [(t.label, t.shots, t.category) for t in found] == [("one", 0, "own"), ("two", 3, "own")]
    assert read_task(found[1]).task.baseline == 0.2
    assert [t.label for t in find_tasks([str(tmp_path / "one.jsonl")], None).tasks] == ["one"]
    files = [str(tmp_path / name) for name in ("two.jsonl.gz", "one.jsonl")]
    turned = [find_tasks(names, None).tasks for names in (files, files[::-1])]
    assert [t.label for t in turned[0]] == [t.label for t in turned[1]] == ["one", "two"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("three: {category: world_knowledge}", "is the paper's"),
        ("thre: {shots: 1}", "no task 'thre'"),
        ("three: {shot: 1}", "no key 'shot'"),
        ("three: {shots: -1}", "shots cannot be -1"),
        ("three: {shots: true}", "shots cannot be True"),
        ("three: {kind: quiz}", "kind cannot be quiz"),
        ("three: {baseline: 1.5}", "baseline cannot be 1.5"),
        ("three: 5", "not a table"),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, settings: str, says: str) -> None:
    write(tmp_path / "three.jsonl", GOOD["schema"])
    (tmp_path / "tasks.yaml").write_text(settings + "\n")
    with pytest.raises(ConfigError, match=says):
        find_tasks([str(tmp_path)], None)


def gauntlet(folder: Path, *labels: str) -> Path:
    """A folder of the gauntlet's layout with some of its tasks."""
    for label in labels:
        told = suite_facts()["tasks"][label]
        row = {**GOOD[told["kind"]], "category": "c"}
        write(folder / told["path"], row, row)
    return folder


def test_tasks_of_the_gauntlet_come_by_label_category_or_all(tmp_path: Path) -> None:
    root = gauntlet(tmp_path / "scripts/eval/local_data", "copa", "piqa", "boolq")
    for folder in (root, tmp_path, tmp_path / "scripts"):
        found = find_tasks(["copa"], str(folder))
        assert [t.path for t in found.tasks] == [root / "commonsense_reasoning/copa.jsonl"]
    found = find_tasks(["commonsense_reasoning"], str(tmp_path))
    assert [t.label for t in found.tasks] == ["copa", "piqa"]
    assert set(found.absent) == {
        "openbook_qa", "bigbench_novel_concepts", "bigbench_strange_stories",
        "bigbench_strategy_qa",
    }  # fmt: skip
    found = find_tasks(["gauntlet", "piqa"], str(tmp_path))
    assert (len(found.tasks), len(found.absent)) == (3, 30)
    piqa = found.tasks[1]
    assert (piqa.shots, piqa.delimiter, piqa.baseline) == (10, "\nAnswer: ", 0.5)


@pytest.mark.parametrize(
    ("names", "folder", "says"),
    [
        (["arc_eazy"], None, "did you mean 'arc_easy'"),
        (["./nothing"], None, "no task, file or folder"),
        (["arc_easy"], None, "need its files"),
        (["arc_easy"], ".", "not the files of the gauntlet"),
    ],
)
def test_names_that_lead_nowhere_are_errors(
    names: list[str], folder: str | None, says: str, tmp_path: Path
) -> None:
    place = None if folder is None else str(tmp_path)
    with pytest.raises((ConfigError, DataError)) as caught:
        find_tasks(names, place)
    assert says in caught.value.lines()


def test_no_file_of_what_was_asked_is_an_error_and_so_are_two_of_a_name(tmp_path: Path) -> None:
    gauntlet(tmp_path, "copa")
    with pytest.raises(DataError, match="no file of boolq"):
        find_tasks(["boolq"], str(tmp_path))
    write(tmp_path / "mine/copa.jsonl", GOOD["schema"])
    with pytest.raises(ConfigError, match="two tasks are called 'copa'"):
        find_tasks([str(tmp_path / "mine")], str(tmp_path))


def test_the_facts_are_those_of_the_paper() -> None:
    """33 tasks, 6 + 6 + 7 + 10 + 4 in five categories."""
    found = suite_facts()["tasks"]
    counts = [sum(t["category"] == c for t in found.values()) for c in suite_categories()]
    assert (len(found), counts) == (33, [6, 6, 7, 10, 4])


def test_the_facts_are_those_of_the_files(shared_data: Path) -> None:
    told = json.loads((shared_data / "gauntlet/tasks.json").read_text())
    known = suite_facts()
    assert {t["label"] for t in told["suites"]["main"]["tasks"]} == {*known["tasks"]}
    for fact in told["suites"]["main"]["tasks"]:
        mine = {**known["defaults"], **known["tasks"][fact["label"]]}
        assert mine == {
            "category": fact["category"],
            "path": fact["file"],
            "kind": fact["type"],
            "shots": fact["num_fewshot"],
            "baseline": fact["random_baseline"],
            "delimiter": fact["continuation_delimiter"],
            "between": fact["example_delimiter"],
            "by_category": fact["has_categories"],
        }
    found = find_tasks(["gauntlet"], str(shared_data / "gauntlet"))
    assert (len(found.tasks), list(found.absent)) == (32, ["bigbench_elementary_math_qa"])
    rows = {t["label"]: t.get("rows") for t in told["suites"]["main"]["tasks"]}
    for task in found.tasks:
        items = read_task(task)
        assert (len(items.items), items.bad) == (rows[task.label], [])
