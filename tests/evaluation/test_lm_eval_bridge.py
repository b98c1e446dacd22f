"""Any task of lm-eval, through mlx-lm's bridge."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mlxprune.errors import ConfigError, RunError, UsageError
from mlxprune.evaluation.lm_eval_bridge import evaluate_with_lm_eval
from mlxprune.files import read_json
from mlxprune.run.folder import RunFolder
from mlxprune.testing.task_files import write_tasks

YAML = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{query}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
metric_list: [{{metric: acc}}]
metadata: {{version: 3.0}}
"""


def test_without_the_extra_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UsageError) as caught:
        evaluate_with_lm_eval(Path(), ["arc_easy"], [], None, None)
    assert "pip install 'mlxprune[lm-eval]'" in caught.value.lines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    tasks = write_tasks(tmp_path / "tasks", 1, 30)
    for name, data in (
        ("my_choices", tasks / "choose.jsonl"),
        ("gone", tmp_path / "nowhere.jsonl"),
    ):
        (tmp_path / f"{name}.yaml").write_text(YAML.format(name=name, data=data))
    return tmp_path


@pytest.mark.slow
def test_own_task_files_with_local_data(folder: Path, command: Any, tiny_run: RunFolder) -> None:
    """By the command, beside a task of ours, with versions; the accuracy is that of our scores."""
    model = str(tiny_run.final("high-50-s0"))
    (folder / "tasks/tasks.yaml").unlink()
    done = command(
        "eval", model, "--lm-eval", "my_choices", "--include", str(folder), "--json", "--tasks",
        str(folder / "tasks/choose.jsonl"), "--out", str(folder / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    told = found["lm_eval"]
    assert told["versions"]["my_choices"] == 3.0
    assert set(told["packages"]) == {"lm-eval", "mlx-lm"}
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "out" / found["items_file"]).to_pylist()
    # lm-eval takes the largest sum of log-probabilities, and joins with the space that ours means.
    by_sum = [min(range(3), key=row["nll"].__getitem__) == row["gold"] for row in rows]
    assert told["results"]["my_choices"]["acc,none"] == pytest.approx(sum(by_sum) / 30, abs=0.1)
    assert found == read_json(folder / "out/eval.json")


@pytest.mark.slow
def test_bad_input(folder: Path, tiny_run: RunFolder) -> None:
    model = tiny_run.final("high-50-s0")
    with pytest.raises(ConfigError) as caught:
        evaluate_with_lm_eval(model, ["my_choicez"], [str(folder)], None, None)
    assert "did you mean 'my_choices'" in caught.value.lines()
    with pytest.raises(ConfigError, match="no such folder"):
        evaluate_with_lm_eval(model, ["my_choices"], [str(folder / "no")], None, None)
    with pytest.raises(RunError, match="lm-eval failed"):
        evaluate_with_lm_eval(model, ["gone"], [str(folder)], None, None)
