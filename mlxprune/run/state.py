"""One fold turns the events of a run into its state; every reader shares it.

The state is a plain tree of dicts, lists and numbers, so that a segment can begin with a snapshot.
A reader ignores what it does not know: unknown kinds and fields never break the fold.
"""

from __future__ import annotations

import bisect
from typing import Any

from mlxprune.run.folder import STAGES

STATE_VERSION = 1  # of the records that this fold knows
CURVE_POINTS = 2000
HISTORY_POINTS = 240  # of a rate, of the memory
WARNINGS_KEPT = 50
RECENT_KEPT = 100
# What a point of a curve holds. People look at more of a training than of a validation.
TRAIN_POINT = (
    "targets", "loss", "learning_rate", "pass", "step", "t", "gradient_norm", "rate",
    "utilisation",
)  # fmt: skip
VALIDATION_POINT = ("targets", "bits_per_byte", "rank_correlation", "t")
# Kinds that change what a person would do next; their plain fields are kept for a while.
NOTABLE = (
    "run.start", "stage.start", "stage.end", "checkpoint", "command", "paused", "resumed",
    "warning", "evaluation", "assessed", "run.end",
)  # fmt: skip
NEWEST = ("checkpoint", "evaluation")
State = dict[str, Any]
Event = dict[str, Any]


def initial_state() -> State:
    return {
        "run": None,
        "state": "pending",
        "error": None,
        "started": None,
        "attempt_started": None,
        "updated": None,
        "events": 0,
        "attempts": 0,
        "device": None,
        "stages": {name: {"state": "pending"} for name in STAGES},
        "curves": {},
        "assessed": {},
        "histogram": None,
        "forecast": {},  # FLOPs by stage, for all that a run trains and scores
        "machine": None,  # the newest device event
        "memory": [],  # [t, bytes of the processes, share of the machine's memory in use]
        "disk_bytes": None,  # about what the whole run takes
        "checkpoint": None,
        "recent": [],
        "newer": None,  # the version of records that this fold may not understand
        "warnings": [],
        "targets_trained": 0,  # over all attempts, repeated work included
        "peak_memory_bytes": 0,
        "result": None,
    }


def fold_event(state: State, event: Event) -> State:
    """Apply one event in place and return the state."""
    kind = event.get("kind")
    if kind == "snapshot":
        held = event.get("state")
        if isinstance(held, dict):
            usual = initial_state()
            state.clear()
            state.update(usual)
            # What an older or newer version says otherwise is not taken.
            state.update({k: v for k, v in held.items() if _fits(v, usual.get(k))})
            stages = {k: v for k, v in state["stages"].items() if isinstance(v, dict)}
            state["stages"] = usual["stages"] | {
                name: {"state": "pending", **told} for name, told in stages.items()
            }
        return state
    state["events"] += 1
    state["updated"] = event.get("t")
    if int(event.get("v") or 0) > STATE_VERSION:
        state["newer"] = event["v"]
    state["peak_memory_bytes"] = max(
        state["peak_memory_bytes"], _bytes(event.get("peak_memory_bytes"))
    )
    handler = _HANDLERS.get(str(kind))
    if handler is not None:
        handler(state, event)
    if kind in NOTABLE:
        plain = (str, int, float)
        told = {k: v for k, v in event.items() if isinstance(v, plain)}
        if kind in NEWEST:  # of these, one a model is enough
            state["recent"] = [e for e in state["recent"] if not _alike(e, told)]
        state["recent"].append(told)
        del state["recent"][:-RECENT_KEPT]
    return state


def _bytes(value: Any) -> int:
    known = isinstance(value, int | float) and 0 <= value < float("inf")
    return int(value) if known else 0


def _fits(value: Any, usual: Any) -> bool:
    if isinstance(usual, dict | list):
        return isinstance(value, type(usual))
    return not isinstance(usual, int) or isinstance(value, int)


def _alike(one: Event, other: Event) -> bool:
    return all(one.get(key) == other.get(key) for key in ("kind", "stage", "model"))


# What of a progress event is kept of a stage: how far it is, and how well it uses the machine.
PROGRESS_KEYS = (
    "done", "total", "unit", "what", "rate", "eta_seconds",
    "padding_share", "input_wait_share", "utilisation", "peak_memory_bytes",
)  # fmt: skip
BUILT_KEYS = (
    "built_seconds", "rate", "rates", "padding_share", "input_wait_share", "utilisation",
    "peak_memory_bytes",
)  # fmt: skip


def _run_start(state: State, event: Event) -> None:
    state.update(run=event.get("run"), state="running", error=None)
    state["started"] = state["started"] or event.get("t")
    state["attempts"] += 1
    state["attempt_started"] = event.get("t")
    state["device"] = event.get("device")
    state["disk_bytes"] = event.get("disk_bytes")
    state["assessed"] = {}  # said again, when it is current
    for stage in state["stages"].values():
        _renew(stage, state="pending")  # until this run has found or made it


def _renew(stage: dict[str, Any], **fields: Any) -> None:
    """Forget all of a stage but how long it took, and how fast it was, when it was last built."""
    built = {key: stage[key] for key in BUILT_KEYS if stage.get(key) is not None}
    stage.clear()
    stage.update(fields | built)


def _stage(state: State, event: Event) -> dict[str, Any]:
    found: dict[str, Any] = state["stages"].setdefault(
        str(event.get("stage")), {"state": "pending"}
    )
    return found


def _stage_start(state: State, event: Event) -> None:
    stage = _stage(state, event)
    _renew(stage, state="running", started=event.get("t"), why=event.get("why"))
    for key in BUILT_KEYS[1:]:
        stage.pop(key, None)


def _progress(state: State, event: Event) -> None:
    stage = _stage(state, event)
    for key in PROGRESS_KEYS:
        if key in event:
            stage[key] = event[key]
    if event.get("rate") is not None:
        _add(stage.setdefault("rates", []), [event.get("t"), event["rate"]], HISTORY_POINTS)


def _train_step(state: State, event: Event) -> None:
    _progress(state, event)
    curve = _curve(state, event)
    _add(curve["train"], [event.get(key) for key in TRAIN_POINT], CURVE_POINTS)
    curve["total_targets"] = event.get("model_targets") or event.get("total")
    state["targets_trained"] += int(event.get("new_targets") or 0)
    for key in ("gradient_norm", "rate"):
        curve[key] = event.get(key)


def _evaluation(state: State, event: Event) -> None:
    point = [event.get(key) for key in VALIDATION_POINT]
    _add(_curve(state, event)["validation"], point, CURVE_POINTS)


def _assessed(state: State, event: Event) -> None:
    keys = ("macro", "original_mix", "target", "gold_bpb", "accuracy", "categories")
    state["assessed"][str(event.get("model"))] = {key: event.get(key) for key in keys}


def _curve(state: State, event: Event) -> dict[str, Any]:
    found: dict[str, Any] = state["curves"].setdefault(
        str(event.get("model")), {"train": [], "validation": []}
    )
    return found


def _add(points: list[list[Any]], point: list[Any], most: int) -> None:
    """Append; a resumed run overwrites what it repeats; a long series is thinned."""
    if not isinstance(point[0], int | float) or point[0] != point[0]:
        return  # it has no place on the axis
    if points and points[-1][0] >= point[0]:
        del points[bisect.bisect_left(points, point[0], key=lambda p: p[0]) :]
    points.append(point)
    if len(points) > most:
        points[:] = _thinned(points, most // 4)


def _thinned(points: list[list[Any]], stretches: int) -> list[list[Any]]:
    """Of every of so many equal stretches of the axis the lowest and the highest point, so that no
    spike is lost and the beginning stays as dense as the end; and both ends."""
    first, last = points[0][0], points[-1][0]
    width = (last - first) / stretches or 1.0
    ends: dict[int, list[int]] = {}  # by stretch: where its lowest and its highest point are
    for at, point in enumerate(points):
        found = ends.setdefault(int((point[0] - first) / width), [at, at])
        height = _height(point)
        if height is None:
            continue
        low, high = (_height(points[place]) for place in found)
        if low is None or height < low:
            found[0] = at
        if high is None or height >= high:
            found[1] = at
    kept = {0, len(points) - 1, *(at for pair in ends.values() for at in pair)}
    return [points[at] for at in sorted(kept)]


def _height(point: list[Any]) -> float | None:
    """None of a point that has no height: it is neither the lowest nor the highest."""
    value = point[1]
    return float(value) if isinstance(value, int | float) and value == value else None


HISTOGRAM_KEYS = ("edges", "documents", "tokens", "bytes", "domains")


def _histogram(state: State, event: Event) -> None:
    state["histogram"] = {key: event.get(key) for key in HISTOGRAM_KEYS}


def _forecast(state: State, event: Event) -> None:
    state["forecast"] = event.get("flops") or {}


def _device(state: State, event: Event) -> None:
    state["machine"] = {k: v for k, v in event.items() if k not in ("v", "seq", "writer", "kind")}
    total, used = event.get("memory_total"), event.get("memory_used")
    share = used / total if total and used is not None else None
    _add(state["memory"], [event.get("t"), event.get("memory_bytes"), share], HISTORY_POINTS)


def _checkpoint(state: State, event: Event) -> None:
    _stage(state, event)["checkpoint"] = event.get("t")
    before = state["checkpoint"] or {}
    same = before.get("model") == event.get("model")
    state["checkpoint"] = {key: event.get(key) for key in ("t", "stage", "model", "step")}
    state["checkpoint"]["before"] = before.get("t") if same else None


def _paused(state: State, event: Event) -> None:
    state["state"] = "paused"


def _resumed(state: State, event: Event) -> None:
    state["state"] = "running"


def _warning(state: State, event: Event) -> None:
    message = event.get("message")
    if message not in [w["message"] for w in state["warnings"]]:
        state["warnings"].append({"t": event.get("t"), "message": message})
        del state["warnings"][:-WARNINGS_KEPT]


def _stage_end(state: State, event: Event) -> None:
    stage = _stage(state, event)
    stage["state"] = event.get("state")
    stage["seconds"] = event.get("seconds")
    if stage["state"] == "done":
        stage["built_seconds"] = stage["seconds"]
    for key in ("why", "summary"):
        if event.get(key) is not None:
            stage[key] = event[key]


def _run_end(state: State, event: Event) -> None:
    status = event.get("status")
    state.update(state=status, error=event.get("error"), result=event.get("result"))
    for stage in state["stages"].values():
        if stage["state"] == "running":
            stage["state"] = "failed" if status == "failed" else "stopped"


_HANDLERS = {
    "run.start": _run_start,
    "stage.start": _stage_start,
    "progress": _progress,
    "train.step": _train_step,
    "evaluation": _evaluation,
    "assessed": _assessed,
    "histogram": _histogram,
    "forecast": _forecast,
    "device": _device,
    "checkpoint": _checkpoint,
    "paused": _paused,
    "resumed": _resumed,
    "warning": _warning,
    "stage.end": _stage_end,
    "run.end": _run_end,
}
