"""The final models of a run as a grid of arms and seeds: which is done, in hand, and still
waits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxprune.errors import MlxpruneError
from mlxprune.experiment.records import NO_ARMS, read_arms
from mlxprune.run.event_kinds import StageStatus
from mlxprune.run.state import Curve as HeldCurve
from mlxprune.run.state import MemorisingFacts
from mlxprune_tui.readers.run_view import View


@dataclass(frozen=True)
class GridCell:
    """One model. ``state``: waiting, training, done or stopped. ``share`` of its targets that are
    done, ``passes`` in all; ``last`` and ``best`` validation in bits per byte, the best in
    ``best_pass``; ``left`` in seconds."""

    model: str
    arm: str
    kind: str
    seed: int | None
    state: str
    share: float | None = None
    pass_number: int | None = None
    passes: float | None = None
    last: float | None = None
    best: float | None = None
    best_pass: int | None = None
    left: float | None = None
    memorising: MemorisingFacts | None = None


def grid(view: View) -> list[GridCell]:
    """References first, then the arms that the present configuration asks for, seed by seed; models
    of earlier configurations are not among them (``earlier``)."""
    state = view.state
    cells = [
        _cell(view, name, name.partition("/")[2], "reference", None, None)
        for name in state.curves
        if name.startswith("references/")
    ]
    try:
        records = read_arms(view.run).arms
    except MlxpruneError:
        records = NO_ARMS.arms
    for arm in view.arms():
        record = records.get(arm.name)
        passes = record.passes if record is not None else None
        cells.append(_cell(view, f"final/{arm.name}", arm.arm, arm.kind, arm.seed, passes))
    known = {cell.model for cell in cells}
    for name in state.curves:  # shorter ends of the same
        if name.startswith("final/") and name not in known and view.is_present(name):
            label = name.partition("/")[2]
            kind = next((c.kind for c in cells if name.startswith(f"{c.model}.")), "base")
            cells.append(_cell(view, name, label, kind, None, None))
    return cells


def earlier(view: View) -> list[str]:
    """Final models that the log knows and the present configuration does not ask for."""
    return [name for name in view.state.curves if not view.is_present(name)]


def _cell(
    view: View, model: str, arm: str, kind: str, seed: int | None, passes: float | None
) -> GridCell:
    state = view.state
    stage = state.stages["reference" if kind == "reference" else "final"]
    held = state.curves.get(model)
    what = str(stage.what or "").partition(",")[0].partition(":")[0]
    if held is None:
        told = "done" if stage.state in (StageStatus.DONE, StageStatus.REUSED) else "waiting"
        return GridCell(model, arm, kind, seed, told, passes=passes)
    targets, total = held.train.last("targets"), held.total_targets
    share = float(targets) / float(total) if targets and total else None
    if stage.state in (StageStatus.DONE, StageStatus.REUSED):
        told, share = "done", 1.0
    elif share is not None and share >= 0.9999:
        told = "done"
    elif stage.state == StageStatus.RUNNING and what == model:
        told = "training" if view.live else "stopped"
    else:
        told = "stopped" if share else "waiting"
    rate = held.train.last("rate")
    left = None
    if told == "training" and rate and total and targets:
        left = (float(total) - float(targets)) / float(rate)
    last, best, best_pass = _validation(held)
    number = held.train.last("pass")
    return GridCell(
        model, arm, kind, seed, told, share,
        int(number) if number else None, passes, last, best, best_pass, left,
        state.memorising.get(model),
    )  # fmt: skip


def _validation(held: HeldCurve) -> tuple[float | None, float | None, int | None]:
    """The last validation, the best, and the pass that the best fell into."""
    points = [
        (float(t), float(b))
        for t, b in zip(held.validation["targets"], held.validation["bits_per_byte"], strict=True)
        if t is not None and b is not None
    ]
    if not points:
        return None, None, None
    at, best = min(points, key=lambda p: p[1])
    return points[-1][1], best, pass_at(held, at)


def pass_at(held: HeldCurve, targets: float) -> int | None:
    """The pass that a number of targets falls into, by the points of training."""
    places = np.array([t or 0 for t in held.train["targets"]], np.float64)
    if not len(places):
        return None
    at = min(int(np.searchsorted(places, targets, side="left")), len(places) - 1)
    number = held.train["pass"][at]
    return int(number) if number else None
