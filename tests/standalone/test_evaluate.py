"""mlxprune eval: one model alone, by its command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mlxprune.files import read_json
from mlxprune.run.folder import RunFolder
from mlxprune.testing import float64_llama
from mlxprune.testing.task_files import by_the_book, write_tasks


@pytest.fixture(scope="module")
def model(tiny_run: RunFolder) -> str:
    return str(tiny_run.final("high-50-s0"))


@pytest.mark.slow
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
    assert found == read_json(out_folder / "eval.json")
    assert {label: t["items"] for label, t in found["tasks"].items()} == {
        "choose": 20, "cloze": 20, "pairs": 20,
    }  # fmt: skip
    assert found["tasks"]["pairs"]["bad_lines"] == {"empty_context_options": 1}
    assert (found["context"], found["limit"], found["metric_version"]) == (64, 20, 1)
    assert found["versions"]["mlxprune"]
    assert set(found["text"]["domains"]) == {"code", "numbers", "prose"}
    assert "pairs: 1 line is no item: empty_context_options" in done.stderr
    assert "3 tasks, 60 items" in done.stderr and "about" in done.stderr
    table = pq.read_table(out_folder / found["items_file"]).to_pylist()
    assert len(table) == 60
    cloze = [row["row"] for row in table if row["task"] == "cloze"]
    assert cloze == sorted(set(cloze))
    bad = [json.loads(line) for line in (out_folder / "bad-lines.jsonl").read_text().splitlines()]
    assert [(b["row"], b["reason"]) for b in bad] == [(60, "empty_context_options")]
    again = command(*arguments)
    assert again.returncode == 0
    assert again.stdout == done.stdout
    assert "reused" in again.stderr


@pytest.mark.slow
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
        "copa", "the right choice is always number 1", "piqa is left out: no file", "1 of 6",
            ):  # fmt: skip
        assert text in done.stdout, text
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()[:-1]  # the last names the folder
    assert all(len(line) <= 80 for line in lines)
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)  # no figure is cut


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to evaluate"),
        (["--tasks", "TASKS", "--out", "RUN"], "holds a run"),
    ]
    + [
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            (["--tasks", "arc_eazy"], "did you mean 'arc_easy'"),
            (["--tasks", "arc_easy"], "need its files"),
            (["--tasks", "nowhere/"], "no task, file or folder"),
            (["--text", "nowhere.jsonl"], "nowhere.jsonl"),
            (["--tasks", "TASKS", "--limit", "0"], "limit"),
            (["--tasks", "TASKS", "--context", "2"], "no item fits"),
            (["--tasks", "TASKS", "--context", "0"], "a context of 0"),
            (["--tasks", "TASKS", "--context", "500"], "up to 64"),
        )
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


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("label", ["lambada_openai", "arc_easy", "winogrande"])
def test_item_by_item_as_an_evaluation_written_apart(
    label: str, model: str, command: Any, shared_data: Path, tmp_path: Path
) -> None:
    """Prompts by the book, ids from tokenizer.json, log-probabilities in float64, one choice at a
    time: the same predictions and scores for 200 items of every type."""
    from tokenizers import Tokenizer

    done = command(
        "eval", model, "--tasks", label, "--gauntlet", str(shared_data / "gauntlet"), "--limit",
        "200", "--out", str(tmp_path), "--quiet", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["tasks"][label]
    name = json.loads(done.stdout)["items_file"]
    got = {row["row"]: row for row in pq.read_table(tmp_path / name).to_pylist()}
    assert len(got) == 200
    facts = json.loads((shared_data / "gauntlet/tasks.json").read_text())["suites"]["main"]["tasks"]
    fact = next(f for f in facts if f["label"] == label)
    lines = (shared_data / "gauntlet" / fact["file"]).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    encoder = Tokenizer.from_file(f"{model}/tokenizer.json")
    stated = read_json(Path(model) / "config.json")
    weights = float64_llama.read_weights(Path(model) / "model.safetensors")
    book = by_the_book(
        rows, fact["type"], fact["num_fewshot"], fact["continuation_delimiter"], False
    )
    right = 0
    for number, (row, examples, contexts, answers) in enumerate(book):
        if number not in got:
            continue
        if fact["type"] == "language_modeling":
            contexts, answers = contexts[:1], answers[:1]
        sums, means, greedy = [], [], []
        for context, answer in zip(contexts, answers, strict=True):
            ask, said = (encoder.encode(t).ids for t in (context, answer))
            before = (encoder.encode(examples).ids if examples else []) + ask
            ids = np.array(before[-(64 - len(said)) :] + said)
            table = float64_llama.llama_log_probabilities(weights, stated, ids[:-1])[-len(said) :]
            sums.append(-table[np.arange(len(said)), said].sum())
            means.append(sums[-1] / len(said))
            greedy.append(bool((table.argmax(axis=1) == said).all()))
        mine = got[number]
        np.testing.assert_allclose(mine["nll"], sums, rtol=2e-5)
        correct = greedy[0] if len(means) == 1 else int(np.argmin(means)) == row["gold"]
        assert (mine["prediction"], mine["correct"]) == (int(np.argmin(means)), correct)
        right += correct
    assert told["accuracy"] == pytest.approx(right / 200)


@pytest.mark.slow
def test_a_broken_model_is_refused(model: str, command: Any, tmp_path: Path) -> None:
    import mlx.core as mx

    shutil.copytree(model, tmp_path / "broken")
    path = tmp_path / "broken/model.safetensors"
    weights: Any = mx.load(str(path))
    mx.save_safetensors(str(path), {name: array * float("nan") for name, array in weights.items()})
    folder = write_tasks(tmp_path / "tasks", 1, 10)
    done = command(
        "eval", str(tmp_path / "broken"), "--tasks", str(folder), "--out", str(tmp_path / "out")
    )
    assert done.returncode == 2
    assert "not finite" in done.stderr and str(tmp_path / "broken") in done.stderr


@pytest.mark.slow
def test_names_from_data_are_no_markup(model: str, command: Any, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", 1, 10)
    (folder / "cloze.jsonl").rename(folder / "quiz[v2].jsonl")
    (folder / "tasks.yaml").write_text('"quiz[v2]": {category: "[/oops]"}\n')
    text = tmp_path / "text.jsonl"
    text.write_text(json.dumps({"text": "alpha beta", "domain": "[/red]\x1b[31m"}) + "\n")
    done = command(
        "eval", model, "--tasks", str(folder), "--text", str(text), "--out", str(tmp_path / "out")
    )
    assert done.returncode == 0, done.stderr
    for name in ("quiz[v2]", "[/oops]", "[/red]"):
        assert name in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.slow
def test_other_settings_never_stand_beside_these(model: str, command: Any, tmp_path: Path) -> None:
    """Figures and items belong together, whatever was asked in between, in whatever order."""
    folder = write_tasks(tmp_path / "tasks", 1, 30)
    files = [str(folder / name) for name in ("cloze.jsonl", "pairs.jsonl")]
    seen = {}
    for names, limit in ((files, "5"), (files, "9"), (files[::-1], "5")):
        done = command(
            "eval", model, "--tasks", ",".join(names), "--limit", limit, "--out",
            str(tmp_path / "out"), "--json", "--quiet",
        )  # fmt: skip
        found = json.loads(done.stdout)
        assert pq.read_table(tmp_path / "out" / found["items_file"]).num_rows == 2 * int(limit)
        assert seen.setdefault(limit, found) == found
    text = (folder / "cloze.jsonl").read_text()
    middle = len(text) // 2
    changed = text[:middle] + text[middle:].replace("alpha", "gamma", 1)
    (folder / "cloze.jsonl").write_text(changed)
    done = command(
        "eval", model, "--tasks", ",".join(files), "--limit", "5", "--out", str(tmp_path / "out"),
        "--json", "--quiet",
    )  # fmt: skip
    assert json.loads(done.stdout)["items_file"] != seen["5"]["items_file"]
