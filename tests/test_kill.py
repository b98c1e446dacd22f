"""SIGKILL in each of the three long stages, then run again: the same bytes, no work twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlxprune.config.yaml_file import write_yaml
from mlxprune.run import lock
from mlxprune.run.events import fold_log
from mlxprune.run.folder import RunFolder
from mlxprune.testing import tiny

INTERVAL = 2048


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["cpu", "bfloat16", "float32,eager"])
def test_killed_in_every_long_stage_a_run_ends_with_the_same_bytes(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on the engine of a GPU, which is slower here: so less of everything."""
    size = 1 if engine == "cpu" else 4
    if engine != "cpu":
        monkeypatch.setenv("MLXPRUNE_FORCE_GRAPH", engine)
    corpus = tiny.tiny_corpus(tmp_path / "corpus", documents=6000 // size)
    work = {"tokens": 60_000 // size, "checkpoint_every": INTERVAL}
    tree = tiny.tiny_config(corpus, reference=work, final=work, score={"batch_tokens": 512})
    path = tmp_path / "tiny.yaml"
    path.write_text(write_yaml(tree))
    # In folders of their own: a run beside a finished one would take over its models.
    whole, broken = tmp_path / "a" / "whole", tmp_path / "b" / "broken"
    assert tiny.start_run(path, whole).wait() == 0
    for stage in ("reference", "score", "final", "evaluation"):
        child = tiny.start_run(path, broken)
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            state = fold_log(broken / "events").stages[stage]
            if state.state == "running" and state.done:
                break
            assert child.poll() is None, f"ended before it was killed in {stage}"
            time.sleep(0.02)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        held = lock.owner(RunFolder(broken))
        assert held is not None
        assert held.alive() is False
    assert tiny.start_run(path, broken).wait() == 0
    assert tiny.artifacts_of(broken) == tiny.artifacts_of(whole)
    assert tiny.targets_trained(broken) <= tiny.targets_trained(whole) + 2 * INTERVAL


@pytest.mark.slow
def test_scoring_resumes_inside_a_file(tmp_path: Path) -> None:
    """Units that were finished before the kill are not scored again."""
    corpus = tiny.tiny_corpus(tmp_path / "corpus", documents=60_000)
    tree = tiny.tiny_config(corpus)
    path = tmp_path / "tiny.yaml"
    path.write_text(write_yaml(tree))
    folder = tmp_path / "run"
    child = tiny.start_run(path, folder)
    parts = folder / "scores" / ".main.parts"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(parts.glob("0*[0-9].npy")):
        assert child.poll() is None
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    finished = {p: p.stat().st_mtime_ns for p in parts.glob("*.npy") if "documents" not in p.name}
    assert finished
    command = [sys.executable, "-m", "mlxprune", "run", str(path), "--dir", str(folder), "-q"]
    again = subprocess.Popen([*command, "--until", "score"], stdout=subprocess.DEVNULL)
    while again.poll() is None:
        for part, written in finished.items():
            if part.exists():
                assert part.stat().st_mtime_ns == written
        time.sleep(0.02)
    assert again.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--exact"]])
def test_a_filter_that_is_killed_goes_on_with_the_same_bytes(
    more: list[str], tmp_path: Path
) -> None:
    """At whatever instant: three times while blocks are under way."""
    corpus = tiny.tiny_corpus(tmp_path / "corpus", documents=600)
    path = tmp_path / "tiny.yaml"
    path.write_text(write_yaml(tiny.tiny_config(corpus)))
    run = tmp_path / "run"
    command = [sys.executable, "-m", "mlxprune"]
    until = ["run", str(path), "--dir", str(run), "--until", "selection", "--quiet"]
    subprocess.run([*command, *until], check=True, stdout=subprocess.DEVNULL)
    new = tiny.tiny_corpus(tmp_path / "new", documents=24_000, seed=5)

    def start(out: Path) -> subprocess.Popen[bytes]:
        words = ["filter", str(run), "--data", str(new), "--out", str(out), "--quiet", *more]
        return subprocess.Popen(
            [*command, *words], stdout=subprocess.DEVNULL, start_new_session=True
        )

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(whole).wait() == 0
    seen = 0
    for _ in range(3):
        child = start(broken)
        done = broken / "work" / "done"
        while len([*done.glob("*.json")]) <= seen and child.poll() is None:
            time.sleep(0.01)
        assert child.poll() is None, "ended before it was killed"
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        seen = len([*done.glob("*.json")])
    assert start(broken).wait() == 0
    for folder in ("kept", "scores"):
        found, wanted = (
            {p.name: p.read_bytes() for p in (out / folder).iterdir()} for out in (broken, whole)
        )
        assert found == wanted
    assert (broken / "filter.json").read_bytes() == (whole / "filter.json").read_bytes()
