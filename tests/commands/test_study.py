"""The command line as a user meets it: exit codes, JSON, three-line errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mlxprune.run import lock
from mlxprune.run.folder import RunFolder


@pytest.mark.slow
def test_run_prints_one_object_and_nothing_else(
    tiny_yaml: Path, tmp_path: Path, command: Any
) -> None:
    """A run, the same again, another rate, and --until."""
    run = tmp_path / "run"
    done = command("run", str(tiny_yaml), "--dir", str(run), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] == "done"
    assert set(found) >= {"run", "corpus", "stages", "selection", "slices", "arms", "verdict"}
    assert found["corpus"]["documents"] == 240
    assert set(found["arms"]) == {"high-50", "random-50"}
    assert "0" in found["arms"]["high-50"]["seeds"]
    assert "reference" in done.stderr
    again = command("run", str(tiny_yaml), "--dir", str(run), "--json", "--quiet")
    assert again.stderr == ""
    stages = json.loads(again.stdout)["stages"]
    assert {s["state"] for s in stages.values()} == {"reused"}
    other = command(
        "run", str(tiny_yaml), "--dir", str(run), "--json", "--quiet",
        "--set", "selection.rate=0.25", "--until", "selection",
    )  # fmt: skip
    stages = json.loads(other.stdout)["stages"]
    assert (stages["score"]["state"], stages["selection"]["state"]) == ("reused", "done")
    assert (run / "final" / "high-50-s0" / "model.safetensors").exists()


@pytest.mark.slow
def test_every_command_reads_a_finished_run(
    tiny_run: RunFolder, tiny_corpus: Path, tmp_path: Path, command: Any
) -> None:
    """Status, tail, explain, report, and clean last of all."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run.path, run)
    status = json.loads(command("status", str(run), "--json").stdout)
    assert status["state"] == "done"
    assert len(json.loads(command("status", str(tmp_path), "--json").stdout)["runs"]) == 1
    lines = command("tail", str(run), "--json", "-n", "5").stdout.splitlines()
    assert [json.loads(line)["kind"] for line in lines][-1] == "run.end"
    explained = json.loads(command("explain", str(run), "prose-0", "--json").stdout)
    assert explained["documents"][0]["reason"]
    losses = json.loads(command("explain", str(run), "prose-0", "--losses", "--json").stdout)
    assert len(losses["ids"]) == len(losses["nll"]) == len(losses["texts"]) > 1
    shown = command("explain", str(run), "prose-0", "--losses").stdout.splitlines()
    said = "".join(json.loads(line[line.index('"') :]) for line in shown[1:])
    rows = map(json.loads, (tiny_corpus / "prose.jsonl").read_text().splitlines())
    assert said.strip() == next(row["text"] for row in rows if row["id"] == "prose-0").strip()
    assert all(loss > 0 for loss in losses["nll"])
    assert command("report", str(run)).stdout.strip().endswith("report.html")
    cleaned = command("clean", str(run), "--keep", "report", "--yes")
    assert cleaned.returncode == 0
    assert (run / "report.html").exists()
    assert not (run / "tokens").exists()


BAD = {
    "no file": ("run", "nowhere.yaml"),
    "no command": ("runn", "x"),
    "no option": ("run", "--sett", "x"),
    "no stage": ("run", "CONFIG", "--until", "scroe"),
    "no run": ("status", "nowhere"),
    "no run to steer": ("pause", "nowhere"),
    "unknown key": ("run", "CONFIG", "--set", "selection.rat=1"),
    "impossible value": ("run", "CONFIG", "--set", "selection.rate=7"),
    "wrong text key": ("run", "CONFIG", "--set", "data.text_key=body", "--dir", "DIR"),
    "missing data": ("run", "CONFIG", "--set", "data.paths=[nowhere]", "--dir", "DIR"),
    "no such preset": ("run", "CONFIG", "--set", "final.model=nanno", "--dir", "DIR"),
    "no scores": ("select", "nowhere", "--out", "DIR"),
    "bad rate": ("select", "nowhere", "--out", "DIR", "--rate", "x"),
    "no model": ("score", "--model", "./nowhere", "--data", "CONFIG", "--out", "DIR"),
    "init without data": ("init", "nowhere.jsonl"),
}


QUICK = ("no file", "no option", "unknown key", "wrong text key", "missing data")


@pytest.mark.parametrize(
    "case",
    [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in BAD],
)
def test_a_mistake_is_three_lines_and_exit_code_2(
    case: str, tiny_yaml: Path, tmp_path: Path, command: Any
) -> None:
    names = {"CONFIG": str(tiny_yaml), "DIR": str(tmp_path / "out")}
    done = command(*(names.get(a, a) for a in BAD[case]), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["error", "at", "fix"], done.stderr
    assert "Traceback" not in done.stderr


def test_a_failure_with_json_is_one_object(tiny_yaml: Path, tmp_path: Path, command: Any) -> None:
    done = command(
        "run", str(tiny_yaml), "--json", "--dir", str(tmp_path / "r"), "--set", "data.text_key=body"
    )
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert found["state"] == "failed"
    assert set(found["error"]) == {"problem", "where", "fix"}


@pytest.mark.slow
def test_a_run_that_diverges_exits_with_1(tiny_yaml: Path, tmp_path: Path, command: Any) -> None:
    done = command(
        "run", str(tiny_yaml), "--dir", str(tmp_path / "r"),
        "--set", "reference.learning_rate=1e30", "--set", "reference.clip=1e30",
        "--set", "reference.warmup=0.0",
    )  # fmt: skip
    assert done.returncode == 1
    assert "the loss is" in done.stderr
    status = json.loads(command("status", str(tmp_path / "r"), "--json").stdout)
    assert status["state"] == "failed"
    assert status["stages"]["reference"]["state"] == "failed"


def test_a_run_on_a_full_disk_ends_clearly(tiny_yaml: Path, command: Any) -> None:
    """A device that is always full stands in for the disk."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = command("run", str(tiny_yaml), "--dir", "/dev/full/run")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 3


def test_a_folder_that_cannot_be_written_is_an_error(
    tiny_yaml: Path, tmp_path: Path, command: Any
) -> None:
    (tmp_path / "file").write_text("in the way")
    done = command("run", str(tiny_yaml), "--dir", str(tmp_path / "file" / "run"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def start(tiny_yaml: Path, run: Path, *more: str) -> subprocess.Popen[str]:
    arguments = ["run", str(tiny_yaml), "--dir", str(run), "--set", "reference.tokens=400k", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "mlxprune", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for_training(run: Path, command: Any) -> dict[str, Any]:
    from mlxprune.run.events import fold_log

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = fold_log(run / "events")
        if state.curves:
            return state
        time.sleep(0.1)
    raise AssertionError("training never began")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_signal_leaves_a_checkpoint(
    number: int, code: int, tiny_yaml: Path, tmp_path: Path, command: Any
) -> None:
    run = tmp_path / "run"
    child = start(tiny_yaml, run)
    wait_for_training(run, command)
    os.kill(child.pid, number)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == code
    assert stderr.strip().splitlines()[-1].startswith("  fix:")
    assert list((run / "references" / "main" / "checkpoints").glob("step-*/state.json"))
    assert json.loads(command("status", str(run), "--json").stdout)["state"] == "stopped"


@pytest.mark.slow
def test_pause_resume_checkpoint_and_stop(tiny_yaml: Path, tmp_path: Path, command: Any) -> None:
    run = tmp_path / "run"
    child = start(tiny_yaml, run)
    wait_for_training(run, command)
    assert command("checkpoint", str(run)).returncode == 0
    assert command("pause", str(run)).returncode == 0
    deadline = time.monotonic() + 30
    state = ""
    while state != "paused" and time.monotonic() < deadline:
        state = json.loads(command("status", str(run), "--json").stdout)["state"]
    assert state == "paused"
    second = command("run", str(tiny_yaml), "--dir", str(run), "--set", "reference.tokens=400k")
    assert second.returncode == 2
    assert "works on this run" in second.stderr
    assert command("resume", str(run)).returncode == 0
    assert command("stop", str(run)).returncode == 0
    child.communicate(timeout=60)
    assert child.returncode == 3
    kinds = [
        json.loads(x)["kind"]
        for x in command("tail", str(run), "--json", "-n", "40").stdout.splitlines()
    ]
    assert {"paused", "resumed", "command", "checkpoint"} <= set(kinds)
    late = command("stop", str(run))
    assert late.returncode == 2
    assert "no process works" in late.stderr


@pytest.mark.slow
def test_a_detached_run_outlives_the_command(tiny_yaml: Path, tmp_path: Path, command: Any) -> None:
    run = tmp_path / "run"
    done = command("run", str(tiny_yaml), "--dir", str(run), "--detach")
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 120
    while not (run / "report.html").exists() and time.monotonic() < deadline:
        time.sleep(0.3)
    assert (run / "report.html").exists()
    bad = command(
        "run", str(tiny_yaml), "--dir", str(tmp_path / "b"), "--detach", "--set", "data.paths=[x]"
    )
    assert bad.returncode == 2
    assert "error:" in bad.stderr


@pytest.mark.slow
def test_a_killed_run_is_shown_as_crashed(tiny_yaml: Path, tmp_path: Path, command: Any) -> None:
    run = tmp_path / "run"
    child = start(tiny_yaml, run)
    wait_for_training(run, command)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    shown = command("status", str(run))
    assert "crashed" in shown.stdout
    assert "go on: mlxprune run" in shown.stdout
    assert lock.owner(RunFolder(run)) is not None


def test_help_and_version(command: Any) -> None:
    assert "Usage" in command("--help").stdout
    assert command("--version").stdout.startswith("mlxprune ")


@pytest.mark.slow
def test_an_output_that_is_full_or_closed_ends_clearly(tiny_run: RunFolder) -> None:
    """And whoever reads only the beginning of it breaks nothing."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    status = f"{sys.executable} -m mlxprune status {tiny_run.path}"
    for line, code in (
        (f"{status} --json > /dev/full", 2),
        (f"{status} > /dev/full", 2),
        (f"{status} --json >&-", 2),
        (f"set -o pipefail; {status} | head -n 1", 0),
        (f"set -o pipefail; {status} --json | head -c 1", 0),
    ):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == code, (line, done.stderr)
        assert "Traceback" not in done.stderr
        if code:
            assert len(done.stderr.strip().splitlines()) == 3, done.stderr


@pytest.mark.slow
def test_a_report_is_written_under_any_locale(
    tiny_run: RunFolder, tmp_path: Path, command: Any
) -> None:
    shutil.copytree(tiny_run.path, tmp_path / "run")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = command("report", str(tmp_path / "run"), env={**os.environ, **plain})
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_several_files_that_will_not_do_are_told_in_one_error(
    tmp_path: Path, tiny_corpus: Path, command: Any
) -> None:
    """By plan and by run alike, and nothing is left behind."""
    (tmp_path / "notes.jsonl").write_text('{"source_text": "a text"}\n' * 9)
    (tmp_path / "book.pdf").write_bytes(b"%PDF-1.7 and so on")
    paths = f"data.paths=[{tiny_corpus}, notes.jsonl, book.pdf]"
    (tmp_path / "c.yaml").write_text("data: {paths: [x]}\n")
    said = []
    for verb in (("plan", "--no-probe"), ("run", "--dir", "run")):
        done = command(verb[0], "c.yaml", *verb[1:], "--set", paths, cwd=tmp_path)
        assert done.returncode == 2
        lines = done.stderr.strip().splitlines()
        said.append(
            [line for line in lines if line.startswith(("error", "  at", "      ", "  fix"))]
        )
    assert said[0] == said[1]
    error, _, first, second, _ = said[0]
    assert "2 of 5 files" in error
    assert "it is a PDF" in first
    assert "source_text" in second
    assert not (tmp_path / "run" / "corpus").exists()


@pytest.mark.slow
def test_a_study_is_repeated_over_splits_and_told_together(
    tiny_yaml: Path, tmp_path: Path, command: Any
) -> None:
    """Each with its own split and reference, in a folder of its own; then `compare` of both."""
    run = tmp_path / "many"
    words = [
        "--dir",
        str(run),
        "--quiet",
        "--set",
        "split.seed=[0, 1]",
        "--set",
        "final.tokens=2048",
    ]
    done = command("run", str(tiny_yaml), *words, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["studies"]) == {"0", "1"}
    (repeat,) = found["table"]["repeated"]
    assert set(repeat["by_run"]) == {"many-split-0", "many-split-1"}
    assert repeat["interval"][0] < repeat["difference"] < repeat["interval"][1]
    parts = [(tmp_path / f"many-split-{n}" / "split" / "part.npy").read_bytes() for n in (0, 1)]
    assert parts[0] != parts[1]
    page = tmp_path / "both.html"
    folders = [str(tmp_path / f"many-split-{n}") for n in (0, 1)]
    told = command("compare", *folders, "--html", str(page))
    assert told.returncode == 0, told.stderr
    assert "2 studies that differ in their seed alone" in told.stdout
    assert page.exists()
