from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from mlxprune.config.loading import load_config
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.document_explanation import document_token_losses
from mlxprune.run.folder import RunFolder
from mlxprune.scoring.score_file import read_scores
from mlxprune_tui.readers import document_table
from mlxprune_tui.readers.document_table import Query


@pytest.fixture(scope="module")
def held(tiny_run: RunFolder) -> document_table.DocumentTable:
    return document_table.open_document_table(tiny_run, load_config(tiny_run.config))


def originals(tiny_corpus: Path) -> dict[str, dict[str, str]]:
    lines = [x for p in sorted(tiny_corpus.glob("*.jsonl")) for x in p.read_text().splitlines()]
    rows = [json.loads(line) for line in lines]
    return {row["id"]: row for row in rows}


def test_a_row_is_the_document_that_it_says(
    held: document_table.DocumentTable, tiny_corpus: Path
) -> None:
    known = originals(tiny_corpus)
    for row in range(0, len(held), 7):
        document = int(held.numbers[row])
        facts = held.facts.of(document)
        original = known[facts.id]
        assert held.texts.text(document, 0, 100_000) == original["text"]
        assert held.domains[int(held.domain[row])] == original["domain"]
        assert "".join(held.texts.pieces(document, 100_000)) == original["text"]


def test_filters_leave_what_they_say(held: document_table.DocumentTable) -> None:
    name = next(iter(held.kept))
    middle = float(np.median(held.nll))
    for query, mask in (
        (Query(low=middle), held.nll >= middle),
        (Query(high=middle, domain="code"), (held.nll <= middle)
         & (held.domain == held.domains.index("code"))),
        (Query(kept=True), held.kept[name]),
        (Query(kept=False, least=20), ~held.kept[name] & (held.tokens >= 20)),
    ):  # fmt: skip
        assert np.array_equal(document_table.mask_of(held, query, name), mask)
    with pytest.raises(ValueError, match="no domain"):
        document_table.mask_of(held, Query(domain="nowhere"), name)


def test_orders(held: document_table.DocumentTable) -> None:
    everything = np.ones(len(held), bool)
    rows = np.arange(len(held))
    assert np.all(np.diff(held.nll[document_table.ordered(held, everything, "score", False)]) >= 0)
    assert np.all(
        np.diff(held.tokens[document_table.ordered(held, everything, "tokens", True)]) <= 0
    )
    assert np.array_equal(document_table.ordered(held, everything, "corpus", True), rows[::-1])


def test_a_part_keeps_the_order_of_the_whole(held: document_table.DocumentTable) -> None:
    mask = held.domain == held.domains.index("code")
    found = document_table.ordered(held, mask, "score", True)
    assert np.array_equal(np.sort(found), np.flatnonzero(mask))
    assert np.all(np.diff(held.nll[found]) <= 0)
    unscored = dataclasses.replace(held, nll=np.where(mask, np.nan, held.nll))
    orders = {**held.orders, "score": np.argsort(unscored.nll, kind="stable")}
    unscored = dataclasses.replace(unscored, orders=orders)
    for reverse in (False, True):
        tail = document_table.ordered(unscored, np.ones(len(held), bool), "score", reverse)
        assert mask[tail[-int(mask.sum()) :]].all()


def test_words_are_searched_in_the_text(
    held: document_table.DocumentTable, tiny_corpus: Path
) -> None:
    known = originals(tiny_corpus)
    query = document_table.parse("IMPORT   os !print(i)")
    found, told = document_table.search(held, np.arange(len(held)), query, lambda: True)
    assert f"{len(held):,}" in told
    for row in range(len(held)):
        text = known[held.facts.of(int(held.numbers[row])).id]["text"]
        plain = " ".join(text.lower().split())
        assert (row in found) == ("import os" in plain and "print(i)" not in plain)
    assert len(found)
    assert not len(document_table.search(held, np.arange(len(held)), query, lambda: False)[0])


def test_the_filter_line() -> None:
    assert document_table.parse(
        "domain:code nll>=4 nll<=5.5 tokens>100 kept some !other words"
    ) == Query("code", 4.0, 5.5, 101, None, True, "some words", ("other",))
    assert document_table.parse("ppl<100").high == pytest.approx(np.log(100))
    assert document_table.parse("") == Query()
    assert document_table.parse("nll>=-1").low == -1.0
    above = document_table.parse("nll>2").low
    assert above is not None
    assert above > 2.0
    for bad in (
        "nll>x",
        "tokens>1.5.2",
        "ppl=",
        "nll > 5",
        "kept:yes",
        "id:web",
        "tokens>" + 400 * "9",
    ):
        with pytest.raises(ValueError, match=r"condition|number|large"):
            document_table.parse(bad)


def test_scores_of_the_library_are_those_of_the_run(tiny_run: RunFolder) -> None:
    settings_ = load_config(tiny_run.config)
    held = document_table.open_document_table(tiny_run, settings_)
    found = read_scores(tiny_run.scores(settings_.scorers[0].name))
    assert held.nll == pytest.approx(found.nll_sum / found.num_tokens)


def test_dropped_and_most(tiny_run: RunFolder) -> None:
    assert document_table.parse("dropped").kept is False
    held = document_table.open_document_table(tiny_run, load_config(tiny_run.config))
    most = int(held.tokens[3])
    found = document_table.mask_of(held, document_table.Query(most=most), None)
    assert np.array_equal(found, held.tokens <= most)


def test_losses_of_every_token(tiny_run: RunFolder) -> None:
    """Their sum is the score: the same text, the same tokens."""
    settings_ = load_config(tiny_run.config)
    held = document_table.open_document_table(tiny_run, settings_)
    found = read_scores(tiny_run.scores(settings_.scorers[0].name))
    for row in (0, int(held.tokens.argmax())):
        number = int(held.numbers[row])
        told = document_token_losses(RunArtifacts(tiny_run, settings_), f"#{number}")
        assert told.ids == held.texts.tokens.document(number).tolist()
        losses = [v for v in told.nll if v is not None]
        assert all(v == v for v in losses)
        assert len(losses) == found.num_tokens[row]
        assert sum(losses) == pytest.approx(float(found.nll_sum[row]), rel=1e-4)
