from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mlxprune.run.event_kinds import EVENTS_VERSION, Event
from mlxprune.run.fold import CURVE_POINTS, HISTORY_POINTS, RECENT_KEPT, WARNINGS_KEPT, fold_event
from mlxprune.run.state import RunState
from mlxprune.run.wire import event_of


def step(targets: float, loss: float | None, **more: Any) -> Event:
    told = {"kind": "train.step", "stage": "final", "model": "m", "targets": targets, "t": targets}
    return event_of({**told, "loss": loss, **more})


def test_a_spike_outlives_the_thinning(generator: np.random.Generator) -> None:
    held = RunState()
    # Farther apart than a stretch of the axis: of two in one the lower is lost.
    places = 4_000 * np.arange(1, 9) + generator.integers(0, 2_000, 8)
    spikes = {n: 50.0 + n / 1e6 for n in places.tolist()}
    for n in range(40_000):
        fold_event(held, step(n + 1, spikes.get(n, 3.0 + math.sin(n))))
    points = held.curves["m"].train
    assert len(points) <= CURVE_POINTS
    assert points["targets"] == sorted(points["targets"])
    assert set(spikes.values()) <= {*points["loss"]}
    assert points["targets"][0] == 1
    assert points["targets"][-1] == 40_000


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_odd_losses_are_kept_and_thinned(value: float | None) -> None:
    held = RunState()
    for n in range(5000):
        fold_event(held, step(n + 1, value if n % 2 else 3.0))
    assert len(held.curves["m"].train) <= CURVE_POINTS


def test_what_grows_is_bounded() -> None:
    """A day of events leaves a state that is no larger than that of two hours."""
    held = RunState()
    device = {"kind": "device", "memory_bytes": 1, "memory_used": 1, "memory_total": 2}
    for n in range(6000):
        fold_event(held, step(n + 1, 3.0, rate=1.0 + n))
        fold_event(held, event_of({**device, "t": float(n)}))
        fold_event(held, event_of({"kind": "warning", "message": f"w{n}", "t": float(n)}))
        fold_event(
            held, event_of({"kind": "checkpoint", "stage": "final", "model": "m", "t": float(n)})
        )
    assert len(held.stages["final"].rates) <= HISTORY_POINTS
    assert len(held.memory) <= HISTORY_POINTS
    assert len(held.recent) <= RECENT_KEPT
    assert len(held.warnings) <= WARNINGS_KEPT
    assert held.checkpoint.t - held.checkpoint.before == 1.0


def test_a_snapshot_of_an_older_version_is_completed() -> None:
    old = {"run": "x", "state": "running", "stages": {"final": {"state": "running"}}, "curves": {}}
    held = fold_event(RunState(), event_of({"kind": "snapshot", "state": old}))
    assert held.run == "x"
    fold_event(held, step(100, 3.0))
    fold_event(held, event_of({"kind": "checkpoint", "stage": "final", "model": "m", "t": 1.0}))


def test_a_record_of_a_newer_version_is_noted_and_folded() -> None:
    held = RunState()
    fold_event(
        held, event_of({"v": EVENTS_VERSION + 1, "kind": "warning", "message": "x", "t": 1.0})
    )
    fold_event(held, event_of({"v": 1, "kind": "a-kind-of-tomorrow", "t": 2.0}))
    assert held.newer == EVENTS_VERSION + 1
    assert held.warnings


def test_recent_holds_what_people_would_be_told() -> None:
    held = RunState()
    fold_event(held, event_of({"kind": "run.start", "t": 1.0, "run": "x", "config": {"large": 1}}))
    fold_event(held, event_of({"kind": "progress", "stage": "score", "t": 2.0, "done": 1}))
    fold_event(held, event_of({"kind": "stage.end", "stage": "score", "state": "done", "t": 3.0}))
    assert [e.kind for e in held.recent] == ["run.start", "stage.end"]
    assert held.recent[0].config is None


def folded(*told: dict[str, Any]) -> dict[str, Any]:
    held = RunState()
    for n, event in enumerate(told):
        fold_event(held, event_of({"t": float(n), **event}))
    return held


def test_a_second_attempt_begins_anew() -> None:
    start = {"kind": "run.start", "run": "x"}
    done = {"kind": "stage.end", "stage": "score", "state": "done", "seconds": 50.0}
    held = folded(
        start,
        {"kind": "stage.start", "stage": "score"},
        done,
        {"kind": "assessed", "model": "m", "macro": 1.0},
        {"kind": "stage.start", "stage": "final"},
        {"kind": "run.end", "status": "stopped"},
        start,
    )
    assert held.stages["score"].state == held.stages["final"].state == "pending"
    assert held.assessed == {}
    fold_event(
        held, event_of({"kind": "stage.end", "stage": "score", "state": "reused", "seconds": 0.1})
    )
    assert held.stages["score"].built_seconds == 50.0
    assert held.attempts == 2


@pytest.mark.parametrize(("status", "told"), [("failed", "failed"), ("stopped", "stopped")])
def test_what_ran_when_a_run_ended(status: str, told: str) -> None:
    held = folded({"kind": "stage.start", "stage": "final"}, {"kind": "run.end", "status": status})
    assert held.stages["final"].state == told


def test_small_things_of_the_fold() -> None:
    held = folded({"kind": "paused"}, {"kind": "resumed"})
    assert held.state == "running"
    held = folded(*2 * [{"kind": "warning", "message": "x"}])
    assert len(held.warnings) == 1
    held = folded(
        {"kind": "train.step", "model": "m", "targets": 1, "total": 50, "model_targets": 10}
    )
    assert held.curves["m"].total_targets == 10
    held = folded(
        {"kind": "checkpoint", "stage": "final", "model": "a"},
        {"kind": "checkpoint", "stage": "final", "model": "b"},
    )
    assert held.checkpoint.before is None
    assert [e.model for e in held.recent] == ["a", "b"]
    point = {"kind": "evaluation", "model": "m", "targets": 5, "bits_per_byte": 1.0}
    assert len(folded(point, point).curves["m"].validation) == 1


def test_an_odd_field_takes_no_other_along() -> None:
    """Of an event, of a snapshot: what another version says otherwise is left out alone."""
    held = folded(
        {"kind": "stage.start", "stage": "final"},
        {"kind": "forecast", "flops": {"final": 3.0}},
        {"kind": "run.end", "status": "failed", "error": "in one word"},
    )
    assert (held.state, held.error, held.stages["final"].state) == ("failed", None, "failed")
    told = {"warnings": [{"message": 3}, {"message": "kept", "t": 1.0}], "state": "tomorrow's",
            "forecast": {"final": None, "score": 2.0}, "events": "many"}  # fmt: skip
    held = fold_event(RunState(), event_of({"kind": "snapshot", "state": told}))
    assert [w.message for w in held.warnings] == ["kept"]
    assert (held.forecast, held.events, held.state) == ({"score": 2.0}, 0, "stopped")


def test_a_stage_that_ended_in_a_way_of_tomorrow_was_not_built() -> None:
    held = folded({"kind": "stage.end", "stage": "score", "state": "skipped", "seconds": 5.0})
    assert held.stages["score"].state == "stopped"
    assert held.stages["score"].built_seconds is None


def test_a_stage_has_taken_what_all_its_attempts_took() -> None:
    """Stopped, crashed (up to its last event), ended, and ended again: not the last one alone."""
    told = [
        {"kind": "run.start", "t": 0.0},
        {"kind": "stage.start", "stage": "final", "t": 10.0},
        {"kind": "run.end", "status": "stopped", "t": 40.0},
        {"kind": "run.start", "t": 100.0},
        {"kind": "stage.start", "stage": "final", "t": 100.0},
        {"kind": "checkpoint", "stage": "final", "model": "m", "t": 107.0},
        {"kind": "run.start", "t": 500.0},
        {"kind": "stage.start", "stage": "final", "t": 500.0},
        {"kind": "stage.end", "stage": "final", "state": "done", "seconds": 3.0, "t": 503.0},
    ]
    final = folded(*told).stages["final"]
    assert final.spent == 30 + 7 + 3
    assert final.seconds == 3
