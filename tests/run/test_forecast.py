from __future__ import annotations

from typing import Any

import pytest

from mlxprune.run import forecast
from mlxprune.run.event_kinds import Device
from mlxprune.run.state import CheckpointFacts, RunState, StageState


def stage(state: str, rates: list[list[float]] | None = None, **fields: Any) -> StageState:
    found = StageState(state=state, **fields)
    found.rates.take(rates)
    return found


def held(**stages: StageState) -> RunState:
    found = RunState()
    found.forecast = {"reference": 10.0, "score": 20.0, "final": 200.0, "evaluation": 10.0}
    for name in ("corpus", "split", "tokenizer", "tokens"):
        found.stages[name] = stage("done", seconds=1.0)
    found.stages |= stages
    return found


def test_later_stages_take_their_flops_at_the_pace_so_far() -> None:
    found = forecast.finish(
        held(reference=stage("done", seconds=10.0), score=stage("done", seconds=20.0)),
        0.0,
    )
    # 30 FLOPs in 30 s: 210 are left.
    assert found.likely == pytest.approx(210.0)
    assert found.early is not None
    assert found.late is not None
    assert found.early < found.likely < found.late


def test_the_running_stage_speaks_for_itself() -> None:
    rates = [[float(n), 90.0 + n % 20] for n in range(60)]
    # One slow report, and what the engine makes of it, do not move the estimate.
    rates[-1][1] = 9.0
    running = stage("running", eta_seconds=9999.0, rate=9.0, rates=rates,
               done=5000, total=13_000)  # fmt: skip
    done = stage("done", seconds=1.0)
    found = forecast.finish(
        held(reference=done, score=done, selection=done, final=running, evaluation=done,
             report=done), 0.0,
    )  # fmt: skip
    assert found.likely == pytest.approx(80.0, rel=0.05)
    assert found.early is not None
    assert found.late is not None
    assert 65.0 <= found.early < found.likely < found.late <= 95.0


def test_the_first_reports_tell_nothing() -> None:
    first = stage("running", rates=[[1.0, 3.0], [2.0, 50.0]], done=1, total=1000)
    assert forecast.left(first) is None
    assert forecast.finish(held(reference=first), 0.0).likely is None


def test_nothing_is_guessed_before_anything_has_run() -> None:
    found = forecast.finish(held(), 0.0)
    assert found.likely is None
    assert found.unknown[0] == "reference"
    assert forecast.finish(RunState(), 0.0).likely is None


def test_leaving_says_what_it_does_not_know() -> None:
    found = {c.name: c for c in forecast.leaving(RunState(), 0.0)}
    assert found["power"].good is None
    assert found["disk"].good is None
    assert found["memory"].good is None
    assert set(found) == {"power", "lid", "disk", "memory", "heat", "checkpoint"}


def test_leaving_warns() -> None:
    one = held(final=stage("running"))
    one.machine = Device(
        power="battery", battery=0.4, disk_free=1 << 20, memory_total=100, memory_used=99,
        swap_used=0, heat=99.0,
    )  # fmt: skip
    one.checkpoint = CheckpointFacts(t=900.0, stage="final", model="m", step=3, before=800.0)
    found = {c.name: c for c in forecast.leaving(one, 950.0)}
    assert [found[n].good for n in ("power", "disk", "memory", "heat")] == [False] * 4
    assert found["checkpoint"].told == "50 s ago, next in about 50 s"
    one.machine = Device(
        power="plugged", battery=0.4, disk_free=1 << 40, memory_total=100, memory_used=9, heat=50.0
    )
    found = {c.name: c for c in forecast.leaving(one, 950.0)}
    assert [found[n].good for n in ("power", "disk", "memory", "heat")] == [True] * 4


def test_the_disk_must_hold_the_whole_run() -> None:
    one = held(final=stage("running"))
    one.machine, one.disk_bytes = Device(disk_free=10 << 30), 9 << 30
    assert next(c for c in forecast.leaving(one, 0.0) if c.name == "disk").good is True
    one.disk_bytes = 11 << 30
    assert next(c for c in forecast.leaving(one, 0.0) if c.name == "disk").good is False


def test_stages_to_come_are_told_apart_at_the_pace_so_far() -> None:
    done = stage("done", seconds=10.0)
    assert forecast.expected(held(reference=done)) == {
        "score": pytest.approx(20.0), "final": pytest.approx(200.0),
        "evaluation": pytest.approx(10.0),
    }  # fmt: skip
    assert forecast.expected(held()) == {}


def test_outlook_of_stopped_reused_and_shared_work() -> None:
    held = RunState()
    for name in held.stages:
        held.stages[name] = stage("done", seconds=1.0)
    held.forecast = {"score": 100.0, "final": 200.0}
    held.stages["score"] = stage("done", seconds=10.0, summary={"built": 1, "pieces": 2})
    held.stages["final"] = stage("stopped")
    assert forecast.pace(held) == pytest.approx(5.0)  # half of it was there before
    assert forecast.finish(held, 0.0).likely == pytest.approx(40.0)
    held.stages["final"] = stage("pending", built_seconds=7.0)
    assert forecast.finish(held, 0.0).likely == pytest.approx(7.0)
    held.stages["final"] = stage("running", rate=10.0, total=100, done=50)
    assert forecast.pace(held) == pytest.approx((50.0 + 100.0) / 15.0)
    held.checkpoint = CheckpointFacts(t=0.0, stage="reference")
    told = {c.name: c for c in forecast.leaving(held, 9.0)}["checkpoint"]
    assert told.good is None
