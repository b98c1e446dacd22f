"""The log of a run as trackers have it, read back by the libraries themselves."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxprune.errors import UsageError
from mlxprune.run.event_kinds import Evaluation, TrainStep
from mlxprune.run.events import read_events
from mlxprune.run.folder import RunFolder
from mlxprune.tracking.points import Point, PointMaker
from mlxprune.tracking.track import track_run
from mlxprune.tracking.trackers import TensorBoard

MODELS = ("references/main", "final/high-50-s0", "final/random-50-s0")


def losses_in_log(run: RunFolder, model: str) -> list[tuple[int, float]]:
    steps = [e for e in read_events(run.events) if isinstance(e, TrainStep) and e.model == model]
    return [(int(e.step or 0), float(e.loss or 0)) for e in steps]


def test_tensorboard_reads_the_curves_of_every_model(tiny_run: RunFolder, tmp_path: Path) -> None:
    module = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="pip install 'mlxprune[tensorboard]'",
    )
    first = track_run(tiny_run, "tensorboard", tmp_path)
    again = track_run(tiny_run, "tensorboard", tmp_path)
    assert sum(first.points.values()) > 20
    assert again.points == {}  # nothing is told twice
    for model in MODELS:
        read = module.EventAccumulator(str(tmp_path / model), size_guidance={"scalars": 0})
        read.Reload()
        found = [(s.step, s.value) for s in read.Scalars("train/loss")]
        wanted = losses_in_log(tiny_run, model)
        assert [step for step, _ in found] == [step for step, _ in wanted]
        assert [v for _, v in found] == pytest.approx([v for _, v in wanted], rel=1e-6)
        tags = set(read.Tags()["scalars"])
        assert {"train/learning_rate", "train/grad_norm", "eval/bits_per_byte"} <= tags
        assert ("test/macro_bits_per_byte" in tags) == model.startswith("final/")


def records_in(path: Path) -> Iterator[bytes]:
    """The records of a .wandb file: blocks of 32 KiB, each record with its checksum."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, whole = 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        checksum, size, kind = struct.unpack("<IHB", data[at : at + 7])
        part = data[at + 7 : at + 7 + size]
        if kind == 0 or len(part) < size:
            return
        assert zlib.crc32(bytes([kind]) + part) & 0xFFFFFFFF == checksum
        at, whole = at + 7 + size, part if kind in (1, 2) else whole + part
        if kind in (1, 4):
            yield whole


@pytest.mark.slow
def test_wandb_has_them_offline(tiny_run: RunFolder, tmp_path: Path, command: Any) -> None:
    protobuf = pytest.importorskip(
        "wandb.proto.wandb_internal_pb2", reason="pip install 'mlxprune[wandb]'"
    )
    words = ["track", str(tiny_run.path), "--to", "wandb", "--offline", "--out", str(tmp_path)]
    done = command(*words, "--json", env=os.environ | {"WANDB_ERROR_REPORTING": "false"})
    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout)["points"].values()) > 20
    for model in MODELS:
        (path,) = tmp_path.rglob(f"run-tiny-{model.replace('/', '-')}.wandb")
        rows = []
        for data in records_in(path):
            record = protobuf.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append(
                    {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
                )
        found = [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]
        assert found == losses_in_log(tiny_run, model)


@pytest.mark.slow
def test_trackio_has_them_in_its_database(
    tiny_run: RunFolder, tmp_path: Path, command: Any
) -> None:
    pytest.importorskip("trackio", reason="pip install 'mlxprune[trackio]'")
    for new in (True, False):  # the second time says nothing twice
        words = ["track", str(tiny_run.path), "--to", "trackio", "--out", str(tmp_path), "--json"]
        done = command(*words)
        assert done.returncode == 0, done.stderr
        assert bool(json.loads(done.stdout)["points"]) == new
    code = (
        "import json, trackio\n"
        "from trackio.sqlite_storage import SQLiteStorage as S\n"
        "found = {r.name: S.get_logs('mlxprune', r.name, run_id=r.id)"
        " for r in trackio.Api().runs('mlxprune')}\n"
        "print(json.dumps({n: [[row['step'], row['train/loss']] for row in rows"
        " if 'train/loss' in row] for n, rows in found.items()}))"
    )
    read = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"TRACKIO_DIR": str(tmp_path)},
    )  # fmt: skip
    found = json.loads(read.stdout.splitlines()[-1])
    for model in MODELS:
        rows = found[f"tiny-{model.replace('/', '-')}"]
        wanted = losses_in_log(tiny_run, model)
        assert [step for step, _ in rows] == [step for step, _ in wanted]
        assert [loss for _, loss in rows] == pytest.approx([loss for _, loss in wanted])


def test_steps_that_are_trained_twice_are_told_once() -> None:
    """A run that went on from a checkpoint has them twice in its log."""
    maker = PointMaker({})
    steps = [1, 2, 3, 2, 3, 4]
    points = [
        maker.of(TrainStep(model="m", step=s, targets=s * 64, loss=float(s), t=float(i)))
        for i, s in enumerate(steps)
    ]
    assert [p.step for p in points if p is not None] == [1, 2, 3, 4]
    told = maker.of(Evaluation(model="m", targets=128, bits_per_byte=1.5, t=9.0))
    assert told is not None
    assert (told.step, told.figures) == (2, {"eval/bits_per_byte": 1.5})


def test_a_tracker_that_is_not_there(
    tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError) as told:
        track_run(tiny_run, "wandb", tmp_path)
    assert told.value.fix == "pip install 'mlxprune[wandb]'"
    with pytest.raises(UsageError, match="unknown tracker 'mlflow'"):
        track_run(tiny_run, "mlflow", tmp_path)


@pytest.mark.parametrize("model", ["../../escaped", "/tmp/escaped-x", "a/../../b", "..", "x\0y"])
def test_a_name_of_the_log_is_no_place_on_the_disk(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "out"
    folder.mkdir(parents=True)
    tracker = TensorBoard(folder)
    tracker.write(model, [Point(series=model, time=1.0, step=1, figures={"loss": 1.0})])
    tracker.close()
    made = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert made and all(p.is_relative_to(folder) for p in made)
