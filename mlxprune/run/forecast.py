"""Forecast: when a run will be done, and whether it can be left alone, from its state alone."""

from __future__ import annotations

from dataclasses import dataclass

from mlxprune.run.event_kinds import Device, RunStatus, StageStatus
from mlxprune.run.state import RunState, StageState

COMPUTE = ("reference", "score", "final", "evaluation")  # the stages whose FLOPs are forecast
UNSURE = (0.7, 1.8)  # the range of a stage that is only known by its FLOPs
LATE, FEWEST = 60, 4  # reports of a rate that an estimate rests on: at most, at least
LOW_DISK = 2 << 30
HIGH_MEMORY = 0.92


@dataclass(frozen=True)
class Finish:
    """Seconds until the end: ``likely``, between ``early`` and ``late``; None is not known yet.
    ``unknown`` names the stages that nothing is known of."""

    early: float | None
    likely: float | None
    late: float | None
    unknown: tuple[str, ...] = ()


def finish(state: RunState, now: float) -> Finish:
    """What is left of the running stage by its own estimate, its range by how its rate has moved;
    of later stages by their FLOPs at the pace of those that have run."""
    speed = pace(state)
    early = likely = late = 0.0
    unknown = []
    for name, stage in state.stages.items():
        span = None
        if stage.state in (StageStatus.RUNNING, StageStatus.STOPPED, StageStatus.FAILED):
            span = _running(stage) or _ahead(name, stage, state, speed)
        elif stage.state == StageStatus.PENDING:
            span = _ahead(name, stage, state, speed)
        else:
            continue
        if span is None:
            if name in COMPUTE:
                unknown.append(name)
            continue
        early, likely, late = early + span[0], likely + span[1], late + span[2]
    if unknown:
        return Finish(None, None, None, tuple(unknown))
    return Finish(early, likely, late)


def expected(state: RunState) -> dict[str, float]:
    """Likely seconds of the stages that have not begun, where anything is known of them."""
    speed = pace(state)
    seconds = {}
    for name, stage in state.stages.items():
        span = _ahead(name, stage, state, speed) if stage.state == StageStatus.PENDING else None
        if span is not None and span[1]:
            seconds[name] = span[1]
    return seconds


def left(stage: StageState) -> float | None:
    """Seconds that a running stage still takes, at its mean rate of late: a single report wavers,
    and the first ones are of a start."""
    span = _running(stage)
    return span[1] if span is not None else None


def _running(stage: StageState) -> tuple[float, float, float] | None:
    rates = [rate for rate in stage.rates["rate"][-LATE:] if rate and rate > 0]
    total, done = stage.total, stage.done
    if len(rates) < FEWEST or not total or done is None:
        return None
    mean, ordered = sum(rates) / len(rates), sorted(rates)
    low, high = ordered[len(rates) // 10], ordered[-1 - len(rates) // 10]
    seconds = max(0.0, total - done) / mean
    return seconds * min(0.95, mean / high), seconds, seconds * max(1.1, mean / low)


def _ahead(
    name: str, stage: StageState, state: RunState, speed: float | None
) -> tuple[float, float, float] | None:
    before = stage.built_seconds
    if before is not None:  # it was built in an earlier attempt: about that long again, or reused
        return 0.0, before, 1.1 * before
    flops = state.forecast.get(name)
    if flops and speed:
        return UNSURE[0] * flops / speed, flops / speed, UNSURE[1] * flops / speed
    return (0.0, 0.0, 15.0) if name not in COMPUTE else None


def pace(state: RunState) -> float | None:
    """FLOPs a second of all stages so far whose FLOPs are forecast."""
    flops = seconds = 0.0
    for name in COMPUTE:
        stage, planned = state.stages.get(name, StageState()), state.forecast.get(name)
        if not planned:
            continue
        if stage.state == StageStatus.DONE and stage.seconds:
            summary = stage.summary or {}
            built = summary["built"] / summary["pieces"] if summary.get("pieces") else 1.0
            flops, seconds = flops + built * planned, seconds + stage.seconds
        elif stage.state == StageStatus.RUNNING and stage.rate and stage.total:
            share = (stage.done or 0) / stage.total
            spent = share * stage.total / stage.rate
            flops, seconds = flops + share * planned, seconds + spent
    return flops / seconds if seconds > 1 else None


@dataclass(frozen=True)
class Check:
    """One thing that could end a run that is left alone. ``good`` None: not known here."""

    name: str
    good: bool | None
    told: str


def leaving(state: RunState, now: float) -> list[Check]:
    """Whether the run can be left alone: power, lid, disk, memory, heat, the next checkpoint."""
    device = state.machine or Device()
    return [
        _power(device),
        Check("lid", None, _lid(state.device)),
        _disk(device, state.disk_bytes),
        _memory(device),
        _heat(device),
        _checkpoint(state, now),
    ]


def _lid(machine: str | None) -> str:
    on_mac = "mac" in (machine or "").lower() or "apple" in (machine or "").lower()
    return "not known: keep it open" + (", or use caffeinate -s on mains power" if on_mac else "")


def _power(device: Device) -> Check:
    if device.power is None:
        return Check("power", None, "not known: no battery is reported")
    share = f"{100 * device.battery:.0f} %" if device.battery is not None else ""
    if device.low_power:
        return Check("power", False, f"Low Power Mode slows it down, battery {share}")
    if device.power == "plugged":
        return Check("power", True, f"plugged in, battery {share}")
    return Check("power", False, f"on battery, {share}")


def _heat(device: Device) -> Check:
    if device.heat is not None:
        return Check("heat", device.heat < 95, f"{device.heat:.0f} degrees")
    if device.thermal is not None:
        good = device.thermal in ("nominal", "moderate")
        told = f"thermal pressure {device.thermal}" + ("" if good else ": it is slowed down")
        return Check("heat", good, told)
    return Check("heat", None, "not measured")


def _disk(device: Device, whole: float | None) -> Check:
    """Against all that the run takes: what it has written already is on the safe side."""
    free = device.disk_free
    if free is None:
        return Check("disk", None, "not known")
    told = f"{free / 1e9:.1f} GB free"
    told += f"; the whole run takes about {whole / 1e9:.1f} GB" if whole else ""
    return Check("disk", free > max(LOW_DISK, whole or 0), told)


def _memory(device: Device) -> Check:
    total, used = device.memory_total, device.memory_used
    if not total or used is None:
        return Check("memory", None, "not known")
    swap = device.swap_used
    told = f"{used / 1e9:.1f} of {total / 1e9:.1f} GB in use"
    told += f", swap {swap / 1e9:.1f} GB" if swap else ""
    if device.pressure is not None:  # a Mac says itself when it is short
        return Check("memory", device.pressure == "normal", f"{told}, pressure {device.pressure}")
    return Check("memory", used / total < HIGH_MEMORY, told)


def _checkpoint(state: RunState, now: float) -> Check:
    """What a kill now would cost."""
    busy = running_stage(state)
    if state.state == RunStatus.PAUSED:
        return Check("checkpoint", True, "saved when it paused")
    if busy in ("reference", "final"):
        last = state.checkpoint
        if last is None or last.stage != busy or last.t is None:
            return Check("checkpoint", None, "none yet in this stage")
        age, every = now - last.t, None
        if last.before is not None:
            every = last.t - last.before
        told = f"{_minutes(age)} ago"
        if every:
            told += f", next in about {_minutes(max(0.0, every - age))}"
        return Check("checkpoint", True, told)
    if busy in ("score", "evaluation"):
        return Check("checkpoint", True, "finished parts are kept as they come")
    return Check("checkpoint", True, "finished stages are kept")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def running_stage(state: RunState) -> str | None:
    return next((n for n, s in state.stages.items() if s.state == StageStatus.RUNNING), None)
