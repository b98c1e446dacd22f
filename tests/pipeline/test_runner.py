"""The loop as a whole: reuse, staleness, order and workers, refusal, stop and resume."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.config.schema import Config
from mlxprune.errors import ConfigError, DataError, Stopped, UsageError
from mlxprune.execution.progress import stage_progress
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.comparisons import MainVerdict
from mlxprune.experiment.study_result import StudyResult
from mlxprune.files import read_json
from mlxprune.pipeline.runner import run_study
from mlxprune.records import record_of
from mlxprune.run import lock
from mlxprune.run.event_kinds import Event
from mlxprune.run.events import fold_log
from mlxprune.run.folder import STAGES, RunFolder, send_command
from mlxprune.run.state import RunState
from mlxprune.testing import tiny


def small(corpus: Path, **sections: dict[str, Any]) -> Config:
    return validate_config(tiny.tiny_config(corpus, **sections), "test")


def bytes_of(run: RunFolder, *parts: str) -> dict[str, bytes]:
    files = [p for part in parts for p in sorted((run.path / part).rglob("*")) if p.is_file()]
    files += [run.path / part for part in parts if (run.path / part).is_file()]
    return {p.relative_to(run.path).as_posix(): p.read_bytes() for p in files}


ARTIFACTS = tiny.ARTIFACTS


@pytest.fixture
def copied(tiny_run: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(tiny_run.path, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")


def stage_states(result: StudyResult) -> dict[str, str]:
    return {name: stage.state for name, stage in result.stages.items()}


def test_a_finished_run_is_reused_and_nothing_is_written_anew(
    copied: RunFolder, tiny_corpus: Path
) -> None:
    before = bytes_of(copied, *ARTIFACTS)
    result = run_study(small(tiny_corpus), copied)
    assert set(stage_states(result).values()) == {"reused"}
    assert bytes_of(copied, *ARTIFACTS) == before
    assert result.verdict.verdict == "n=1, document noise only, no verdict"


@pytest.mark.slow
def test_another_rate_reuses_the_scores_and_keeps_the_first_arms(
    copied: RunFolder, tiny_corpus: Path
) -> None:
    result = run_study(small(tiny_corpus, selection={"rate": 0.25}), copied)
    states = stage_states(result)
    assert [n for n, s in states.items() if s == "reused"] == list(STAGES[:6])
    names = {p.name for p in (copied.path / "final").iterdir() if p.is_dir()}
    assert names == {"high-50-s0", "random-50-s0", "high-25-s0", "random-25-s0"}
    again = run_study(small(tiny_corpus), copied)
    assert stage_states(again)["final"] == "reused"


@pytest.mark.slow
def test_finished_work_is_set_aside_never_overwritten(copied: RunFolder, tiny_corpus: Path) -> None:
    """Another budget is another arm of the same name; going back finds the first one again."""
    before = bytes_of(copied, "final/high-50-s0")
    first = read_json(copied.path / "report.json")
    longer = small(tiny_corpus, final={"tokens": 8192})
    assert stage_states(run_study(longer, copied))["final"] == "done"
    assert any("@" in p.name for p in (copied.path / "final").iterdir())
    verdict = read_json(copied.path / "report.json")["verdict"]
    again = run_study(small(tiny_corpus), copied)
    assert stage_states(again)["final"] == "reused"
    assert stage_states(again)["evaluation"] == "reused"
    assert bytes_of(copied, "final/high-50-s0") == before
    assert again.verdict.difference != verdict["difference"]
    assert again.verdict == record_of(first["verdict"], MainVerdict)


def test_why_a_stage_runs_is_said(copied: RunFolder, tiny_corpus: Path) -> None:
    said: list[Event] = []
    run_study(
        small(tiny_corpus, selection={"rate": 0.25}),
        copied,
        until="selection",
        listeners=[lambda e, s: said.append(e)],
    )
    (start,) = [e for e in said if e.kind == "stage.start"]
    assert start.stage == "selection"
    assert "selection.rate 0.5 -> 0.25" in start.why


@pytest.mark.slow
def test_order_of_files_and_number_of_workers_change_no_byte(
    tiny_run: RunFolder, tiny_corpus: Path, tmp_path: Path
) -> None:
    tree = tiny.tiny_config(tiny_corpus, score={"workers": 3})
    tree["data"]["paths"] = [str(p) for p in sorted(tiny_corpus.iterdir(), reverse=True)]
    run = RunFolder(tmp_path / "other")
    run_study(validate_config(tree, "test"), run, until="selection")
    parts = ("scores/main.parquet", "selection/high-50/kept.parquet")
    assert bytes_of(run, *parts) == bytes_of(tiny_run, *parts)


def test_changed_data_seed_or_split_is_refused(copied: RunFolder, tiny_corpus: Path) -> None:
    for sections in ({"split": {"reference": 0.4}}, {"data": {"text_key": "body"}}):
        with pytest.raises(ConfigError):
            run_study(small(tiny_corpus, **sections), copied)
    with pytest.raises(ConfigError):
        run_study(small(tiny_corpus).model_copy(update={"seed": 9}), copied)


def test_changed_input_files_are_refused(tmp_path: Path) -> None:
    corpus = tiny.tiny_corpus(tmp_path / "corpus")
    run = RunFolder(tmp_path / "run")
    run_study(small(corpus), run, until="reference")
    with (corpus / "prose.jsonl").open("a") as out:
        out.write('{"id": "new", "text": "one more"}\n')
    before = fold_log(run.events), read_json(run.run_json)
    with pytest.raises(DataError):
        run_study(small(corpus), run, until="split")
    assert (fold_log(run.events), read_json(run.run_json)) == before


def test_a_folder_in_which_nothing_costly_was_made_starts_anew(tmp_path: Path) -> None:
    """With other files, and with another split: as a new folder would."""
    corpus = tiny.tiny_corpus(tmp_path / "corpus")
    run, new = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "new")
    run_study(small(corpus), run, until="tokens")
    with (corpus / "prose.jsonl").open("a") as out:
        out.write('{"id": "new", "text": "one more"}\n')
    run_study(small(corpus), run, until="tokens")
    assert any("all is done anew" in w.message for w in fold_log(run.events).warnings)
    other = small(corpus, split={"reference": 0.4})
    run_study(other, run, until="reference")
    run_study(other, new, until="reference")
    parts = ("split", "tokenizer", "tokens", "references")
    kept = {path: data for path, data in bytes_of(run, *parts).items() if "@" not in path}
    assert kept == bytes_of(new, *parts)  # what was made before is set aside under its own name
    with pytest.raises(ConfigError):  # now there is a reference
        run_study(small(corpus), run, until="tokens")


@pytest.mark.slow
def test_force_redoes_a_stage_and_all_after_it(copied: RunFolder, tiny_corpus: Path) -> None:
    before = bytes_of(copied, "selection", "final")
    result = run_study(small(tiny_corpus), copied, force="selection")
    states = stage_states(result)
    assert (states["score"], states["selection"], states["final"]) == ("reused", "done", "done")
    assert bytes_of(copied, "selection", "final") == before


@pytest.mark.slow
def test_force_never_costs_another_configuration_its_work(
    copied: RunFolder, tiny_corpus: Path
) -> None:
    longer = small(tiny_corpus, final={"tokens": 8192})
    run_study(longer, copied)
    again = run_study(small(tiny_corpus), copied, force="final")
    assert stage_states(again)["final"] == "done"
    assert stage_states(run_study(longer, copied))["final"] == "reused"


@pytest.mark.slow
def test_results_of_another_configuration_are_not_shown_as_this_ones(
    copied: RunFolder, tiny_corpus: Path
) -> None:
    other = small(tiny_corpus, reference={"tokens": 8192})
    result = run_study(other, copied, until="selection")
    assert result.arms == {}
    assert result.verdict is None
    assert stage_states(result)["final"] == "pending"
    assert read_json(copied.path / "report.json")["state"] == "done"


@pytest.mark.slow
def test_a_report_of_half_a_run_is_not_taken_for_the_whole(
    copied: RunFolder, tiny_corpus: Path
) -> None:
    from mlxprune.report.page import write_report

    whole = copied.report.read_bytes()
    other = small(tiny_corpus, selection={"rate": 0.2})
    run_study(other, copied, until="score")
    write_report(RunArtifacts(copied, other), fold_log(copied.events))
    assert copied.report.read_bytes() != whole
    assert stage_states(run_study(small(tiny_corpus), copied))["report"] == "done"
    assert b"Held-out bits per byte by domain" in copied.report.read_bytes()


@pytest.mark.slow
def test_bits_per_byte_need_whole_documents(copied: RunFolder, tiny_corpus: Path) -> None:
    sections = {"score": {"long_documents": "truncate"}, "selection": {"metric": "bpb"}}
    with pytest.raises(DataError) as caught:
        run_study(small(tiny_corpus, **sections), copied, until="selection")
    assert "in part" in caught.value.problem


def test_more_bad_rows_borne_is_no_other_corpus(copied: RunFolder, tiny_corpus: Path) -> None:
    result = run_study(small(tiny_corpus, data={"max_bad": 0.2}), copied)
    assert set(stage_states(result).values()) == {"reused"}


def test_a_corpus_may_move(tmp_path: Path) -> None:
    corpus = tiny.tiny_corpus(tmp_path / "here")
    run = RunFolder(tmp_path / "run")
    run_study(small(corpus), run, until="split")
    corpus.rename(tmp_path / "there")
    result = run_study(small(tmp_path / "there"), run, until="tokens")
    assert stage_states(result)["corpus"] == "reused"
    assert stage_states(result)["tokens"] == "done"


@pytest.mark.parametrize(
    "sections",
    [
        {"score": {"overlap": 64}},
        {"final": {"accumulate": 3}},
        {"reference": {"model": "nanno"}},
    ],
)
def test_what_can_only_fail_later_is_refused_before_work(
    sections: dict[str, Any], tiny_corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError):
        run_study(small(tiny_corpus, **sections), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run" / "corpus").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["reference", "final", "score"])
def test_a_stop_in_any_stage_resumes_to_the_same_bytes(
    stage: str, tiny_run: RunFolder, tiny_corpus: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    kinds = {"reference": "train.step", "score": "stage.start", "final": "train.step"}

    def stop(event: Event, state: RunState) -> None:
        if event.stage == stage and event.kind == kinds[stage] and not asked:
            asked.append(True)
            send_command(run, "stop")
            time.sleep(0.3)  # so that it is seen before so little work is done

    asked: list[bool] = []
    with pytest.raises(Stopped) as caught:
        run_study(small(tiny_corpus), run, listeners=[stop])
    assert caught.value.exit_code == 3
    state = fold_log(run.events)
    assert state.state == "stopped"
    assert state.stages[stage].state == "stopped"
    run_study(small(tiny_corpus), run)
    assert bytes_of(run, *ARTIFACTS) == bytes_of(tiny_run, *ARTIFACTS)


def test_a_rate_that_keeps_nothing_is_refused_before_the_work(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    selection = {"rate": 0.001, "unit": "documents"}
    with pytest.raises(DataError) as caught:
        run_study(small(tiny_corpus, selection=selection), run)
    assert "keeps none" in caught.value.problem
    assert not run.tokenizer.exists()


def test_two_processes_never_work_on_one_folder(tiny_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with lock.locked(run), pytest.raises(UsageError) as caught:
        run_study(small(tiny_corpus), run)
    assert "works on this run" in caught.value.problem


def test_the_arms_carry_equal_tokens_and_targets(tiny_run: RunFolder) -> None:
    result = read_json(tiny_run.path / "report.json")
    pruned, random = result["arms"]["high-50"], result["arms"]["random-50"]
    assert pruned["tokens"] == random["tokens"]
    longest = int(np.diff(np.load(tiny_run.tokens() / "offsets.npy")).max()) + 1
    assert abs(pruned["unique_tokens"] - random["unique_tokens"]) <= longest


@pytest.mark.slow
def test_a_reference_that_is_given_scores_with_its_own_tokenizer(
    tiny_run: RunFolder, tiny_corpus: Path, tmp_path: Path
) -> None:
    pretrained = str(tiny_run.final("random-50-s0"))
    chosen = small(tiny_corpus, reference={"pretrained": pretrained, "context": 64})
    run = RunFolder(tmp_path / "run")
    result = run_study(chosen, run)
    assert result.state == "done"
    assert (run.tokens("reference") / "tokens.bin").exists()


def test_a_tiny_split_is_an_error_with_a_fix(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.jsonl").write_text('{"text": "only one document here"}\n')
    with pytest.raises(DataError) as caught:
        run_study(small(corpus), RunFolder(tmp_path / "run"))
    assert caught.value.exit_code == 2


@pytest.mark.slow
def test_the_loop_on_real_text(shared_data: Path, tmp_path: Path) -> None:
    """Twelve domains of real documents, the smallest sample."""
    tree = tiny.tiny_config(shared_data / "tiny")
    tree["tokenizer"]["train"]["vocab_size"] = 512
    run = RunFolder(tmp_path / "run")
    result = run_study(validate_config(tree, "test"), run)
    assert len(result.corpus.domains) == 12
    assert result.verdict.arm == "high-50"


def test_what_was_done_before_is_not_in_the_rate() -> None:
    """Reused work is progress, and no speed."""
    told: list[Any] = []
    study: Any = SimpleNamespace(
        control=SimpleNamespace(check=lambda: None),
        log=SimpleNamespace(emit=lambda stage, event: told.append(event)),
    )
    report = stage_progress(study, "evaluation", "tokens", before=1_000_000)
    time.sleep(0.05)
    report(1_000_100, 2_000_000)
    (event,) = told
    assert event.done == 1_000_100
    assert event.rate <= 100 / 0.05
    assert event.eta_seconds >= 999_900 / (100 / 0.05)
