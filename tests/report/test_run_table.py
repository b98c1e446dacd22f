"""Runs side by side: what may be compared, and what is told of it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from mlxprune.checksums import read_sealed, write_sealed
from mlxprune.errors import UsageError
from mlxprune.report.run_table import run_table, table_page
from mlxprune.run.folder import RunFolder


@pytest.fixture
def two(tiny_run: RunFolder, tmp_path: Path) -> list[Path]:
    """The same run under two names."""
    for name in ("one", "two"):
        shutil.copytree(tiny_run.path, tmp_path / name)
    return [tmp_path / "one", tmp_path / "two"]


def change_config(run: Path, before: str, after: str) -> None:
    text = (run / "config.yaml").read_text()
    assert before in text
    (run / "config.yaml").write_text(text.replace(before, after, 1))


def change_fingerprint(run: Path, stage: str) -> None:
    known = read_sealed(run / "run.json")
    known["stages"][stage]["fingerprint"] = "other"
    write_sealed(run / "run.json", known)


def test_what_differs_is_told_and_the_page_holds_no_script(two: list[Path]) -> None:
    change_config(two[1], "learning_rate: null", "learning_rate: 0.002")
    table = run_table(two)
    assert table.same_test
    assert [row.run for row in table.slices] == ["one", "two"]
    (key,) = table.differing
    assert key.endswith("learning_rate")
    assert table.repeated == []
    page = table_page(table)
    assert "high-50" in page and "<script" not in page
    assert not re.search(r"(?:src|href)\s*=", page)


def test_runs_that_differ_in_their_seed_alone_are_repeats(two: list[Path]) -> None:
    change_config(two[1], "seed: 0", "seed: 1")
    change_fingerprint(two[1], "split")
    table = run_table(two)
    assert not table.same_test
    assert all(row.figure is None for row in table.slices)
    (repeat,) = table.repeated
    assert repeat.slice == "high-50" and set(repeat.by_run) == {"one", "two"}
    assert repeat.interval is not None


def test_runs_over_other_text_are_told_by_their_best_slice(two: list[Path]) -> None:
    change_fingerprint(two[1], "corpus")
    table = run_table(two)
    assert not table.same_test and table.repeated == []
    assert table.by_corpus is not None and table.by_corpus.flips == []
    assert table.by_corpus.best == {"one": "high-50", "two": "high-50"}
    assert "does not flip" in table.by_corpus.sentences[0]
    assert "over 2 corpora" in table.notes[0]
    page = table_page(table)
    assert "Does the best criterion flip?" in page and "<svg" in page and "<script" not in page


def test_other_figures_are_refused(two: list[Path], tmp_path: Path) -> None:
    change_config(two[1], "primary: macro", "primary: target\n  target: [x.txt]")
    text = (two[1] / "config.yaml").read_text()
    (two[1] / "config.yaml").write_text(re.sub(r"\n  target: \[\]", "", text))
    with pytest.raises(UsageError, match="other figures"):
        run_table(two)
    with pytest.raises(UsageError, match="nothing to compare"):
        run_table(two[:1])


def test_a_run_without_a_report_is_named(two: list[Path]) -> None:
    (two[1] / "report.json").unlink()
    with pytest.raises(UsageError, match="no report yet") as caught:
        run_table(two)
    assert "two" in caught.value.where
