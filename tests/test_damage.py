"""Damage: what was changed on the disk is found by the next start, told, and made again alike."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from mlxprune.config.loading import validate_config
from mlxprune.errors import DamagedFile, DataError, MlxpruneError, RunError, Stopped
from mlxprune.execution.control import POLL_SECONDS, Control
from mlxprune.experiment.artifacts import open_run
from mlxprune.experiment.verification import verify_run
from mlxprune.pipeline.runner import run_study
from mlxprune.run.event_kinds import Damaged, Warned
from mlxprune.run.events import EventLog, read_events
from mlxprune.run.folder import RunFolder, send_command
from mlxprune.testing import tiny
from mlxprune.tokenization import tokenizer_training


@pytest.fixture
def copied(tiny_run: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(tiny_run.path, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")


def again(run: RunFolder, corpus: Path, **more: Any) -> None:
    run_study(validate_config(tiny.tiny_config(corpus), "test"), run, **more)


def flip(path: Path) -> None:
    draw = random.Random()
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.unlink()  # it may have other names
    path.write_bytes(data)


def everything(run: RunFolder) -> dict[str, bytes]:
    names = (".parquet", ".npy", ".bin", ".safetensors", ".model", "manifest.json", "training.json",
             "arms.json", "stage.json")  # fmt: skip
    return {
        p.relative_to(run.path).as_posix(): p.read_bytes()
        for p in sorted(run.path.rglob("*"))
        if p.name.endswith(names) and not p.name.startswith(".report")
    }


TOGETHER = [
    ["split/part.npy", "selection/high-50/kept.npy", "final/random-50-s0/model.safetensors"],
    ["tokens/main/tokens.bin", "scores/main.parquet", "eval/high-50-s0.json", "run.json"],
    ["corpus/index.npy", "references/main/model.safetensors", "final/arms.json"],
    ["tokenizer/tokenizer.json", "scores/.main.parquet.stage.json", "references/main/stage.json",
     "arms/high-50-s0.npy"],
]  # fmt: skip


@pytest.mark.parametrize(
    "names", [*TOGETHER[:2], *(pytest.param(n, marks=pytest.mark.slow) for n in TOGETHER[2:])]
)
def test_what_is_damaged_is_made_again_with_equal_bytes(
    names: list[str], copied: RunFolder, tiny_corpus: Path
) -> None:
    before = everything(copied)
    for name in names:
        flip(copied.path / name)
    again(copied, tiny_corpus)
    after = everything(copied)
    assert [n for n in before if before[n] != after.get(n)] == []
    assert verify_run(copied).ok
    events = list(read_events(copied.events))
    told = {name for e in events if isinstance(e, Damaged) for name in e.files or []}
    # A marker is no file of its own: what it speaks of is unfinished, which is no news.
    silent = ("stage.json", "arms.json", "arms/high-50-s0.npy")
    assert told == {name for name in names if not name.endswith(silent)}
    warned = [str(e.message) for e in events if isinstance(e, Warned)]
    assert all(any(name in message for message in warned) for name in told)
    trained = [e for e in events if e.kind == "train.step"]
    last = max(e.attempts for e in [open_run(copied.path).state])
    assert last == 2 and trained, "nothing else was trained"


@pytest.mark.parametrize("name", ["corpus/summary.json", "corpus/files.json", "split/split.json",
    "tokens/main/tokens.json", "selection/high-50/manifest.json", "eval/high-50-s0.json",
    "references/main/training.json", "config.yaml", "device.json"])  # fmt: skip
@pytest.mark.parametrize("left", [b"", b"[]", b"\xff{", b'{"a": '])
@pytest.mark.slow
def test_no_damaged_record_stays_stuck(
    name: str, left: bytes, copied: RunFolder, tiny_corpus: Path
) -> None:
    before = everything(copied)
    (copied.path / name).unlink()
    (copied.path / name).write_bytes(left)
    again(copied, tiny_corpus)
    assert everything(copied) == before


def test_readers_name_what_is_damaged_and_what_makes_it_again(copied: RunFolder) -> None:
    held = open_run(copied.path)
    choice = held.config.slices[0]
    for name, look in (
        ("selection/high-50/kept.npy", lambda h: h.kept(choice)),
        ("split/part.npy", lambda h: h.split),
        ("tokens/main/tokens.bin", lambda h: h.tokens()),
        ("scores/main.parquet", lambda h: h.scores(choice)),
        ("arms/high-50-s0.npy", lambda h: h.arm_documents("high-50-s0")),
    ):
        path = copied.path / name
        data = path.read_bytes()
        flip(path)
        with pytest.raises(DataError, match="damaged") as caught:
            look(open_run(copied.path))
        assert name in caught.value.where
        assert f"mlxprune run {copied.config}" in caught.value.fix
        path.unlink()
        path.write_bytes(data)
    (copied.path / "eval" / "high-50-s0.json").write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        open_run(copied.path)


@pytest.mark.slow
def test_a_damaged_model_of_another_run_is_not_taken_over(
    copied: RunFolder, tiny_corpus: Path
) -> None:
    name = "final/random-50-s0/model.safetensors"
    before = (copied.path / name).read_bytes()
    flip(copied.path / name)
    beside = RunFolder(copied.path.with_name("beside"))
    again(beside, tiny_corpus)
    assert (beside.path / name).read_bytes() == before
    taken = (beside.path / "final" / "high-50-s0" / "model.safetensors").stat().st_ino
    assert taken == (copied.path / "final" / "high-50-s0" / "model.safetensors").stat().st_ino


@pytest.mark.slow
def test_changed_input_is_named_and_can_be_accepted(
    copied: RunFolder, tiny_corpus: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(tiny_corpus, corpus)
    lines = (corpus / "code.jsonl").read_text().splitlines()
    (corpus / "code.jsonl").write_text("\n".join(lines[:-3]) + "\n")
    (corpus / "more.jsonl").write_text('{"id": "new", "text": "one more", "domain": "code"}\n')
    with pytest.raises(DataError, match=r"changed code.jsonl; new more.jsonl") as caught:
        again(copied, corpus)
    assert "--accept-changed-input" in caught.value.fix
    before = len(open_run(copied.path).corpus)
    again(copied, corpus, accept_changed_input=True)
    assert len(open_run(copied.path).corpus) == before - 2
    warned = [str(e.message) for e in read_events(copied.events) if isinstance(e, Warned)]
    assert any("all is done anew" in message for message in warned)
    again(copied, corpus)


def test_a_record_that_is_none_is_an_error_with_its_name(tmp_path: Path) -> None:
    from mlxprune.files import read_json

    path = tmp_path / "x.json"
    path.write_text("{")
    with pytest.raises(DamagedFile) as caught:
        read_json(path)
    assert caught.value.where == str(path)
    assert isinstance(caught.value, ValueError)


def test_a_folder_that_is_removed_is_not_half_made_again(tiny_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")

    def remove(event: Any, state: Any) -> None:
        if event.kind == "stage.start" and event.stage == "score":
            shutil.rmtree(run.path)

    config = validate_config(tiny.tiny_config(tiny_corpus), "test")
    with pytest.raises(MlxpruneError, match="removed") as caught:
        run_study(config, run, listeners=[remove])
    assert caught.value.where == str(run.path)
    assert not run.path.exists()


def test_whoever_steers_sees_that_the_folder_is_gone(tmp_path: Path) -> None:
    """Also where the work at hand touches no file."""
    run = RunFolder(tmp_path / "run")
    log = EventLog(run.events)
    with Control(run, log) as control:
        assert control.pending() is False
        shutil.rmtree(run.path)
        time.sleep(POLL_SECONDS)
        with pytest.raises(RunError, match="removed"):
            control.pending()
    log.close()


@pytest.mark.slow
def test_no_secret_of_the_environment_is_in_any_file(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "ANY_PASSWORD"):
        monkeypatch.setenv(name, "s3cret-s3cret")
    run = RunFolder(tmp_path / "run")
    again(run, tiny_corpus)
    held = [p for p in run.path.rglob("*") if p.is_file() and b"s3cret" in p.read_bytes()]
    assert held == []


def test_a_stop_is_heard_while_a_library_hears_nothing(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SentencePiece trains for minutes without an edge at which it could be asked."""
    monkeypatch.setattr(tokenizer_training, "TRAIN", "mlxprune.testing.faults:sleep")
    run = RunFolder(tmp_path / "run")

    def stop(event: Any, state: Any) -> None:
        if event.kind == "stage.start" and event.stage == "tokenizer":
            send_command(run, "stop")

    config = validate_config(tiny.tiny_config(tiny_corpus), "test")
    with pytest.raises(Stopped):
        run_study(config, run, listeners=[stop])
    assert not run.tokenizer.exists()
    monkeypatch.undo()
    run_study(config, run, until="tokenizer")
