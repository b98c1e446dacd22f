from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mlxprune.files import read_json
from mlxprune_tui.readers import run_list
from mlxprune_tui.readers.run_list import Row, RunList
from mlxprune_tui.screens import overview
from mlxprune_tui.testing import on


def test_every_run_and_how_it_stands(make_run: Callable[[str], Path]) -> None:
    folders = {state: make_run(state) for state in ("live", "crashed", "failed", "done", "empty")}
    one = RunList()
    rows = {r.folder.name: r for r in one.look(folders["done"].parent, time.time(), 30.0)}
    assert one.unread == 0
    assert {name: r.standing for name, r in rows.items()} == {
        "live": "running", "crashed": "crashed", "failed": "failed", "done": "done",
        "empty": "pending",
    }  # fmt: skip
    assert rows["live"].stage == "final"
    assert rows["live"].pid is not None
    assert rows["failed"].error is not None
    told = read_json(folders["done"] / "report.json")["verdict"]
    assert rows["done"].verdict == told["difference"]
    assert rows["live"].verdict is None


def test_many_runs_come_bit_by_bit(make_run: Callable[[str], Path]) -> None:
    folders = [make_run(state) for state in ("crashed", "failed", "done")]
    one = RunList()
    seen = [len(one.look(folders[0].parent, 0.0, 0.0))]
    while one.unread:
        seen.append(len(one.look(folders[0].parent, 0.0, 0.001)))
        assert len(seen) < 5000
    assert seen[0] < 3
    assert seen[-1] == 3


def row(name: str, verdict: float | None, updated: float) -> Row:
    return Row(
        Path(name),
        name,
        "done",
        "report",
        None,
        verdict,
        None,
        "",
        updated,
        0.0,
        0,
        None,
        None,
        "-",
    )


def test_orders_and_filters() -> None:
    rows = [row("b-one", 0.2, 1.0), row("a-two", None, 3.0), row("c-one", -0.1, 2.0)]
    assert [r.name for r in run_list.ordered(rows, "time")] == ["a-two", "c-one", "b-one"]
    assert [r.name for r in run_list.ordered(rows, "name")] == ["a-two", "b-one", "c-one"]
    assert [r.name for r in run_list.ordered(rows, "figure")] == ["c-one", "b-one", "a-two"]
    assert [r.name for r in run_list.kept(rows, "-one !c-")] == ["b-one"]
    assert run_list.kept(rows, "DONE nothing") == []


def test_the_shelf_tells_the_newest_training(make_run: Callable[[str], Path]) -> None:
    page = on(make_run("live"), overview.Overview)
    held = page.context.view.state
    row = run_list.row_of(page.context.view.run, held, time.time())
    newest = [c for c in held.curves.values() if len(c.validation)][-1]
    assert row.validation == newest.validation.last("bits_per_byte")
    assert row.share == held.stages["final"].done / held.stages["final"].total
    stale = on(make_run("stale"), overview.Overview).context.view
    assert run_list.row_of(stale.run, stale.state, time.time()).standing == "stale"
