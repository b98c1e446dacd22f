from __future__ import annotations

from mlxprune import events, runs, sentences, state


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
