"""Fixtures of the app's tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlxprune.files import write_json
from mlxprune.run import lock
from mlxprune.run.events import read_records
from mlxprune.run.folder import RunFolder
from mlxprune_tui.testing import shifted, write_segment


@pytest.fixture(autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's settings are read or written."""
    monkeypatch.setenv("MLXPRUNE_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))


@pytest.fixture
def make_run(tiny_run: RunFolder, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A run folder in a state; what lives is held by this process until the test ends."""
    with contextlib.ExitStack() as held:

        def make(state: str) -> Path:
            folder = tmp_path / "runs" / state
            run = RunFolder(folder)
            everything = list(read_records(tiny_run.events))
            if state == "empty":
                folder.mkdir(parents=True)
                shutil.copy(tiny_run.run_json, folder)
                return folder
            shutil.copytree(tiny_run.path, folder, ignore=shutil.ignore_patterns("events", "lock"))
            kinds = [e["kind"] for e in everything]
            until = {
                "starting": kinds.index("stage.start") + 1,
                "done": len(everything),
            }.get(state, len(kinds) - 1 - kinds[::-1].index("train.step"))
            kept = everything[:until]
            if state not in ("starting", "done"):  # a model that is half trained, however fast
                step = everything[until]
                kept.append({**step, "targets": step["targets"] // 2})
            if state != "done" and state != "failed":
                for name in ("report.json", "report.html"):
                    (folder / name).unlink()
            last = time.time() - (1000.0 if state == "stale" else 0.2)
            if state == "failed":
                error = {"problem": "the loss is [bold]nan[/x]", "where": "final", "fix": "lower"}
                end = {"kind": "run.end", "stage": None, "status": "failed", "error": error}
                kept = [*kept, {**kept[-1], **end, "seq": kept[-1]["seq"] + 1}]
            write_segment(run.events, shifted(kept, last))
            if state in ("starting", "live", "stale"):
                held.enter_context(lock.locked(run))
            if state == "crashed":
                mine = {"pid": 2**22 + 1, "started": 1.0, "host": os.uname().nodename}
                write_json(folder / "lock", mine)
            return folder

        yield make
