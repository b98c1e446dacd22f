"""Whole runs whose child processes fail: they go on, say so, and end with a result; or they give up
with what to do."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mlxprune.config.loading import validate_config
from mlxprune.config.schema import Config
from mlxprune.engine import backend, hardware
from mlxprune.errors import DeviceError, Stopped
from mlxprune.evaluation import model_answers
from mlxprune.experiment import training_order
from mlxprune.files import read_json
from mlxprune.pipeline.runner import run_study
from mlxprune.run.event_kinds import Command, Event, Progress
from mlxprune.run.events import fold_log, read_events
from mlxprune.run.folder import RunFolder, send_command
from mlxprune.run.state import RunState
from mlxprune.scoring import units, workers
from mlxprune.testing import faults, tiny
from mlxprune.testing.forced import forced_graph

METAL = "[METAL] Command buffer execution failed: "
MEMORY = METAL + "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)."
SCREEN = METAL + "Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackError"
WAITED = METAL + "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)."
CUDA = "cudaMallocAsync(&data, size, stream) failed: out of memory"
SLOW = pytest.mark.slow
ROUNDING = 1e-3 if os.environ.get(hardware.FORCED) else 0.0  # of other parts, on a GPU's engine
WORK = {  # of a stage, the name of what its child does
    "reference": (training_order, "TRAIN", "train"),
    "score": (workers, "SCORE", "score"),
    "final": (training_order, "TRAIN", "train"),
    "evaluation": (model_answers, "LOSSES", "losses"),
}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(faults.FILE, "")
    return tmp_path / "faults.json"


def config_of(corpus: Path, **sections: dict[str, Any]) -> Config:
    return validate_config(tiny.tiny_config(corpus, **sections), "test")


def until(stage: str, source: RunFolder, run: RunFolder) -> None:
    """A copy of a finished run without what ``stage`` and all after it made."""
    shutil.copytree(source.path, run.path)
    for made in {"reference": ["references", "scores", "final", "eval"],
                 "score": ["scores", "final", "eval"],
                 "final": ["final", "eval"], "evaluation": ["eval"]}[stage]:  # fmt: skip
        shutil.rmtree(run.path / made)


class Asker(threading.Thread):
    """Sends a command once the child has met its fault, at the time ``sent``; after a pause it asks
    to go on when so many seconds are over."""

    def __init__(self, plan: Path, run: RunFolder, verb: str, seconds: float) -> None:
        super().__init__()
        self.plan, self.run_folder, self.verb, self.seconds = plan, run, verb, seconds
        self.sent = 0.0

    def run(self) -> None:
        deadline = time.monotonic() + 30
        while faults.faults_left(self.plan) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.sent = time.time()
        send_command(self.run_folder, self.verb)
        if self.verb == "pause":
            time.sleep(self.seconds)
            send_command(self.run_folder, "resume")


def asked_in_the_middle(plan: Path, run: RunFolder, verb: str, seconds: float = 0.0) -> Asker:
    asker = Asker(plan, run, verb, seconds)
    asker.start()
    return asker


@pytest.mark.parametrize(
    ("stage", "how", "said", "ending"),
    [
        pytest.param("reference", "raise", MEMORY, "out of memory", marks=SLOW),
        pytest.param("reference", "kill", "", "out of memory", marks=SLOW),
        ("reference", "abort", MEMORY, "out of memory"),
        pytest.param("score", "abort", CUDA, "out of memory", marks=SLOW),
        pytest.param("score", "raise", SCREEN, "the screen had to wait", marks=SLOW),
        pytest.param("final", "abort", WAITED, "the GPU took too long", marks=SLOW),
        pytest.param("evaluation", "raise", MEMORY, "out of memory", marks=SLOW),
        pytest.param("reference", "abort", SCREEN, "the screen had to wait", marks=SLOW),
        pytest.param("reference", "raise", CUDA, "out of memory", marks=SLOW),
        pytest.param("score", "kill", "", "out of memory", marks=SLOW),
        pytest.param("final", "raise", MEMORY, "out of memory", marks=SLOW),
        pytest.param("final", "exit", "", "died without a word", marks=SLOW),
        pytest.param("evaluation", "abort", WAITED, "the GPU took too long", marks=SLOW),
    ],
)  # fmt: skip
def test_a_failed_child_is_begun_again_and_the_bytes_are_the_same(
    stage: str,
    how: str,
    said: str,
    ending: str,
    plan: Path,
    tiny_run: RunFolder,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a CPU smaller parts change no byte: a Llama there is computed row by row."""
    module, name, work = WORK[stage]
    monkeypatch.setattr(module, name, f"{faults.HERE}:{work}")
    run = RunFolder(tmp_path / "run")
    until(stage, tiny_run, run)
    faults.plan_faults(plan, how, said, times=1, after=2)
    result = run_study(config_of(tiny_corpus), run)
    assert faults.faults_left(plan) == 0
    assert result.state == "done"
    state = fold_log(run.events)
    assert state.restarts == {ending: 1}
    assert any(ending in str(warning.message) for warning in state.warnings)
    (told,) = [e for e in read_events(run.events) if e.kind == "restarted"]
    assert told.stage == stage
    weights = "references/main/model.safetensors", "final/high-50-s0/model.safetensors"
    for path in weights if backend.detect().on_cpu else ():
        assert (run.path / path).read_bytes() == (tiny_run.path / path).read_bytes(), path
    verdict = read_json(tiny_run.path / "report.json")["verdict"]
    found = read_json(run.path / "report.json")["verdict"]
    assert found["difference"] == pytest.approx(verdict["difference"], rel=1e-5, abs=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["final", "score"])
def test_three_times_without_progress_is_an_error_that_says_what_to_do(
    stage: str,
    plan: Path,
    tiny_run: RunFolder,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the next start goes on."""
    module, name, work = WORK[stage]
    monkeypatch.setattr(module, name, f"{faults.HERE}:{work}")
    run = RunFolder(tmp_path / "run")
    until(stage, tiny_run, run)
    faults.plan_faults(plan, "raise", SCREEN, times=99, after=1)
    with pytest.raises(DeviceError) as caught:
        run_study(config_of(tiny_corpus), run)
    assert "3 times in a row" in caught.value.problem
    assert "AGX_RELAX_CDM_CTXSTORE_TIMEOUT" in caught.value.fix
    assert fold_log(run.events).state == "stopped"
    faults.plan_faults(plan, "raise", SCREEN, times=0, after=1)
    assert run_study(config_of(tiny_corpus), run).state == "done"


def test_a_bug_of_ours_is_not_tried_again(
    plan: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlxprune.errors import RunError

    monkeypatch.setattr(training_order, "TRAIN", f"{faults.HERE}:train")
    faults.plan_faults(plan, "raise", "list index out of range", times=9, after=1)
    with pytest.raises(RunError) as caught:
        run_study(config_of(tiny_corpus), RunFolder(tmp_path / "run"))
    assert "list index out of range" in caught.value.problem
    assert faults.faults_left(plan) == 8


@pytest.mark.slow
def test_the_same_shapes_give_the_same_bytes_on_a_gpus_engine(
    plan: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory in the same place twice: halved micro-batches from the same step on."""
    monkeypatch.setattr(training_order, "TRAIN", f"{faults.HERE}:train")
    found = []
    for name in ("a", "b"):
        run = RunFolder(tmp_path / name / "run")
        with forced_graph("bfloat16"):
            faults.plan_faults(plan, "abort", MEMORY, times=1, after=8)
            reference = {**tiny.SMALL_REFERENCE, "tokens": 8192, "checkpoint_every": 1024}
            run_study(config_of(tiny_corpus, reference=reference), run, until="score")
        training = read_json(run.reference() / "training.json")
        weights = (run.reference() / "model.safetensors").read_bytes()
        found.append((training["shapes"], weights, run.scores().read_bytes()))
    assert found[0] == found[1]
    shapes = found[0][0]
    assert len(shapes) == 2
    assert shapes[1][0] > 0
    assert shapes[1][1] >= 2 * shapes[0][1]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["pause", "stop"])
def test_a_run_answers_while_its_child_is_in_the_middle_of_a_long_batch(
    verb: str,
    plan: Path,
    tiny_run: RunFolder,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A child that does not come to an edge for three seconds stands for a step of minutes: the
    command is acknowledged at once, and carried out at the edge."""
    monkeypatch.setattr(training_order, "TRAIN", f"{faults.HERE}:train")
    run = RunFolder(tmp_path / "run")
    until("final", tiny_run, run)
    faults.plan_faults(plan, "wait", "3", times=1, after=3)
    asker = asked_in_the_middle(plan, run, verb, 5)
    try:
        if verb == "stop":
            with pytest.raises(Stopped):
                run_study(config_of(tiny_corpus), run)
        else:
            run_study(config_of(tiny_corpus), run)
    finally:
        asker.join()
    events = list(read_events(run.events))
    (command,) = [e for e in events if isinstance(e, Command) and e.verb == verb]
    assert command.t is not None
    assert command.t - asker.sent < 2.0
    done = [e.t for e in events if e.t and e.t > asker.sent and e.kind in ("paused", "run.end")]
    assert done[0] - asker.sent > 1.5  # not before the child has come to its edge
    assert run_study(config_of(tiny_corpus), run).state == "done"
    path = "final/high-50-s0/model.safetensors"
    if backend.detect().on_cpu:
        assert (run.path / path).read_bytes() == (tiny_run.path / path).read_bytes()


@pytest.mark.slow
def test_leaving_a_run_with_thousands_of_units_ahead_does_not_hang(
    tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit a document; the run is stopped after the first of them, and goes on."""
    corpus = tiny.tiny_corpus(tmp_path / "corpus", documents=9000)
    monkeypatch.setattr(units, "LEAST_UNIT_BYTES", 1)
    monkeypatch.setattr(units, "BATCHES", 0)
    monkeypatch.setattr(units, "COMPILED_BATCHES", 0)
    run = RunFolder(tmp_path / "run")
    asked: list[bool] = []

    def stop(event: Event, state: RunState) -> None:
        scored = event.stage == "score" and isinstance(event, Progress) and (event.done or 0)
        if scored and scored > 20_000 and not asked:
            asked.append(True)
            send_command(run, "stop")

    with pytest.raises(Stopped):
        run_study(config_of(corpus), run, until="score", listeners=[stop])
    parts = list((run.path / "scores" / ".main.parts").glob("0*.npy"))
    assert 0 < len(parts) < 2 * 3000


@pytest.mark.slow
def test_a_pause_holds_the_child_of_an_evaluation(
    plan: Path,
    tiny_run: RunFolder,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between pause and resume it reports nothing, and a child that dies on a stop stops, too."""
    monkeypatch.setattr(model_answers, "LOSSES", f"{faults.HERE}:losses")
    run = RunFolder(tmp_path / "run")
    until("evaluation", tiny_run, run)
    faults.plan_faults(plan, "wait", "1", times=1, after=2)

    asker = asked_in_the_middle(plan, run, "pause", 3)
    run_study(config_of(tiny_corpus), run)
    asker.join()
    events = list(read_events(run.events))
    begin = next(e.t for e in events if e.kind == "paused" and e.t)
    end = next(e.t for e in events if e.kind == "resumed" and e.t)
    assert end - begin > 1.5
    assert not [e for e in events if e.kind == "progress" and e.t and begin < e.t < end]


@pytest.mark.slow
def test_a_stop_stops_also_when_the_child_dies_of_it(
    plan: Path,
    tiny_run: RunFolder,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_order, "TRAIN", f"{faults.HERE}:train")
    run = RunFolder(tmp_path / "run")
    until("final", tiny_run, run)
    faults.plan_faults(plan, "late", "2", times=1, after=3)

    asker = asked_in_the_middle(plan, run, "stop")
    with pytest.raises(Stopped):
        run_study(config_of(tiny_corpus), run)
    asker.join()
    assert fold_log(run.events).state == "stopped"
    assert run_study(config_of(tiny_corpus), run).state == "done"
