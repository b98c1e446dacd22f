"""Every kind of event, one class each, and what its fields mean.

On the wire an event is a flat map: the envelope {v, seq, t, writer, stage, kind}, then the fields
of its kind. A field that a log does not have is None.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, get_args

import msgspec

from mlxprune.records import plain

EVENTS_VERSION = 2  # since 2, every record holds a checksum
Number = int | float
Wire = dict[str, Any]  # an event as msgpack and JSON have it


class Event(msgspec.Struct, kw_only=True, tag_field="kind"):
    """What every event has: who wrote it when, in which order, and about which stage."""

    frequent: ClassVar[bool] = False  # written at most twice a second
    notable: ClassVar[bool] = False  # changes what a person would do next
    sparing: ClassVar[frozenset[str]] = frozenset()  # fields that are left out where they are None

    v: int | None = None
    seq: int | None = None
    t: float | None = None  # seconds since 1970
    writer: str | None = None
    stage: str | None = None

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)

    def wire(self) -> Wire:
        """As it is written: the envelope first."""
        told = plain(self)
        kind = told.pop("kind")
        envelope = {name: told.pop(name) for name in ("v", "seq", "t", "writer", "stage")}
        kept = {k: v for k, v in told.items() if v is not None or k not in self.sparing}
        return {**envelope, "kind": kind, **kept}


class Unknown(Event, tag="unknown"):
    """An event of a kind that this version does not know, or one that is damaged."""

    name: str = ""  # what it calls itself
    damaged: bool = False

    @property
    def kind(self) -> str:
        return self.name


class Snapshot(Event, tag="snapshot"):
    """state: the folded state up to here; first record of a segment"""

    state: Wire | None = None


class RunStart(Event, tag="run.start"):
    """run, folder, device, config, versions, pid, disk_bytes (about what the whole run takes)"""

    notable = True
    run: str | None = None
    folder: str | None = None
    config: Wire | None = None
    device: str | None = None
    versions: dict[str, str] | None = None
    pid: int | None = None
    disk_bytes: Number | None = None


class RunStatus(StrEnum):
    """What the log of a run says of it."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


class StageStatus(StrEnum):
    """What the log of a run says of a stage; reused: what an earlier start has made."""

    PENDING = "pending"
    RUNNING = "running"
    REUSED = "reused"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


class Reason(StrEnum):
    """Why a stage runs, where nothing has changed."""

    FIRST = "was not done before"
    FORCED = "forced"
    UNFINISHED = "unfinished"
    DAMAGED = "damaged"
    ASKED = "asked for"


class StageStart(Event, tag="stage.start"):
    """why: why the stage runs (missing, or what made it out of date)"""

    notable = True
    why: str | None = None


class Progress(Event, tag="progress"):
    """done, total, unit, what, rate (units a second), eta_seconds; of scoring also padding_share
    (of token slots), input_wait_share (of the time), utilisation (model FLOPs over those of the
    measured matrix product), peak_memory_bytes (of a process)"""

    frequent = True
    sparing = frozenset({"padding_share", "input_wait_share", "utilisation", "peak_memory_bytes"})
    done: Number | None = None
    total: Number | None = None
    unit: str | None = None
    what: str | None = None
    rate: Number | None = None
    eta_seconds: Number | None = None
    padding_share: Number | None = None
    input_wait_share: Number | None = None
    utilisation: Number | None = None
    peak_memory_bytes: Number | None = None


class Forecast(Event, tag="forecast"):
    """flops: by stage, of all that the run trains, scores and evaluates"""

    flops: dict[str, float] | None = None


class DomainHistogram(msgspec.Struct, kw_only=True):
    """Documents of a domain by bin from the ``first`` filled one on, and sums over the domain."""

    first: int
    counts: list[int]
    nll: float
    tokens: float
    bytes: float


class Histogram(Event, tag="histogram"):
    """edges (mean negative log-likelihood, nats); by bin documents, tokens, bytes, all of finished
    units: a fair sample at any moment; domains {name: documents by bin, and the sums nll, tokens,
    bytes}, the largest; in_hand: documents of units that are not finished by what they come to so
    far, in the bins in_hand_bins: long ones first, so no fair sample"""

    frequent = True
    sparing = frozenset({"in_hand_bins", "in_hand"})
    edges: list[float] | None = None
    documents: list[int] | None = None
    tokens: list[int] | None = None
    bytes: list[int] | None = None
    domains: dict[str, DomainHistogram] | None = None
    in_hand_bins: list[int] | None = None
    in_hand: list[int] | None = None


class DomainAdded(msgspec.Struct, kw_only=True):
    """What came to a domain: documents by bin, and to its sums."""

    bins: list[int]
    counts: list[int]
    nll: float
    tokens: float
    bytes: float


class HistogramAdded(Event, tag="histogram.added"):
    """what came to the last histogram since: documents, tokens and bytes in the bins of these
    numbers; domains {name: documents in bins of these numbers, and what came to its sums}; in_hand
    and in_hand_bins in place of those before"""

    frequent = True
    sparing = frozenset({"in_hand_bins", "in_hand"})
    bins: list[int] | None = None
    documents: list[int] | None = None
    tokens: list[int] | None = None
    bytes: list[int] | None = None
    domains: dict[str, DomainAdded] | None = None
    in_hand_bins: list[int] | None = None
    in_hand: list[int] | None = None


class TrainStep(Event, tag="train.step"):
    """model, step, targets, model_targets, new_targets, done and total (of all trainings of the
    stage), pass, loss (nats, mean since the last event), learning_rate, gradient_norm, rate
    (targets a second), eta_seconds, peak_memory_bytes, utilisation, input_wait_share"""

    frequent = True
    model: str | None = None
    what: str | None = None
    step: Number | None = None
    targets: Number | None = None
    done: Number | None = None
    total: Number | None = None
    unit: str | None = None
    model_targets: Number | None = None
    new_targets: Number | None = None
    loss: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    rate: Number | None = None
    eta_seconds: Number | None = None
    peak_memory_bytes: Number | None = None
    utilisation: Number | None = None
    input_wait_share: Number | None = None
    pass_number: Number | None = msgspec.field(default=None, name="pass")


class Evaluation(Event, tag="evaluation"):
    """model, targets, bits_per_byte on the validation part, rank_correlation of its documents with
    the evaluation before"""

    notable = True
    model: str | None = None
    targets: Number | None = None
    bits_per_byte: float | None = None
    rank_correlation: float | None = None


class Memorising(Event, tag="memorising"):
    """model, targets, pass, bits_per_byte (of this validation), best (validation so far),
    best_targets, best_pass, since (targets at the validation from which on it memorises: text is
    repeated and validation has risen above its best); said at every validation while it lasts"""

    notable = True
    model: str | None = None
    targets: Number | None = None
    bits_per_byte: float | None = None
    best: float | None = None
    best_targets: Number | None = None
    best_pass: Number | None = None
    since: Number | None = None
    pass_number: Number | None = msgspec.field(default=None, name="pass")

    @property
    def is_new(self) -> bool:
        """Whether it is the first of its kind in a row."""
        return self.since == self.targets


class Assessed(Event, tag="assessed"):
    """model; macro and original_mix (bits per byte of the test part), target (of the target text),
    gold_bpb (of the right answers), accuracy (normalised, average or own), categories {name:
    normalised accuracy}"""

    notable = True
    model: str | None = None
    macro: float | None = None
    original_mix: float | None = None
    target: float | None = None
    gold_bpb: float | None = None
    accuracy: float | None = None
    categories: dict[str, float | None] | None = None


class Checkpoint(Event, tag="checkpoint"):
    """model, step"""

    notable = True
    model: str | None = None
    step: Number | None = None


class Command(Event, tag="command"):
    """verb: the command that was taken"""

    notable = True
    verb: str | None = None


class Paused(Event, tag="paused"):
    """no fields"""

    notable = True


class Resumed(Event, tag="resumed"):
    """no fields"""

    notable = True


class Device(Event, tag="device"):
    """memory_bytes: resident size of the process and its children; of the machine memory_used,
    memory_total, swap_used, cpu_share, disk_free, disk_total (of the run folder); power (plugged,
    or battery), battery (share), heat (degrees Celsius); on a Mac thermal (nominal, moderate,
    heavy, trapping, sleeping), pressure (of memory: normal, warning, critical), low_power; null:
    not known"""

    frequent = True
    sparing = frozenset({"thermal", "pressure", "low_power"})
    memory_bytes: Number | None = None
    memory_used: Number | None = None
    memory_total: Number | None = None
    swap_used: Number | None = None
    cpu_share: Number | None = None
    disk_free: Number | None = None
    disk_total: Number | None = None
    power: str | None = None
    battery: Number | None = None
    heat: Number | None = None
    thermal: str | None = None
    pressure: str | None = None
    low_power: bool | None = None


class Slept(Event, tag="slept"):
    """seconds (that the machine was asleep: they are in no rate and no duration)"""

    notable = True
    seconds: Number | None = None


class Heartbeat(Event, tag="heartbeat"):
    """no fields"""

    frequent = True


class Warned(Event, tag="warning"):
    """message"""

    notable = True
    message: str | None = None


class Damaged(Event, tag="damaged"):
    """files (of the run whose checksum differs, or that are missing; at most 100), then (what is
    done about it)"""

    notable = True
    files: list[str] | None = None
    then: str | None = None


class Diverged(Event, tag="diverged"):
    """model, why (its loss is finite and says that it has learnt nothing)"""

    notable = True
    model: str | None = None
    why: str | None = None


class RolledBack(Event, tag="rolled_back"):
    """model, step (where the loss was not finite), back_to (the step of the checkpoint that it goes
    on from), skipped (batches that are left out), said (loss and gradient norm)"""

    notable = True
    model: str | None = None
    step: Number | None = None
    back_to: Number | None = None
    skipped: Number | None = None
    said: str | None = None


class Restarted(Event, tag="restarted"):
    """what (was at work), ending (out of memory, the screen had to wait, ...), said (last words of
    the process), count (of restarts of this work), shape (what it holds at a time from here on;
    null: as before)"""

    notable = True
    what: str | None = None
    ending: str | None = None
    said: str | None = None
    count: Number | None = None
    shape: str | None = None


class StageEnd(Event, tag="stage.end"):
    """state (done, reused, failed, stopped), seconds, why, summary"""

    notable = True
    sparing = frozenset({"why", "summary", "peak_memory_bytes"})
    state: str | None = None
    seconds: Number | None = None
    why: str | None = None
    summary: Wire | None = None
    peak_memory_bytes: Number | None = None


class ErrorFacts(msgspec.Struct, kw_only=True):
    """What went wrong, where, and how to mend it."""

    problem: str | None = None
    where: str | None = None
    fix: str | None = None


class RunEnd(Event, tag="run.end"):
    """status (done, failed, stopped), error {problem, where, fix}, result"""

    notable = True
    status: str | None = None
    error: ErrorFacts | None = None
    result: Wire | None = None


Known = (
    Snapshot | RunStart | StageStart | Progress | Forecast | Histogram | HistogramAdded
    | TrainStep | Evaluation | Memorising | Assessed | Checkpoint | Command | Paused | Resumed
    | Device | Heartbeat | Warned
    | Damaged | Diverged | RolledBack | Restarted | Slept | StageEnd | RunEnd
)  # fmt: skip
KINDS: dict[str, type[Event]] = {str(c.__struct_config__.tag): c for c in get_args(Known)}
