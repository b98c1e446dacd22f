"""The stage evaluation: every arm and seed on the same documents, text and items."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.errors import ConfigError, DataError
from mlxprune.evaluation import model_answers, requests
from mlxprune.evaluation.bits_per_byte import BITS_METRIC_VERSION
from mlxprune.evaluation.task_metrics import TASK_METRIC_VERSION
from mlxprune.evaluation.tasks import find_tasks
from mlxprune.experiment.artifacts import open_run
from mlxprune.experiment.conclusion import verdict_sentence
from mlxprune.experiment.document_explanation import explain_document
from mlxprune.experiment.task_results import contaminated_rows
from mlxprune.files import read_json
from mlxprune.model.weights import WEIGHTS
from mlxprune.pipeline.runner import run_study
from mlxprune.run.event_kinds import Event
from mlxprune.run.events import fold_log
from mlxprune.run.folder import RunFolder
from mlxprune.run.state import RunState
from mlxprune.testing import faults, float64_llama, tiny
from mlxprune.testing.task_files import write_tasks
from mlxprune.tokenization.tokenizer import load_tokenizer

LN2 = math.log(2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, tasks of which two items stand in training documents, and a target text."""
    folder = tmp_path_factory.mktemp("assess")
    tiny.tiny_corpus(folder / "corpus", 150)
    write_tasks(folder / "tasks", 11, 40)
    draw = random.Random(3)
    lines = [
        {"text": " ".join(draw.choices(tiny.WORDS, k=25)), "domain": draw.choice("pq")}
        for _ in range(15)
    ]
    (folder / "target.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = (folder / "corpus/prose.jsonl").read_text().splitlines()
    long = [t for t in (json.loads(row)["text"].split() for row in rows) if len(t) > 40][:2]
    with (folder / "tasks/cloze.jsonl").open("a") as out:
        for words in long:
            row = {"context": " ".join(words[5:25]).upper(), "continuation": words[25]}
            out.write(json.dumps(row) + "\n")
    return folder


def tree(place: Path, **evaluation: Any) -> dict[str, Any]:
    section = {"tasks": [str(place / "tasks")], "target": [str(place / "target.jsonl")]}
    found = tiny.tiny_config(place / "corpus", evaluation={**section, **evaluation})
    found["final"] |= {"seeds": [0, 1], "arms": ["pruned", "random", "none"], "tokens": 10240}
    return found


@pytest.fixture(scope="module")
def run(place: Path) -> RunFolder:
    folder = RunFolder(place / "one" / "run")
    run_study(validate_config(tree(place), "test"), folder)
    return folder


def evaluations(run: RunFolder) -> dict[str, dict[str, Any]]:
    names = read_json(run.arms)["order"]
    return {name: read_json(run.evaluation(name)) for name in names}


def test_every_arm_is_asked_the_same_items(run: RunFolder) -> None:
    tables = [
        pq.read_table(run.evaluation(name).with_name(told["tasks"]["items_file"]))
        for name, told in evaluations(run).items()
    ]
    assert len(tables) == 6
    for column in ("task", "row", "gold", "group", "num_tokens", "num_bytes"):
        assert len({str(t.column(column).to_pylist()) for t in tables}) == 1
    assert len({str(t.column("nll").to_pylist()) for t in tables}) == 6


@pytest.mark.float32
def test_the_answers_are_those_of_the_model_alone_in_float64(run: RunFolder, place: Path) -> None:
    """Prediction and score of every item, from the saved weights, one choice at a time."""
    name = read_json(run.arms)["order"][0]
    folder = run.final(name)
    stated = read_json(folder / "config.json")
    weights = float64_llama.read_weights(folder / WEIGHTS)
    made = requests.prepare_requests(
        find_tasks([str(place / "tasks")], None), load_tokenizer(folder), 64, None, 0
    )
    told = read_json(run.evaluation(name))["tasks"]
    table = pq.read_table(run.evaluation(name).with_name(told["items_file"]))
    rows = table.to_pylist()
    assert len(rows) == len(made.gold) > 100
    for shared in made.prefixes:
        parts = np.split(shared.ids[shared.prefix_length :], np.cumsum(shared.suffix_lengths)[:-1])
        row = rows[shared.item]
        for choice in np.unique(shared.choice).tolist():
            mine = shared.targets[shared.choice == choice]
            own = (
                parts[choice]
                if len(shared.suffix_lengths) > 1
                else shared.ids[shared.prefix_length :]
            )
            inputs = np.concatenate([shared.ids[: shared.prefix_length], own])
            table_ = float64_llama.llama_log_probabilities(weights, stated, inputs)[-len(mine) :]
            expected = -table_[np.arange(len(mine)), mine].sum()
            assert row["nll"][choice] == pytest.approx(expected, rel=1e-5)
            assert row["greedy"][choice] == bool((table_.argmax(axis=1) == mine).all())
    for row in rows:
        mean = np.array(row["nll"]) / row["num_tokens"]
        right = row["greedy"][0] if len(mean) == 1 else int(mean.argmin()) == row["gold"]
        assert (row["correct"], row["prediction"]) == (right, int(mean.argmin()))


def test_deciles_and_target_come_from_the_stored_losses(run: RunFolder) -> None:
    for name, told in evaluations(run).items():
        path = run.evaluation(name)
        nll = np.load(path.with_name(told["nll_file"]))
        assert len(told["deciles"]) == 10 and all(bits > 0 for bits in told["deciles"])
        assert min(told["deciles"]) < told["original_mix"] < max(told["deciles"])
        assert len(nll) == sum(told["documents"].values())
        aim = told["target"]
        assert set(aim["domains"]) == {"p", "q"} and sum(aim["documents"].values()) == 15
        assert aim["macro"] == pytest.approx(np.mean(list(aim["domains"].values())))
        assert len(np.load(path.with_name(aim["nll_file"]))) == 15


def test_contamination_is_told_of_each_arm(run: RunFolder) -> None:
    """The two items that were cut out of documents, in the arms that hold those documents."""
    found = contaminated_rows(run)
    assert found is not None
    planted = [40, 41]
    assert set(planted) & set(found["none-s0"]["cloze"])
    for name, rows in found.items():
        assert set(rows["cloze"]) <= set(found["none-s0"]["cloze"]), name
    told = read_json(run.path / "report.json")["tasks"]["arms"]
    seen = {row for rows in found.values() for row in rows["cloze"]}
    for arm in told.values():
        assert arm["tasks"]["cloze"]["clean_items"] == 42 - len(seen)
    assert told["none"]["contaminated"] >= told["high-50"]["contaminated"]


def test_the_average_of_the_report_is_that_of_the_marks(run: RunFolder) -> None:
    report = read_json(run.path / "report.json")
    for arm, seeds in open_run(run.path).assessed_arms().items():
        told = [read_json(run.evaluation(name))["tasks"] for name in seeds.values()]
        entry = report["tasks"]["arms"][arm]
        assert entry["seeds"] == len(seeds)
        assert entry["gold_bpb"] == pytest.approx(np.mean([t["gold_bpb"] for t in told]))
        own = [t["categories"]["own"]["normalised_accuracy"] for t in told]
        assert entry["categories"]["own"]["normalised_accuracy"] == pytest.approx(np.mean(own))


def test_pairs_are_compared_item_by_item(run: RunFolder) -> None:
    """The difference of two arms is that of their averages."""
    report = read_json(run.path / "report.json")
    assert report["comparisons"]
    for compared in report["comparisons"]:
        both = [report["tasks"]["arms"][compared[side]] for side in ("arm", "control")]
        accuracy = [b["categories"]["own"]["normalised_accuracy"] for b in both]
        assert compared["accuracy"]["difference"] == pytest.approx(accuracy[0] - accuracy[1])
        bits = [b["gold_bpb"] for b in both]
        assert compared["gold_bpb"]["difference"] == pytest.approx(bits[0] - bits[1])
        low, high = compared["gold_bpb"]["interval"]
        assert low < compared["gold_bpb"]["difference"] < high


@pytest.mark.slow
@pytest.mark.parametrize("primary", ["tasks", "target"])
def test_the_verdict_rests_on_the_primary_figure(run: RunFolder, place: Path, primary: str) -> None:
    """Named before training: the arms are other ones, so they are trained for it."""
    settings = tree(place, primary=primary)
    settings["final"] |= {"arms": ["pruned", "random"], "tokens": 2048}
    folder = RunFolder(place / f"primary-{primary}" / "run")
    found = run_study(validate_config(settings, "test"), folder)
    assert found.verdict.primary == primary
    arm, control = (found.arms[n] for n in ("high-50", "random-50"))
    if primary == "target":
        difference = arm.test_target - control.test_target
        assert "on the target text" in verdict_sentence(found.comparisons, primary)
    else:
        told = found.tasks.arms
        difference = told["high-50"].gold_bpb - told["random-50"].gold_bpb
        assert "on the tasks' right answers" in verdict_sentence(found.comparisons, primary)
    assert found.verdict.difference == pytest.approx(difference)


@pytest.mark.slow
def test_other_tasks_train_nothing_again(run: RunFolder, place: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (run.path / "final").rglob("*.safetensors")}
    settings = tree(place, limit=10, contamination="off")
    found = run_study(validate_config(settings, "test"), run)
    assert found.stages["final"].state == "reused"
    assert found.stages["evaluation"].state == "done"
    assert {t.items for t in found.tasks.arms["high-50"].tasks.values()} == {10}
    assert found.tasks.arms["high-50"].clean_items is None
    again = run_study(validate_config(tree(place), "test"), run)
    assert again.stages["evaluation"].state == "reused"  # what was set aside came back
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_unit_by_unit(
    run: RunFolder, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its child is killed in the middle of an arm's items: the same bytes, and no unit asked
    twice."""
    monkeypatch.setattr(requests, "UNIT_TOKENS", 1000)
    monkeypatch.setenv(faults.FILE, "")
    settings = validate_config(tree(place, limit=30), "test")
    plan, kept = tmp_path / "faults.json", []
    monkeypatch.setattr(model_answers, "ANSWERS", f"{faults.HERE}:answers")
    faults.plan_faults(plan, "kill", "", times=1, after=5)

    def see(event: Event, state: RunState) -> None:
        if event.kind == "restarted":
            parts = (run.path / "eval").glob("*.parts/*.npy")
            kept.append({part: part.stat().st_mtime_ns for part in parts})
        if kept:
            now = {part: part.stat().st_mtime_ns for part in kept[0] if part.exists()}
            assert all(kept[0][part] == written for part, written in now.items())

    run_study(settings, run, listeners=[see])
    assert faults.faults_left(plan) == 0
    assert kept
    assert kept[0]
    assert not list((run.path / "eval").glob("*.parts"))

    def answered() -> dict[str, bytes]:
        items = (told["tasks"]["items_file"] for told in evaluations(run).values())
        return {name: (run.path / "eval" / name).read_bytes() for name in items}

    first = answered()
    run_study(settings, run, force="evaluation")
    assert answered() == first


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tasks": ["arc_eazy"]}, "did you mean 'arc_easy'"),
        ({"tasks": ["mmlu"]}, "gauntlet"),
        ({"target": ["nowhere.jsonl"]}, "nowhere.jsonl"),
    ],
)
def test_what_can_only_fail_later_fails_before_any_work(
    changes: dict[str, Any], says: str, place: Path, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        run_study(validate_config(tree(place, **changes), "test"), RunFolder(tmp_path / "run"))
    assert says in caught.value.lines()
    assert not (tmp_path / "run" / "corpus").exists()


def test_a_primary_figure_needs_what_it_is_measured_on(place: Path) -> None:
    for primary in ("tasks", "target"):
        with pytest.raises(ConfigError, match=f"primary: {primary} needs"):
            validate_config(tree(place, primary=primary, **{primary: []}), "test")


def test_marks_versions_are_stamped(run: RunFolder) -> None:
    for told in evaluations(run).values():
        assert told["metric_version"] == BITS_METRIC_VERSION
        assert told["tasks"]["metric_version"] == TASK_METRIC_VERSION


@pytest.mark.slow
def test_documents_that_hold_items_can_be_left_out(place: Path) -> None:
    """Of the pool, before it is scored, and of every arm."""
    folder = RunFolder(place / "removed" / "run")
    settings = tree(place, contamination="remove", target=[], limit=10)
    settings["final"] |= {"arms": ["pruned", "random", "all"], "seeds": [0], "tokens": 1024}
    found = run_study(validate_config(settings, "test"), folder)
    held = open_run(folder.path)
    removed = np.load(held.cleaned / "documents.npy")
    assert len(removed)
    pool = held.pool
    assert not set(pool.tolist()) & set(removed.tolist())
    scored = pq.read_table(folder.scores()).num_rows
    assert scored == len(pool) == found.selection.pool_documents
    rows = contaminated_rows(folder)
    assert rows is not None and not any(r for told in rows.values() for r in told.values())
    ids = pq.read_table(folder.corpus / "documents.parquet", columns=["id"]).column("id")
    (explained,) = explain_document(held, ids[int(removed[0])].as_py())
    assert "items of the tasks" in explained.reason
    settings["evaluation"]["contamination"] = "report"
    kept = run_study(validate_config(settings, "test"), folder, until="selection")
    assert kept.selection.pool_documents > len(pool)
    assert kept.stages["reference"].state == "reused"


def test_the_figures_of_every_arm_are_told_as_events(run: RunFolder) -> None:
    """Also of a start that reuses all of them."""
    state = fold_log(run.events)
    for name, told in evaluations(run).items():
        assessed = state.assessed[name]
        assert assessed.macro == told["macro"]
        assert assessed.gold_bpb == told["tasks"]["gold_bpb"]
        assert assessed.target == told["target"]["macro"]


@pytest.mark.slow
def test_deciles_are_of_losses_under_the_window_of_the_scores(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    """Where the context is left to the preset: its window, for the scores and for the deciles."""
    settings = tiny.tiny_config(tiny_corpus, final={"tokens": 512}, reference={"context": None})
    folder = RunFolder(tmp_path / "run")
    run_study(validate_config(settings, "test"), folder)
    scored = pq.read_schema(folder.scores("main")).metadata[b"policy.context"]
    rested = read_json(folder.run_json)["stages"]["evaluation"]["inputs"]["high-50-s0"]
    assert rested["reference"][1] == int(scored) == 256
