"""Differences are A minus B, add up, and are of one text."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlxprune.config.loading import load_config
from mlxprune.config.yaml_file import write_yaml
from mlxprune.run.folder import RunFolder
from mlxprune_tui.readers import run_comparison
from mlxprune_tui.testing import (
    frame,
    on_screen,
    until,
    view_of,
)


def test_compare_is_a_minus_b(tiny_run: RunFolder) -> None:
    told = json.loads((tiny_run.path / "report.json").read_text())["comparisons"][0]

    async def go(app: Any, pilot: Any) -> None:
        one, other = app.page.pair()
        assert (one.arm, other.arm) == (told["arm"], told["control"])
        rows = app.page.query_one("#why-table").as_rows()[1:]
        parts = {d["domain"]: d for d in told["domains"]}
        for name, arm, control, apart, adds, _ in rows:
            assert float(apart) == pytest.approx(float(arm) - float(control), abs=2e-4)
            assert float(adds) == pytest.approx(parts[name]["adds"], abs=1e-4)
        assert sum(float(r[4]) for r in rows) == pytest.approx(told["difference"], abs=1e-3)
        for entry in app.page.entries():
            arms = run_comparison.present_result(entry.view).arms
            assert entry.macro == arms[entry.arm].test_macro

    on_screen(tiny_run.path, "compare", go)


def test_first_and_second_stay_apart(tiny_run: RunFolder) -> None:
    async def go(app: Any, pilot: Any) -> None:
        before = app.page.pair()[1].label
        await pilot.press("a")
        assert app.page.pair()[1].label == before != app.page.pair()[0].label
        assert app.page.what() == "curves"
        await pilot.press("d")
        await until(pilot, lambda: " minus " in frame(app))

    on_screen(tiny_run.path, "compare", go)


def test_runs_on_other_data_name_no_winner(tiny_run: RunFolder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_run.path, other)

    async def go(app: Any, pilot: Any) -> None:
        app.session.marked.append(str(other))
        while app.page.tick():
            pass
        assert {e.label for e in app.page.entries()} >= {"high-50", "other:high-50"}
        app.page.first, app.page.second = "high-50", "other:high-50"
        app.page.options["what"] = "settings"
        app.page.renew()
        await pilot.pause()
        assert "no winner" not in frame(app)
        tree = load_config(RunFolder(other).config).model_dump(mode="json")
        tree["data"]["limit"] = 50
        RunFolder(other).config.write_text(write_yaml(tree))
        os.utime(RunFolder(other).config, (1, 1))
        app.page.renew()
        await until(pilot, lambda: "no winner" in frame(app))
        app.session.marked.clear()
        assert not any(e.label.startswith("other:") for e in app.page.entries())

    on_screen(tiny_run.path, "compare", go)


def test_a_new_report_is_read(tiny_run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(tiny_run.path, folder)
    view = view_of(folder)
    report = folder / "report.json"
    before = run_comparison.present_result(view)
    assert before is not None
    assert before.comparisons
    report.write_text(json.dumps({**json.loads(report.read_text()), "comparisons": []}))
    os.utime(report, (5, 5))
    after = run_comparison.present_result(view)
    assert after is not None
    assert after.comparisons == []
    report.write_text('{"made": "by another version"}')
    assert run_comparison.present_result(view) is None
