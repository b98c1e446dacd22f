"""mlxprune eval: one model alone, by its command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from test_exam import write_tasks

from mlxprune import runs
from mlxprune.runs import RunFolder


@pytest.fixture(scope="module")
def model(tiny_run: RunFolder) -> str:
    return str(tiny_run.final("high-50-s0"))


def test_own_tasks_and_text(model: str, command: Any, tmp_path: Path, tiny_corpus: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", 1)
    with (folder / "pairs.jsonl").open("a") as out:
        out.write('{"context_options": [], "continuation": "x", "gold": 0}\n')
    out_folder = tmp_path / "out"
    arguments = [
        "eval", model, "--tasks", str(folder), "--text", str(tiny_corpus), "--out",
        str(out_folder), "--limit", "20", "--json",
    ]  # fmt: skip
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == runs.read_json(out_folder / "eval.json")
    assert {label: t["items"] for label, t in found["tasks"].items()} == {
        "choose": 20, "cloze": 20, "pairs": 20,
    }  # fmt: skip
    assert found["tasks"]["pairs"]["bad_lines"] == {"empty_context_options": 1}
    assert (found["context"], found["limit"], found["metric_version"]) == (64, 20, 1)
    assert found["versions"]["mlxprune"]
    assert set(found["text"]["domains"]) == {"code", "numbers", "prose"}
    assert "pairs: 1 line is no item: empty_context_options" in done.stderr
    assert "3 tasks, 60 items" in done.stderr and "about" in done.stderr
    table = pq.read_table(out_folder / "items.parquet").to_pylist()
    assert len(table) == 60
    cloze = [row["row"] for row in table if row["task"] == "cloze"]
    assert cloze == sorted(set(cloze))
    bad = [json.loads(line) for line in (out_folder / "bad-lines.jsonl").read_text().splitlines()]
    assert [(b["row"], b["reason"]) for b in bad] == [(60, "empty_context_options")]
    again = command(*arguments)
    assert again.returncode == 0
    assert again.stdout == done.stdout
    assert "reused" in again.stderr


def test_the_table_names_tasks_traps_and_what_is_left_out(
    model: str, command: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "local_data/commonsense_reasoning"
    folder.mkdir(parents=True)
    row = {"query": "alpha \x1b[31m", "choices": ["beta", "gamma"], "gold": 0}
    (folder / "copa.jsonl").write_text((json.dumps(row) + "\n") * 30)
    done = command(
        "eval", model, "--tasks", "commonsense_reasoning", "--gauntlet", str(tmp_path), "--out",
        str(tmp_path / "out"), "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for text in (
        "copa", "the right choice is always number 1", "piqa is left out: no", "1 of 6",
        "average of 1",
    ):  # fmt: skip
        assert text in done.stdout, text
    assert "\x1b" not in done.stdout
    assert all(len(line) <= 100 for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to evaluate"),
        (["--tasks", "arc_eazy"], "did you mean 'arc_easy'"),
        (["--tasks", "arc_easy"], "need its files"),
        (["--tasks", "nowhere/"], "no task, file or folder"),
        (["--text", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--tasks", "TASKS", "--limit", "0"], "limit"),
        (["--tasks", "TASKS", "--context", "2"], "no item fits"),
        (["--tasks", "TASKS", "--out", "RUN"], "holds a run"),
    ],
)
def test_bad_input_is_three_lines(
    arguments: list[str], says: str, model: str, command: Any, tmp_path: Path, tiny_run: RunFolder
) -> None:
    folder = write_tasks(tmp_path / "tasks", 1, 3)
    places = {"TASKS": str(folder), "RUN": str(tiny_run.path)}
    given = [places.get(a, a) for a in arguments]
    given += [] if "--out" in given else ["--out", str(tmp_path / "out")]
    done = command("eval", model, *given, "--quiet")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3 and "Traceback" not in done.stderr
    assert says in done.stderr
    assert done.stdout == ""


def test_a_model_that_is_none_is_an_error(command: Any, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", 1, 3)
    done = command("eval", str(tmp_path), "--tasks", str(folder), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3
