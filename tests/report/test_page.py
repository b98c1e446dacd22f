"""The report: one file, no script, no network, hostile text escaped."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

from mlxprune.config.loading import load_config, validate_config
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.study_result import StudyResult
from mlxprune.pipeline.runner import run_study
from mlxprune.records import read_record
from mlxprune.report.page import report_page, write_report
from mlxprune.report.samples import PERCENTILES, visible_text
from mlxprune.run.events import fold_log
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
    assert text.count("<svg") == 11


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible_text("a\x00b\u202ec\nd\te\u200bf") == "a\\x00b\\u202ec\nd\te\\u200bf"


def test_the_first_page_is_the_answer(tiny_run: RunFolder) -> None:
    """Sentence, all comparisons, the difference by domain, costs, trust, next command."""
    text = tiny_run.report.read_text(encoding="utf-8")
    first = text[: text.index("<h2>Result</h2>")]
    result = read_record(tiny_run.path / "report.json", StudyResult)
    assert result.conclusion is not None and result.conclusion.lead in html.unescape(first)
    assert "Next." in first and "final.seeds=[0, 1, 2]" in html.unescape(first)
    for words in (
        "What it cost",
        "How far to trust it",
        "test documents a domain",
        "test part read",
    ):
        assert words in first, words
    assert str(tiny_run.path) not in text and "/tmp/" not in text


def test_pictures_are_told_to_whoever_does_not_see_them(page: str) -> None:
    """A name each, hostile domains escaped in it; ids are not said twice."""
    pictures = re.findall(r"<svg[^>]*>", page)
    assert pictures
    for picture in pictures:
        assert 'role="img"' in picture
        assert re.search(r'aria-label="[^"]{20,}"', picture)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert not re.search(r"<th(?![^>]*scope)[ >]", page)


def test_the_waterfall_adds_up_to_the_difference(tiny_run: RunFolder) -> None:
    result = read_record(tiny_run.path / "report.json", StudyResult)
    for row in result.comparisons:
        assert sum(d.adds for d in row.domains or []) == pytest.approx(row.difference)


def test_without_samples_no_text_is_in_it(tiny_run: RunFolder) -> None:
    held = RunArtifacts(tiny_run, load_config(tiny_run.config))
    text = report_page(held, fold_log(tiny_run.events), with_texts=False)
    assert "Documents to read" not in text


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
