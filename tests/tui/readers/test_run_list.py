from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mlxprune.files import read_json
from mlxprune_tui.readers import run_list
from mlxprune_tui.readers.run_list import Row, RunList
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.testing import view_of


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
    view = view_of(make_run("live"))
    row = run_list.row_of(view.run, view.state, time.time(), view)
    newest = [c for c in view.state.curves.values() if len(c.validation)][-1]
    assert row.validation == newest.validation.last("bits_per_byte")
    assert row.share == view.state.stages["final"].done / view.state.stages["final"].total
    stale = view_of(make_run("stale"))
    assert run_list.row_of(stale.run, stale.state, time.time(), stale).standing == "stale"


def test_settings_tell_runs_apart(make_run: Callable[[str], Path]) -> None:
    view = View(make_run("done"))
    config = view.config
    assert config is not None
    told = run_list.settings_of(config)
    assert told.slices == "high-50"
    assert told.seeds == len(config.final.seeds)
    passes = config.model_copy(
        update={"final": config.final.model_copy(update={"passes": 3.0, "tokens": None})}
    )
    assert run_list.settings_of(passes).budget == "3 passes"
    (row,) = RunList().look(view.run.path, time.time(), 30.0)
    assert row.settings == told
    assert run_list.kept([row], "high-50") == [row]
    assert run_list.kept([row], "!high-50") == []
