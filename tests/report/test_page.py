"""The report: one file, no script, no network, hostile text escaped."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.conclusion import verdict_sentence
from mlxprune.experiment.study_result import StudyResult
from mlxprune.inference.verdict import Verdict
from mlxprune.pipeline.runner import run_study
from mlxprune.records import read_record
from mlxprune.report.page import write_report
from mlxprune.report.samples import PERCENTILES, visible_text
from mlxprune.run.folder import RunFolder
from mlxprune.testing import tiny

HOSTILE = '<script>alert("x")</script> & "quoted" $\\frac{1}{2}$ \x1b[31mred\u202edesrever'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run whose domain and texts are hostile."""
    base = tmp_path_factory.mktemp("hostile")
    corpus = tiny.tiny_corpus(base / "corpus")
    for path in corpus.iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["domain"] = HOSTILE if row["domain"] == "prose" else row["domain"]
            row["text"] = f"{HOSTILE} {row['text']}"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    run = RunFolder(base / "run")
    run_study(validate_config(tiny.tiny_config(corpus), "test"), run)
    return run.report.read_text(encoding="utf-8")


def test_hostile_text_is_escaped(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "\\u202e" in page


def test_nothing_is_fetched(page: str) -> None:
    """No address that a browser would open by itself."""
    addresses = re.findall(r'(?:src|href|action)\s*=\s*["\']?([^"\' >]+)', page)
    assert all(a.startswith("#") for a in addresses), addresses
    assert "default-src 'none'" in page


def test_what_the_issue_names_is_there(tiny_run: RunFolder) -> None:
    text = tiny_run.report.read_text(encoding="utf-8")
    for heading in (
        "Result", "Held-out bits per byte by domain", "Scores and the slice",
        "Domains before and after", "Training", "Corpus, split, tokens", "Documents to read",
        "How it ran", "Configuration",
    ):  # fmt: skip
        assert heading in text, heading
    for percentile in PERCENTILES:
        assert f"{percentile}{'st' if percentile == 1 else 'th'} percentile" in text
    assert "just below a cut" in text
    assert text.count("<svg") == 7


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible_text("a\x00b\u202ec\nd\te\u200bf") == "a\\x00b\\u202ec\nd\te\\u200bf"


def test_the_sentence_fits_the_verdict(tiny_run: RunFolder) -> None:
    result = read_record(tiny_run.path / "report.json", StudyResult)
    (first, *rest) = result.comparisons
    assert "add seeds" in verdict_sentence([first, *rest], "macro")
    for decided, word in (
        ("better", "train your model"),
        ("worse", "another criterion"),
        ("undecided", "more seeds"),
    ):
        first = msgspec.structs.replace(first, seeds=[0, 1, 2], verdict=Verdict(decided))
        assert word in verdict_sentence([first, *rest], "macro")
    assert "end to compare" in verdict_sentence([], "macro")


@pytest.mark.slow
def test_a_report_of_half_a_run_says_what_there_is(tmp_path: Path) -> None:
    corpus = tiny.tiny_corpus(tmp_path / "corpus")
    chosen = validate_config(tiny.tiny_config(corpus), "test")
    run = RunFolder(tmp_path / "run")
    for stage in ("corpus", "tokens", "reference", "selection"):
        run_study(chosen, run, until=stage)
        from mlxprune.run.events import fold_log

        write_report(RunArtifacts(run, chosen), fold_log(run.events))
        assert "Run it to the end" in run.report.read_text()
