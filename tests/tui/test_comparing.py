from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest_tui import GLYPHS, on

from mlxprune import config, runs
from mlxprune_tui import (
    comparing,
    contest,
    curves,
    draw,
)
from mlxprune_tui import page as pages


def test_compare_is_a_minus_b(tiny_run: runs.RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    page = on(tiny_run.path, comparing.Compare)
    told = json.loads((tiny_run.path / "report.json").read_text())["comparisons"][0]
    one, other = page.pair()
    assert (one.arm, other.arm) == (told["arm"], told["control"])
    seen: list[Any] = []
    monkeypatch.setattr(curves, "chart", lambda series, *rest, **more: seen.append(series) or [])
    page.options["relative"] = True
    page._picture(80, 20)
    between = seen[0][0]
    last = np.interp(between.x[-1], other.curve.x, other.curve.mean)
    assert between.y[-1] == pytest.approx(one.curve.mean[len(between.x) - 1] - last)
    for line in draw.plain(page._domains(100)).split("\n")[1:]:
        *_, a, b, gap = line.split()
        assert float(gap) == pytest.approx(float(a) - float(b), abs=2e-4)
    assert "n=1" in draw.plain(page._verdicts(100))


def test_first_and_second_stay_apart(tiny_run: runs.RunFolder) -> None:
    page = on(tiny_run.path, comparing.Compare)
    before = page.pair()[1].label
    page.do_first()
    assert page.pair()[1].label == before != page.pair()[0].label


def test_runs_on_other_data_name_no_winner(tiny_run: runs.RunFolder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_run.path, other)
    page = on(tiny_run.path, comparing.Compare)
    page.desk.marked.append(str(other))
    while page.tick():
        pass
    assert {e.label for e in page.entries()} >= {"high-50", "other:high-50"}
    page.first, page.second = "high-50", "other:high-50"
    page.options["what"] = "differences"
    assert "no winner" not in draw.plain(page._told(100, 20))
    from mlxprune.yamlfile import write_yaml

    tree = config.load(runs.RunFolder(other).config).model_dump(mode="json")
    tree["data"]["limit"] = 50
    runs.RunFolder(other).config.write_text(write_yaml(tree))
    os.utime(runs.RunFolder(other).config, (1, 1))
    assert "no winner" in draw.plain(page._told(100, 20))
    page.desk.marked.clear()
    assert not any(e.label.startswith("other:") for e in page.entries())


def test_a_new_report_is_read(tiny_run: runs.RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(tiny_run.path, folder)
    page = on(folder, comparing.Compare)
    report = folder / "report.json"
    contest.result_of(page.desk.view)
    report.write_text(json.dumps({"comparisons": []}))
    os.utime(report, (5, 5))
    assert contest.result_of(page.desk.view) == {"comparisons": []}


def test_figures_of_an_arm_are_its_own(tiny_run: runs.RunFolder) -> None:
    page = on(tiny_run.path, comparing.Compare)
    told = json.loads((tiny_run.path / "report.json").read_text())["arms"]
    for entry in page.entries():
        if "test_macro" in told.get(entry.arm, {}):
            assert entry.macro == told[entry.arm]["test_macro"]


def test_a_choice_comes_round() -> None:
    page = comparing.Compare(pages.Desk(None, GLYPHS))
    for _ in comparing.WHATS:
        page.do_what()
    assert page.options["what"] == comparing.WHATS[0]
