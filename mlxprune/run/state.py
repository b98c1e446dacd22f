"""The state of a run: what people and programs ask. A segment of the log begins with one.

``fold`` makes it from events; here it is written into a snapshot and read back from one, also from
those of older versions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import typing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from mlxprune.columns import Columns
from mlxprune.records import plain
from mlxprune.run.event_kinds import (
    Device,
    ErrorFacts,
    Event,
    Histogram,
    Number,
    RunStatus,
    StageStatus,
    Wire,
)
from mlxprune.run.folder import STAGES
from mlxprune.run.wire import event_of

# What a point of a curve holds. People look at more of a training than of a validation.
TRAIN_POINT = (
    "targets", "loss", "learning_rate", "pass", "step", "t", "gradient_norm", "rate",
    "utilisation",
)  # fmt: skip
VALIDATION_POINT = ("targets", "bits_per_byte", "rank_correlation", "t")
T = TypeVar("T")
Status = TypeVar("Status", RunStatus, StageStatus)


@dataclass
class StageState:
    """How far a stage is, how fast, how long it took when it was last built, and how long it has
    taken over all attempts (``spent``)."""

    state: StageStatus = StageStatus.PENDING
    started: float | None = None
    why: str | None = None  # it runs or ran
    seconds: Number | None = None
    summary: Wire | None = None  # what it made, in a few figures
    checkpoint: float | None = None  # when the last one was saved
    done: Number | None = None
    total: Number | None = None
    unit: str | None = None
    what: str | None = None  # the model or piece in hand
    rate: Number | None = None  # units a second
    eta_seconds: Number | None = None
    padding_share: Number | None = None  # of token slots
    input_wait_share: Number | None = None  # of the time
    utilisation: Number | None = None  # FLOPs over those of the measured matrix product
    peak_memory_bytes: Number | None = None
    built_seconds: Number | None = None
    spent: Number = 0.0
    rates: Columns = field(default_factory=lambda: Columns(("t", "rate"), "rate"))
    told: set[str] = field(default_factory=set)  # fields of progress that an event has had

    def renewed(self, keep_rates: bool) -> StageState:
        """Forgotten all but how long it took, and how fast it was, when it was last built."""
        fresh = StageState(built_seconds=self.built_seconds, spent=self.spent)
        if keep_rates:
            for name in BUILT:
                setattr(fresh, name, getattr(self, name))
            fresh.rates = self.rates
        return fresh

    def as_json(self) -> Wire:
        """What is known, by name; of progress also what is known to be unknown."""
        known: Wire = {}
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            if one.name == "rates":
                known |= {"rates": value.rows()} if len(value) else {}
            elif one.name != "told" and (value is not None or one.name in self.told):
                known[one.name] = value
        return known


# What of a progress event is kept of a stage: how far it is, and how well it uses the machine.
PROGRESS = (
    "done", "total", "unit", "what", "rate", "eta_seconds", "padding_share", "input_wait_share",
    "utilisation", "peak_memory_bytes",
)  # fmt: skip
BUILT = ("rate", "padding_share", "input_wait_share", "utilisation", "peak_memory_bytes")


@dataclass
class Curve:
    """The training and the validation of one model."""

    train: Columns = field(default_factory=lambda: Columns(TRAIN_POINT, "loss"))
    validation: Columns = field(default_factory=lambda: Columns(VALIDATION_POINT, "bits_per_byte"))
    total_targets: Number | None = None  # that it is to train on


class AssessedFigures(msgspec.Struct, kw_only=True):
    """What an ``assessed`` event says of a model."""

    macro: float | None = None
    original_mix: float | None = None
    target: float | None = None
    gold_bpb: float | None = None
    accuracy: float | None = None
    categories: dict[str, float | None] | None = None


class CheckpointFacts(msgspec.Struct, kw_only=True):
    """The newest checkpoint, and when the one ``before`` it of the same model was saved."""

    t: float | None = None
    stage: str | None = None
    model: str | None = None
    step: Number | None = None
    before: float | None = None


class MemorisingFacts(msgspec.Struct, kw_only=True):
    """What the last ``memorising`` event of a model says."""

    t: float | None = None
    targets: Number | None = None
    bits_per_byte: float | None = None
    best: float | None = None
    best_targets: Number | None = None
    best_pass: Number | None = None
    since: Number | None = None
    pass_number: Number | None = None


class WarningFacts(msgspec.Struct, kw_only=True):
    t: float | None = None
    message: str | None = None


@dataclass
class RunState:
    """A run as its events tell it."""

    run: str | None = None
    state: RunStatus = RunStatus.PENDING
    error: ErrorFacts | None = None
    started: float | None = None
    attempt_started: float | None = None
    updated: float | None = None
    events: int = 0
    attempts: int = 0
    device: str | None = None
    stages: dict[str, StageState] = field(
        default_factory=lambda: {name: StageState() for name in STAGES}
    )
    curves: dict[str, Curve] = field(default_factory=dict)  # by model
    assessed: dict[str, AssessedFigures] = field(default_factory=dict)  # by model
    memorising: dict[str, MemorisingFacts] = field(default_factory=dict)  # by model, while it does
    histogram: Histogram | None = None
    forecast: dict[str, float] = field(default_factory=dict)  # FLOPs by stage
    machine: Device | None = None  # the newest sample
    memory: Columns = field(
        default_factory=lambda: Columns(("t", "memory_bytes", "share"), "memory_bytes")
    )
    disk_bytes: Number | None = None  # about what the whole run takes
    checkpoint: CheckpointFacts | None = None
    recent: list[Event] = field(default_factory=list)
    newer: int | None = None  # the version of records that this fold may not understand
    warnings: list[WarningFacts] = field(default_factory=list)
    slept_seconds: float = 0.0  # of the machine, while the run was at work
    restarts: dict[str, int] = field(default_factory=dict)  # of processes, by how they ended
    targets_trained: int = 0  # over all attempts, repeated work included
    peak_memory_bytes: int = 0
    result: Wire | None = None

    def stage(self, name: str | None) -> StageState:
        """The state of a stage, known or not."""
        return self.stages.setdefault(str(name), StageState())

    def curve(self, model: str | None) -> Curve:
        return self.curves.setdefault(str(model), Curve())

    def as_json(self) -> Wire:
        """As a snapshot holds it."""
        known = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        known["stages"] = {name: stage.as_json() for name, stage in self.stages.items()}
        known["curves"] = {
            model: {
                "train": curve.train.cells,
                "validation": curve.validation.cells,
                "total_targets": curve.total_targets,
            }
            for model, curve in self.curves.items()
        }
        known["memory"] = self.memory.cells
        known["recent"] = [event.wire() for event in self.recent]
        for name in ("histogram", "machine"):
            held = known[name]
            known[name] = None if held is None else _without_order(held.wire(), name)
        return plain(known)  # type: ignore[no-any-return]


def _without_order(wire: Wire, name: str) -> Wire:
    """A newest event as a part of the state: without who wrote it in which order."""
    dropped = {"v", "seq", "writer", "kind"} | ({"t", "stage"} if name == "histogram" else set())
    return {k: v for k, v in wire.items() if k not in dropped}


def state_of(snapshot: Wire) -> RunState:
    """The state that a snapshot holds; what another version says otherwise is not taken."""
    state = RunState()
    for name, kind in _PLAIN.items():
        if snapshot.get(name) is not None:
            setattr(state, name, _taken(snapshot[name], kind, getattr(state, name)))
    if snapshot.get("state") is not None:
        state.state = status_of(snapshot["state"], RunStatus.STOPPED)
    for name, stage in _tables(snapshot.get("stages")):
        state.stages[name] = _stage_of(stage)
    for model, curve in _tables(snapshot.get("curves")):
        state.curves[model] = held = Curve()
        held.train.take(curve.get("train"))
        held.validation.take(curve.get("validation"))
        held.total_targets = _taken(curve.get("total_targets"), Number | None, None)
    for name, kind in (("histogram", Histogram), ("machine", Device)):
        if isinstance(snapshot.get(name), dict):
            tag = {"kind": str(kind.__struct_config__.tag)}
            setattr(state, name, _taken({**snapshot[name], **tag}, kind | None, None))
    state.memory.take(snapshot.get("memory"))
    recent = snapshot.get("recent")
    state.recent = [event_of(e) for e in recent or [] if isinstance(e, dict)]
    return state


# The fields of a state that are read as they stand.
_PLAIN: dict[str, Any] = {
    "run": str | None,
    "error": ErrorFacts | None,
    "started": float | None,
    "attempt_started": float | None,
    "updated": float | None,
    "events": int,
    "attempts": int,
    "device": str | None,
    "assessed": dict[str, AssessedFigures],
    "memorising": dict[str, MemorisingFacts],
    "forecast": dict[str, float],
    "disk_bytes": Number | None,
    "checkpoint": CheckpointFacts | None,
    "newer": int | None,
    "warnings": list[WarningFacts],
    "restarts": dict[str, int],
    "slept_seconds": float,
    "targets_trained": int,
    "peak_memory_bytes": int,
    "result": dict[str, Any] | None,
}


def _taken(value: object, kind: Any, usual: T) -> T:
    """A value of this kind; of a list or a table the elements that are of it, each by itself."""
    with contextlib.suppress(msgspec.ValidationError):
        taken = msgspec.convert(value, kind, strict=False)
        if isinstance(taken, float) and not math.isfinite(taken):
            return usual
        return taken  # type: ignore[no-any-return]
    if isinstance(value, list) and typing.get_origin(kind) is list:
        kept: Any = [one for part in value for one in _taken_alone(kind, [part])]
        return kept  # type: ignore[no-any-return]
    if isinstance(value, dict) and typing.get_origin(kind) is dict:
        found: Any = {}
        for key, part in value.items():
            found |= _taken_alone(kind, {key: part})
        return found  # type: ignore[no-any-return]
    return usual


def _taken_alone(kind: Any, alone: Any) -> Any:
    try:
        return msgspec.convert(alone, kind, strict=False)
    except msgspec.ValidationError:
        return type(alone)()


def status_of(word: object, usual: Status) -> Status:
    """The status that a log says; ``usual`` where it is one of another version."""
    try:
        return type(usual)(str(word))
    except ValueError:
        return usual


def _tables(told: object) -> list[tuple[str, Wire]]:
    held = told if isinstance(told, dict) else {}
    return [(str(name), value) for name, value in held.items() if isinstance(value, dict)]


_STAGE: dict[str, Any] = {
    name: kind
    for name, kind in typing.get_type_hints(StageState).items()
    if name not in ("state", "rates", "told")
}


def _stage_of(snapshot: Wire) -> StageState:
    stage = StageState()
    for one in dataclasses.fields(stage):
        if one.name in snapshot and one.name not in ("rates", "told", "state"):
            value, usual = snapshot[one.name], getattr(stage, one.name)
            setattr(stage, one.name, _taken(value, _STAGE[one.name], usual))
    stage.state = status_of(snapshot.get("state", "pending"), StageStatus.STOPPED)
    stage.told = {name for name in PROGRESS if name in snapshot}
    stage.rates.take(snapshot.get("rates"))
    return stage
