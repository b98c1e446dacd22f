from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mlxprune import state


def step(targets: float, loss: float | None, **more: Any) -> dict[str, Any]:
    told = {"kind": "train.step", "stage": "final", "model": "m", "targets": targets, "t": targets}
    return {**told, "loss": loss, **more}


def test_a_spike_outlives_the_thinning(generator: np.random.Generator) -> None:
    held = state.initial()
    spikes = {int(n): 50.0 + n / 1e6 for n in generator.choice(40_000, 5, replace=False)}
    for n in range(40_000):
        state.fold(held, step(n + 1, spikes.get(n, 3.0 + math.sin(n))))
    points = held["curves"]["m"]["train"]
    assert len(points) <= state.CURVE_POINTS
    assert [p[0] for p in points] == sorted(p[0] for p in points)
    assert set(spikes.values()) <= {p[1] for p in points}
    assert points[0][0] == 1
    assert points[-1][0] == 40_000


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_odd_losses_are_kept_and_thinned(value: float | None) -> None:
    held = state.initial()
    for n in range(5000):
        state.fold(held, step(n + 1, value if n % 2 else 3.0))
    assert len(held["curves"]["m"]["train"]) <= state.CURVE_POINTS


def test_what_grows_is_bounded() -> None:
    """A day of events leaves a state that is no larger than that of two hours."""
    held = state.initial()
    device = {"kind": "device", "memory_bytes": 1, "memory_used": 1, "memory_total": 2}
    for n in range(6000):
        state.fold(held, step(n + 1, 3.0, rate=1.0 + n))
        state.fold(held, {**device, "t": float(n)})
        state.fold(held, {"kind": "warning", "message": f"w{n}", "t": float(n)})
        state.fold(held, {"kind": "checkpoint", "stage": "final", "model": "m", "t": float(n)})
    assert len(held["stages"]["final"]["rates"]) <= state.HISTORY_POINTS
    assert len(held["memory"]) <= state.HISTORY_POINTS
    assert len(held["recent"]) <= state.RECENT_KEPT
    assert len(held["warnings"]) <= state.WARNINGS_KEPT
    assert held["checkpoint"]["t"] - held["checkpoint"]["before"] == 1.0


def test_a_snapshot_of_an_older_version_is_completed() -> None:
    old = {"run": "x", "state": "running", "stages": {"final": {"state": "running"}}, "curves": {}}
    held = state.fold(state.initial(), {"kind": "snapshot", "state": old})
    assert held["run"] == "x"
    assert set(state.initial()) <= set(held)
    state.fold(held, step(100, 3.0))
    state.fold(held, {"kind": "checkpoint", "stage": "final", "model": "m", "t": 1.0})


def test_a_record_of_a_newer_version_is_noted_and_folded() -> None:
    held = state.initial()
    state.fold(held, {"v": state.VERSION + 1, "kind": "warning", "message": "x", "t": 1.0})
    state.fold(held, {"v": 1, "kind": "a-kind-of-tomorrow", "t": 2.0})
    assert held["newer"] == state.VERSION + 1
    assert held["warnings"]


def test_recent_holds_what_people_would_be_told() -> None:
    held = state.initial()
    state.fold(held, {"kind": "run.start", "t": 1.0, "run": "x", "config": {"large": 1}})
    state.fold(held, {"kind": "progress", "stage": "score", "t": 2.0, "done": 1})
    state.fold(held, {"kind": "stage.end", "stage": "score", "state": "done", "t": 3.0})
    assert [e["kind"] for e in held["recent"]] == ["run.start", "stage.end"]
    assert "config" not in held["recent"][0]
