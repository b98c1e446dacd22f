"""Status: how a run stands, by its state and by the process that its lock names."""

from __future__ import annotations

from enum import StrEnum

from mlxprune.records import Json
from mlxprune.run import forecast, lock
from mlxprune.run.event_kinds import RunStatus
from mlxprune.run.folder import RunFolder
from mlxprune.run.state import RunState

SLOW_SECONDS, STALE_SECONDS = 30.0, 180.0  # without a word, heartbeats being ten seconds apart


class Standing(StrEnum):
    """How a run stands: what its log says, or what becomes of one that should be at work."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    SLOW = "slow"  # alive, and without a word for some time
    STALE = "stale"  # alive, and without a word for long
    CRASHED = "crashed"  # the process that its lock names is dead
    UNKNOWN = "unknown"  # no process holds it, and the log does not say how it ended
    ELSEWHERE = "elsewhere"  # it ran on another host, which nobody here can know


LIVE = (
    Standing.RUNNING, Standing.PAUSED, Standing.SLOW, Standing.STALE, Standing.ELSEWHERE,
)  # fmt: skip

# Standings of runs that a person may go on with.
ENDED_EARLY = (Standing.CRASHED, Standing.STOPPED, Standing.FAILED, Standing.UNKNOWN)


def standing_of(run: RunFolder, state: RunState, now: float) -> Standing:
    """What the log says; what should be at work is looked after."""
    standing = Standing(str(state.state))
    if standing not in (Standing.RUNNING, Standing.PAUSED):
        return standing
    holder = lock.owner(run)
    if holder is None:
        return Standing.UNKNOWN  # the log is damaged, or a copy of one that ran
    alive = holder.alive()
    if alive is None:
        return Standing.ELSEWHERE
    if alive is False:
        return Standing.CRASHED
    silent = now - (state.updated or now)
    if silent > STALE_SECONDS:
        return Standing.STALE
    is_slow = silent > SLOW_SECONDS and standing == Standing.RUNNING
    return Standing.SLOW if is_slow else standing


def status_word(standing: Standing, state: RunState) -> str:
    """For ``status``: what should be at work and is not has crashed; else what the log says."""
    has_crashed = standing in (Standing.CRASHED, Standing.UNKNOWN)
    return str(Standing.CRASHED if has_crashed else state.state)


def status_json(run: RunFolder, state: RunState, now: float) -> Json:
    """What ``status --json`` prints of a run: its state without what is long, how it stands, where
    it lies, who works on it, and when it will be done."""
    status = state.as_json()
    holder = lock.owner(run)
    standing = standing_of(run, state, now)
    left = forecast.finish(state, now) if state.state == RunStatus.RUNNING else None
    status["state"] = status_word(standing, state)
    status["standing"] = str(standing)
    status["finish_seconds"] = left and {
        "early": left.early,
        "likely": left.likely,
        "late": left.late,
    }
    status["folder"] = str(run.path)
    at_work = status["state"] in ("running", "paused")
    status["pid"] = holder.pid if holder and at_work else None
    for key in ("curves", "result", "recent", "memory"):
        del status[key]
    return status
