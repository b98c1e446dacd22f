from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxprune.run import lock, narration
from mlxprune.run.event_kinds import ErrorFacts, Paused, Progress, Resumed, RunEnd, RunStart
from mlxprune.run.events import EventLog, EventReader, read_events
from mlxprune.run.fold import fold_event
from mlxprune.run.folder import STAGES, RunFolder
from mlxprune.run.narration import Narrator, follow_sentences
from mlxprune.run.state import RunState
from mlxprune.run.status import standing_of


def test_a_run_in_sentences(tiny_run: RunFolder) -> None:
    """One a change, each a line that a screen reader can say."""
    held, teller = RunState(), Narrator()
    told = []
    for event in read_events(tiny_run.events):
        fold_event(held, event)
        sentence = teller.tell(event, held)
        if sentence:
            told.append(sentence)
    assert told[0].startswith("Run tiny starts")
    assert told[-1] == "The run is done."
    for stage in STAGES:
        assert any(s.startswith(f"Stage {stage} is done") for s in told), stage
    assert all(s.isprintable() and s.endswith(".") for s in told)
    assert not any(c in "".join(told) for c in "│█▁")


def test_progress_is_not_chatter() -> None:
    held, teller = RunState(), Narrator()
    told = []
    for n in range(1001):
        event = Progress(stage="score", t=1e9 + n / 10, done=n, total=1000)
        fold_event(held, event)
        told.append(teller.tell(event, held))
    assert len([s for s in told if s]) == 11


def test_an_error_is_told_with_its_fix() -> None:
    error = ErrorFacts(problem="no space", where="x", fix="free some")
    told = Narrator().tell(RunEnd(status="failed", error=error), RunState())
    assert told == "The run has failed: no space. To mend it: free some."


def test_a_run_that_has_ended_is_told_at_once(tiny_run: RunFolder) -> None:
    assert list(follow_sentences(tiny_run)) == ["Run tiny is done."]


@pytest.fixture
def begun(tmp_path: Path) -> tuple[RunFolder, EventLog]:
    """A run that has only started."""
    run = RunFolder(tmp_path / "r")
    run.path.mkdir()
    log = EventLog(run.events)
    log.emit(None, RunStart(run="r", device="d"))
    return run, log


def test_following_tells_how_it_ended(begun: tuple[RunFolder, EventLog]) -> None:
    run, log = begun
    with lock.locked(run):
        told = follow_sentences(run, 0.01)
        assert "is running" in next(told)
        log.emit(None, Paused())
        assert next(told) == "The run is paused."
        log.emit(None, Resumed())
        assert next(told) == "The run goes on."
        mine = (run.path / "lock").read_bytes()
    (run.path / "lock").write_bytes(mine)  # killed: nobody unlinked it
    assert "has crashed" in list(told)[-1]


def test_following_ends_with_the_end(
    begun: tuple[RunFolder, EventLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, log = begun
    with lock.locked(run):
        told = follow_sentences(run, 0.01)
        next(told)
        true = EventReader.read
        calls = []

        def read(self: Any, seconds: float) -> Any:  # the end is written after the last look
            calls.append(seconds)
            return true(self, seconds)

        monkeypatch.setattr(EventReader, "read", read)
        standing = standing_of
        monkeypatch.setattr(
            narration,
            "standing_of",
            lambda *a: (
                log.emit(None, RunEnd(status="done")) or "done" if not calls else standing(*a)
            ),
        )
        assert list(told)[-1] == "The run is done."


def test_percent_in_sentences() -> None:
    held = RunState()
    event = Progress(stage="score", done=25, total=100, t=1e9)
    told = Narrator().tell(event, fold_event(held, event))
    assert "25 percent" in str(told)
