from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from mlxprune.config.loading import load_config
from mlxprune.experiment.data_efficiency import Rho
from mlxprune.run.folder import RunFolder
from mlxprune_tui.drawing import line_chart
from mlxprune_tui.drawing.cells import plain
from mlxprune_tui.readers import run_comparison
from mlxprune_tui.screens import comparison
from mlxprune_tui.screens.page import AppContext
from mlxprune_tui.testing import BRAILLE, on


def test_compare_is_a_minus_b(tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    page = on(tiny_run.path, comparison.Compare)
    told = json.loads((tiny_run.path / "report.json").read_text())["comparisons"][0]
    one, other = page.pair()
    assert (one.arm, other.arm) == (told["arm"], told["control"])
    seen: list[Any] = []
    monkeypatch.setattr(
        line_chart, "chart", lambda series, *rest, **more: seen.append(series) or []
    )
    page.options["relative"] = True
    page.draw_picture(80, 20)
    between = seen[0][0]
    last = np.interp(between.x[-1], other.curve.x, other.curve.mean)
    assert between.y[-1] == pytest.approx(one.curve.mean[len(between.x) - 1] - last)
    for line in plain(page.table_of_domains(100)).split("\n")[1:]:
        *_, a, b, gap = line.split()
        assert float(gap) == pytest.approx(float(a) - float(b), abs=2e-4)
    assert "n=1" in plain(page.table_of_verdicts(100))


def test_first_and_second_stay_apart(tiny_run: RunFolder) -> None:
    page = on(tiny_run.path, comparison.Compare)
    before = page.pair()[1].label
    page.do_first()
    assert page.pair()[1].label == before != page.pair()[0].label


def test_runs_on_other_data_name_no_winner(tiny_run: RunFolder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_run.path, other)
    page = on(tiny_run.path, comparison.Compare)
    page.context.marked.append(str(other))
    while page.tick():
        pass
    assert {e.label for e in page.entries()} >= {"high-50", "other:high-50"}
    page.first, page.second = "high-50", "other:high-50"
    page.options["what"] = "differences"
    assert "no winner" not in plain(page.draw_table(100, 20))
    from mlxprune.config.yaml_file import write_yaml

    tree = load_config(RunFolder(other).config).model_dump(mode="json")
    tree["data"]["limit"] = 50
    RunFolder(other).config.write_text(write_yaml(tree))
    os.utime(RunFolder(other).config, (1, 1))
    assert "no winner" in plain(page.draw_table(100, 20))
    page.context.marked.clear()
    assert not any(e.label.startswith("other:") for e in page.entries())


def test_a_new_report_is_read(tiny_run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(tiny_run.path, folder)
    page = on(folder, comparison.Compare)
    report = folder / "report.json"
    before = run_comparison.result_of(page.context.view)
    assert before is not None and before.comparisons
    report.write_text(json.dumps({**json.loads(report.read_text()), "comparisons": []}))
    os.utime(report, (5, 5))
    after = run_comparison.result_of(page.context.view)
    assert after is not None and after.comparisons == []
    report.write_text('{"made": "by another version"}')
    assert run_comparison.result_of(page.context.view) is None


def test_figures_of_an_arm_are_its_own(tiny_run: RunFolder) -> None:
    page = on(tiny_run.path, comparison.Compare)
    told = json.loads((tiny_run.path / "report.json").read_text())["arms"]
    for entry in page.entries():
        if "test_macro" in told.get(entry.arm, {}):
            assert entry.macro == told[entry.arm]["test_macro"]


def test_a_choice_comes_round() -> None:
    page = comparison.Compare(AppContext(None, BRAILLE))
    for _ in comparison.WHATS:
        page.do_what()
    assert page.options["what"] == comparison.WHATS[0]


def test_the_share_of_the_targets_is_that_of_the_report(
    tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ends that come earlier, of one that is never reached, and never of an undecided one."""
    page = on(tiny_run.path, comparison.Compare)
    result = run_comparison.result_of(page.context.view)
    assert result is not None
    for rho, shown in (
        (
            Rho(share=0.83, interval=(0.7, 0.95), beyond=False, decided=True),
            "at 83 % of its targets",
        ),
        (Rho(share=None, interval=(1.9, None), beyond=True, decided=True), "never reaches"),
    ):
        (main, *rest) = result.comparisons
        result.comparisons = [msgspec.structs.replace(main, rho=rho), *rest]
        told = " ".join(plain(page.table_of_verdicts(100)).split())
        assert shown in told
    undecided = Rho(share=0.83, interval=(0.7, 1.2), beyond=False, decided=False)
    result.comparisons = [msgspec.structs.replace(main, rho=undecided), *rest]
    assert "83 %" not in " ".join(plain(page.table_of_verdicts(100)).split())
    main.rho = None
