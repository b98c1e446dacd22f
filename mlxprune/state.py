"""One fold turns the events of a run into its state; every reader shares it.

The state is a plain tree of dicts, lists and numbers, so that a segment can begin with a snapshot.
A reader ignores what it does not know: unknown kinds and fields never break the fold.
"""

from __future__ import annotations

from typing import Any

from mlxprune.runs import STAGES

CURVE_POINTS = 2000
WARNINGS_KEPT = 50

State = dict[str, Any]
Event = dict[str, Any]


def initial() -> State:
    return {
        "run": None,
        "state": "pending",
        "error": None,
        "started": None,
        "updated": None,
        "events": 0,
        "attempts": 0,
        "device": None,
        "stages": {name: {"state": "pending"} for name in STAGES},
        "curves": {},
        "assessed": {},
        "histogram": None,
        "warnings": [],
        "targets_trained": 0,  # over all attempts, repeated work included
        "peak_memory_bytes": 0,
        "result": None,
    }


def fold(state: State, event: Event) -> State:
    """Apply one event in place and return the state."""
    kind = event.get("kind")
    if kind == "snapshot":
        held = event.get("state")
        if isinstance(held, dict):
            state.clear()
            state.update(initial() | held)
        return state
    state["events"] += 1
    state["updated"] = event.get("t")
    state["peak_memory_bytes"] = max(
        state["peak_memory_bytes"], int(event.get("peak_memory_bytes") or 0)
    )
    handler = _HANDLERS.get(str(kind))
    if handler is not None:
        handler(state, event)
    return state


# What of a progress event is kept of a stage: how far it is, and how well it uses the machine.
PROGRESS_KEYS = (
    "done", "total", "unit", "what", "rate", "eta_seconds",
    "padding_share", "input_wait_share", "utilisation", "peak_memory_bytes",
)  # fmt: skip


BUILT_KEYS = (
    "built_seconds", "rate", "padding_share", "input_wait_share", "utilisation",
    "peak_memory_bytes",
)  # fmt: skip


def _run_start(state: State, event: Event) -> None:
    state.update(run=event.get("run"), state="running", error=None)
    state["started"] = state["started"] or event.get("t")
    state["attempts"] += 1
    state["device"] = event.get("device")
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


def _train_step(state: State, event: Event) -> None:
    _progress(state, event)
    curve = _curve(state, event)
    point = [event.get("targets"), event.get("loss"), event.get("learning_rate"), event.get("pass")]
    _add(curve["train"], point)
    curve["total_targets"] = event.get("model_targets") or event.get("total")
    state["targets_trained"] += int(event.get("new_targets") or 0)
    for key in ("gradient_norm", "rate"):
        curve[key] = event.get(key)


def _evaluation(state: State, event: Event) -> None:
    point = [event.get("targets"), event.get("bits_per_byte"), event.get("rank_correlation")]
    _add(_curve(state, event)["validation"], point)


def _assessed(state: State, event: Event) -> None:
    keys = ("macro", "original_mix", "target", "gold_bpb", "accuracy", "categories")
    state["assessed"][str(event.get("model"))] = {key: event.get(key) for key in keys}


def _curve(state: State, event: Event) -> dict[str, Any]:
    found: dict[str, Any] = state["curves"].setdefault(
        str(event.get("model")), {"train": [], "validation": []}
    )
    return found


def _add(points: list[list[Any]], point: list[Any]) -> None:
    """Append; a resumed run overwrites what it repeats; a long curve is thinned by halves."""
    while points and point[0] is not None and points[-1][0] >= point[0]:
        points.pop()
    points.append(point)
    if len(points) > CURVE_POINTS:
        del points[1:-1:2]


def _histogram(state: State, event: Event) -> None:
    state["histogram"] = {key: event.get(key) for key in ("edges", "documents", "tokens")}


def _checkpoint(state: State, event: Event) -> None:
    _stage(state, event)["checkpoint"] = event.get("t")


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
    "checkpoint": _checkpoint,
    "paused": _paused,
    "resumed": _resumed,
    "warning": _warning,
    "stage.end": _stage_end,
    "run.end": _run_end,
}
