"""Runs in every state that the app can meet, made from the events of a real one."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from mlxprune import events, lock, runs
from mlxprune import state as states
from mlxprune_tui import draw, page, view, words
from mlxprune_tui.app import Monitor

GLYPHS = draw.GLYPHS["braille"]
STATES = ("empty", "starting", "live", "stale", "crashed", "failed", "done")


@pytest.fixture(autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's settings are read or written."""
    monkeypatch.setenv("MLXPRUNE_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))


def write_segment(folder: Path, records: list[dict[str, Any]]) -> Path:
    """A segment that holds these events, after the snapshot of nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "000001-test.msgpack"
    first = {"v": 1, "seq": 0, "t": 0.0, "writer": "test", "kind": "snapshot", "stage": None}
    packed = [{**first, "state": states.initial()}, *records]
    path.write_bytes(b"".join(msgpack.packb(r) for r in packed))
    return path


def shifted(records: list[dict[str, Any]], last: float) -> list[dict[str, Any]]:
    """The same events, the last of them at a moment."""
    by = last - records[-1]["t"] if records else 0.0
    return [{**r, "t": r["t"] + by} for r in records]


@pytest.fixture
def make_run(tiny_run: runs.RunFolder, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A run folder in a state; what lives is held by this process until the test ends."""
    with contextlib.ExitStack() as held:

        def make(state: str) -> Path:
            folder = tmp_path / "runs" / state
            run = runs.RunFolder(folder)
            everything = list(events.read_events(tiny_run.events))
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
                runs.write_json(folder / "lock", mine)
            return folder

        yield make


def on(folder: Path, kind: type, now: Callable[[], float] = time.time) -> Any:
    """A page on a run, without an app: work aside is done at once."""
    seen = view.View(folder, now)
    while seen.read(5.0):
        pass
    seen.look(at_once=True)
    return kind(page.Desk(seen, GLYPHS))


async def until(pilot: Any, condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition, not for a time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        await pilot.pause(0.02)


def frame(app: Monitor) -> str:
    return draw.plain(app.picture.lines)


async def opened(app: Monitor, pilot: Any) -> None:
    await until(pilot, lambda: app.desk.view is None or app.desk.view.loaded)
    await pilot.pause(0.05)


def check_frame(app: Monitor, cells: int, rows: int) -> None:
    """Exactly the screen, every line exactly its width, nothing that a terminal would obey."""
    lines = app.picture.lines
    assert len(lines) == (1 if cells < 60 or rows < 15 else rows)
    for line in lines:
        text = "".join(part for part, _ in line)
        assert words.width(text) == cells, text
        assert all(c.isprintable() for c in text), ascii(text)


def passes_curve(validation: list[tuple[int, float]]) -> dict[str, Any]:
    train = [
        [t, 4.0 - t / 1000, 1e-3, 1 + (t > 600), t // 100, 1.0 * t, 0.5, 9.0, 0.4]
        for t in range(100, 1300, 100)
    ]
    return {
        "train": train,
        "validation": [[t, b, None, 1.0 * t] for t, b in validation],
        "total_targets": 1200,
    }
