"""Phrases: every kind of event has words, and none of them fails on an empty event."""

from __future__ import annotations

import pytest

from mlxprune.run.event_kinds import (
    KINDS,
    Assessed,
    ErrorFacts,
    Paused,
    Progress,
    RunEnd,
    StageEnd,
    StageStart,
    Warned,
)
from mlxprune.run.phrases import console_line, news_of, sentence_of, summary_words, words_of


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_event_of_which_nothing_is_known_is_borne(kind: type) -> None:
    event = kind()
    assert words_of(event)
    for tell in (console_line, news_of, sentence_of):
        assert tell(event) is None or tell(event)


def test_an_end_of_a_stage_in_four_lengths() -> None:
    event = StageEnd(stage="score", state="done", seconds=75.0, summary={"tokens": 1200})
    assert console_line(event) == "score      done, 1 min 15 s: tokens 1.2k"
    assert words_of(event) == "score done, 1m15s"
    assert news_of(event) == "score done"
    assert sentence_of(event) == "Stage score is done after 1 min 15 s."


def test_what_is_worth_no_word_has_none() -> None:
    assert console_line(StageStart(stage="score", why="was not done before")) is None
    assert sentence_of(Progress(done=1, total=2)) is None
    assert sentence_of(Assessed(model="m")) is None
    assert news_of(StageStart(stage="score", why="x")) is None
    assert console_line(Paused()) == "paused"


def test_texts_of_the_data_are_one_line_on_the_console() -> None:
    assert console_line(Warned(message="a\n\x1b[31mb")) == "warning: a \\x1b[31mb"


def test_a_failure_is_told_with_its_fix() -> None:
    error = ErrorFacts(problem="no space", where="here", fix="free some")
    told = sentence_of(RunEnd(status="failed", error=error))
    assert told == "The run has failed: no space. To mend it: free some."


def test_a_summary_in_figures() -> None:
    assert summary_words(None) == summary_words({"found_elsewhere": 0}) == ""
    told = summary_words({"passes": 1.5, "mean_nll": 3.0, "validation_bpb": 1.25})
    assert told == "passes 1.50, mean loss 3.000 nats, validation 1.2500 bits per byte"
