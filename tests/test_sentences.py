from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxprune import events, lock, runs, sentences, state


def test_a_run_in_sentences(tiny_run: runs.RunFolder) -> None:
    """One a change, each a line that a screen reader can say."""
    held, teller = state.initial(), sentences.Teller()
    told = []
    for event in events.read_events(tiny_run.events):
        state.fold(held, event)
        sentence = teller.tell(event, held)
        if sentence:
            told.append(sentence)
    assert told[0].startswith("Run tiny starts")
    assert told[-1] == "The run is done."
    for stage in runs.STAGES:
        assert any(s.startswith(f"Stage {stage} is done") for s in told), stage
    assert all(s.isprintable() and s.endswith(".") for s in told)
    assert not any(c in "".join(told) for c in "│█▁")


def test_progress_is_not_chatter() -> None:
    held, teller = state.initial(), sentences.Teller()
    told = []
    for n in range(1001):
        event = {"kind": "progress", "stage": "score", "t": 1e9 + n / 10, "done": n, "total": 1000}
        state.fold(held, event)
        told.append(teller.tell(event, held))
    assert len([s for s in told if s]) == 11


def test_an_error_is_told_with_its_fix() -> None:
    error = {"problem": "no space", "where": "x", "fix": "free some"}
    event = {"kind": "run.end", "status": "failed", "error": error}
    told = sentences.Teller().tell(event, state.initial())
    assert told == "The run is failed: no space. To mend it: free some."


def test_a_run_that_has_ended_is_told_at_once(tiny_run: runs.RunFolder) -> None:
    assert list(sentences.follow(tiny_run)) == ["Run tiny is done."]


@pytest.fixture
def begun(tmp_path: Path) -> tuple[runs.RunFolder, events.EventLog]:
    """A run that has only started."""
    run = runs.RunFolder(tmp_path / "r")
    run.path.mkdir()
    log = events.EventLog(run.events)
    log.emit(None, "run.start", run="r", device="d")
    return run, log


def test_following_tells_how_it_ended(begun: tuple[runs.RunFolder, events.EventLog]) -> None:
    run, log = begun
    with lock.locked(run):
        told = sentences.follow(run, 0.01)
        assert "is running" in next(told)
        log.emit(None, "paused")
        assert next(told) == "The run is paused."
        log.emit(None, "resumed")
        assert next(told) == "The run goes on."
        mine = (run.path / "lock").read_bytes()
    (run.path / "lock").write_bytes(mine)  # killed: nobody unlinked it
    assert "is crashed" in list(told)[-1]


def test_following_ends_with_the_end(
    begun: tuple[runs.RunFolder, events.EventLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, log = begun
    with lock.locked(run):
        told = sentences.follow(run, 0.01)
        next(told)
        true = events.Reader.read
        calls = []

        def read(self: Any, seconds: float) -> Any:  # the end is written after the last look
            calls.append(seconds)
            return true(self, seconds)

        monkeypatch.setattr(events.Reader, "read", read)
        standing = lock.standing
        monkeypatch.setattr(
            lock,
            "standing",
            lambda *a: (
                log.emit(None, "run.end", status="done") or "done" if not calls else standing(*a)
            ),
        )
        assert list(told)[-1] == "The run is done."


def test_percent_in_sentences() -> None:
    held = state.initial()
    state.fold(held, {"kind": "progress", "stage": "score", "done": 25, "total": 100, "t": 1e9})
    told = sentences.Teller().tell({"kind": "progress", "stage": "score", "t": 1e9}, held)
    assert "25 percent" in str(told)
