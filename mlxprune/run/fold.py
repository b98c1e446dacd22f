"""One fold turns the events of a run into its state; every reader shares it.

A reader ignores what it does not know: unknown kinds and fields never break the fold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from mlxprune.run import event_kinds as kinds
from mlxprune.run.event_kinds import (
    EVENTS_VERSION,
    Device,
    Event,
    Histogram,
    Number,
    RunStatus,
    StageStatus,
)
from mlxprune.run.state import (
    PROGRESS,
    TRAIN_POINT,
    VALIDATION_POINT,
    AssessedFigures,
    CheckpointFacts,
    MemorisingFacts,
    RunState,
    WarningFacts,
    state_of,
    status_of,
)

CURVE_POINTS = 2000
HISTORY_POINTS = 240  # of a rate, of the memory
WARNINGS_KEPT = 50
RECENT_KEPT = 100
NEWEST = (kinds.Checkpoint, kinds.Evaluation, kinds.Memorising)  # of these, one a model is enough


def fold_event(state: RunState, event: Event) -> RunState:
    """Apply one event in place and return the state."""
    if isinstance(event, kinds.Snapshot):
        if isinstance(event.state, dict):
            state.__dict__.update(state_of(event.state).__dict__)
        return state
    state.events += 1
    if isinstance(event, kinds.RunStart | kinds.RunEnd):
        _close_stages(state, event.t if isinstance(event, kinds.RunEnd) else state.updated)
    state.updated = event.t
    if (event.v or 0) > EVENTS_VERSION:
        state.newer = event.v
    peak = getattr(event, "peak_memory_bytes", None)
    state.peak_memory_bytes = max(state.peak_memory_bytes, _bytes(peak))
    handler = _HANDLERS.get(type(event))
    if handler is not None:
        handler(state, event)
    if event.notable:
        if isinstance(event, NEWEST):
            state.recent = [e for e in state.recent if not _alike(e, event)]
        state.recent.append(_short(event))
        del state.recent[:-RECENT_KEPT]
    return state


def _bytes(value: Number | None) -> int:
    return int(value) if value is not None and 0 <= value < float("inf") else 0


def _alike(one: Event, other: Event) -> bool:
    return (
        type(one) is type(other)
        and one.stage == other.stage
        and getattr(one, "model", None) == getattr(other, "model", None)
    )


def _short(event: Event) -> Event:
    """An event without its trees and lists: what is kept of it for people."""
    large = {
        name: None
        for name in event.__struct_fields__
        if isinstance(getattr(event, name), dict | list | msgspec.Struct)
    }
    return msgspec.structs.replace(event, **large)


def _close_stages(state: RunState, ended: float | None) -> None:
    """What a stage took that an attempt left unfinished; after a crash, up to its last event."""
    for stage in state.stages.values():
        if stage.state == StageStatus.RUNNING and stage.started is not None and ended is not None:
            stage.spent += max(0.0, ended - stage.started)


def _run_start(state: RunState, event: kinds.RunStart) -> None:
    state.run, state.state, state.error = event.run, RunStatus.RUNNING, None
    state.started = state.started or event.t
    state.attempts += 1
    state.attempt_started = event.t
    state.device, state.disk_bytes = event.device, event.disk_bytes
    state.assessed = {}  # said again, when it is current
    # Until this run has found or made it:
    state.stages = {name: stage.renewed(True) for name, stage in state.stages.items()}


def _stage_start(state: RunState, event: kinds.StageStart) -> None:
    stage = state.stage(event.stage).renewed(False)
    stage.state, stage.started, stage.why = StageStatus.RUNNING, event.t, event.why
    state.stages[str(event.stage)] = stage


def _progress(state: RunState, event: kinds.Progress | kinds.TrainStep) -> None:
    stage = state.stage(event.stage)
    for name in PROGRESS:
        if hasattr(event, name):
            value = getattr(event, name)
            if value is not None or name not in event.sparing:
                setattr(stage, name, value)
                stage.told.add(name)
    if event.rate is not None:
        stage.rates.add([event.t, event.rate], HISTORY_POINTS)


def _train_step(state: RunState, event: kinds.TrainStep) -> None:
    _progress(state, event)
    curve = state.curve(event.model)
    point = [event.pass_number if n == "pass" else getattr(event, n) for n in TRAIN_POINT]
    curve.train.add(point, CURVE_POINTS)
    curve.total_targets = event.model_targets or event.total
    state.targets_trained += int(event.new_targets or 0)


def _evaluation(state: RunState, event: kinds.Evaluation) -> None:
    point = [getattr(event, name) for name in VALIDATION_POINT]
    state.curve(event.model).validation.add(point, CURVE_POINTS)
    state.memorising.pop(str(event.model), None)  # said again, while it lasts


def _memorising(state: RunState, event: kinds.Memorising) -> None:
    figures = {name: getattr(event, name) for name in MemorisingFacts.__struct_fields__}
    state.memorising[str(event.model)] = MemorisingFacts(**figures)


def _assessed(state: RunState, event: kinds.Assessed) -> None:
    figures = {name: getattr(event, name) for name in AssessedFigures.__struct_fields__}
    state.assessed[str(event.model)] = AssessedFigures(**figures)


def _histogram(state: RunState, event: Histogram) -> None:
    state.histogram = event


def _histogram_added(state: RunState, event: kinds.HistogramAdded) -> None:
    """Anew, never in place: who draws may hold the one before."""
    now = state.histogram
    if now is None or now.edges is None or event.bins is None:
        return
    columns = {}
    for name in ("documents", "tokens", "bytes"):
        column = [*(getattr(now, name) or [0] * (len(now.edges) - 1))]
        for place, count in zip(event.bins, getattr(event, name) or [], strict=False):
            if 0 <= place < len(column):
                column[place] += count
        columns[name] = column
    domains = dict(now.domains or {})
    for name, added in (event.domains or {}).items():
        domains[name] = _with_added(domains.get(name), added, len(now.edges) - 1)
    state.histogram = msgspec.structs.replace(
        now, t=event.t, **columns, domains=domains,
        in_hand_bins=event.in_hand_bins, in_hand=event.in_hand,
    )  # fmt: skip


def _with_added(
    before: kinds.DomainHistogram | None, added: kinds.DomainAdded, bins: int
) -> kinds.DomainHistogram:
    counts = [0] * bins
    if before is not None:
        for at, count in enumerate(before.counts, before.first):
            if 0 <= at < bins:
                counts[at] += count
    for at, count in zip(added.bins, added.counts, strict=False):
        if 0 <= at < bins:
            counts[at] += count
    filled = [at for at, count in enumerate(counts) if count]
    first, last = (filled[0], filled[-1]) if filled else (0, -1)
    return kinds.DomainHistogram(
        first=first,
        counts=counts[first : last + 1],
        nll=(before.nll if before else 0.0) + added.nll,
        tokens=(before.tokens if before else 0.0) + added.tokens,
        bytes=(before.bytes if before else 0.0) + added.bytes,
    )


def _forecast(state: RunState, event: kinds.Forecast) -> None:
    state.forecast = event.flops or {}


def _device(state: RunState, event: Device) -> None:
    state.machine = event
    total, used = event.memory_total, event.memory_used
    share = used / total if total and used is not None else None
    state.memory.add([event.t, event.memory_bytes, share], HISTORY_POINTS)


def _checkpoint(state: RunState, event: kinds.Checkpoint) -> None:
    state.stage(event.stage).checkpoint = event.t
    last = state.checkpoint
    before = last.t if last is not None and last.model == event.model else None
    state.checkpoint = CheckpointFacts(
        t=event.t, stage=event.stage, model=event.model, step=event.step, before=before
    )


def _paused(state: RunState, event: kinds.Paused) -> None:
    state.state = RunStatus.PAUSED


def _resumed(state: RunState, event: kinds.Resumed) -> None:
    state.state = RunStatus.RUNNING


def _warning(state: RunState, event: kinds.Warned) -> None:
    if event.message not in [warning.message for warning in state.warnings]:
        state.warnings.append(WarningFacts(t=event.t, message=event.message))
        del state.warnings[:-WARNINGS_KEPT]


def _restarted(state: RunState, event: kinds.Restarted) -> None:
    ending = str(event.ending)
    state.restarts[ending] = state.restarts.get(ending, 0) + 1


def _slept(state: RunState, event: kinds.Slept) -> None:
    state.slept_seconds += event.seconds or 0.0


def _stage_end(state: RunState, event: kinds.StageEnd) -> None:
    stage = state.stage(event.stage)
    stage.state, stage.seconds = status_of(event.state, StageStatus.STOPPED), event.seconds
    stage.spent += event.seconds or 0.0
    if stage.state == StageStatus.DONE:
        stage.built_seconds = stage.seconds
    stage.why = stage.why if event.why is None else event.why
    stage.summary = stage.summary if event.summary is None else event.summary


def _run_end(state: RunState, event: kinds.RunEnd) -> None:
    state.state = status_of(event.status, RunStatus.STOPPED)
    state.error, state.result = event.error, event.result
    for stage in state.stages.values():
        if stage.state == StageStatus.RUNNING:
            is_failed = state.state == RunStatus.FAILED
            stage.state = StageStatus.FAILED if is_failed else StageStatus.STOPPED


_HANDLERS: dict[type[Event], Callable[[RunState, Any], None]] = {
    kinds.RunStart: _run_start,
    kinds.StageStart: _stage_start,
    kinds.Progress: _progress,
    kinds.TrainStep: _train_step,
    kinds.Evaluation: _evaluation,
    kinds.Memorising: _memorising,
    kinds.Assessed: _assessed,
    Histogram: _histogram,
    kinds.HistogramAdded: _histogram_added,
    kinds.Forecast: _forecast,
    Device: _device,
    kinds.Checkpoint: _checkpoint,
    kinds.Paused: _paused,
    kinds.Resumed: _resumed,
    kinds.Warned: _warning,
    kinds.Restarted: _restarted,
    kinds.Slept: _slept,
    kinds.StageEnd: _stage_end,
    kinds.RunEnd: _run_end,
}
