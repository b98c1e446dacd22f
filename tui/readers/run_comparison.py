"""Arms of one run, or of several, beside each other: what is known of each, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxprune.errors import MlxpruneError
from mlxprune.experiment.records import ArmRecord, read_arms
from mlxprune.experiment.study_result import ArmResult, StudyResult
from mlxprune.files import read_json
from mlxprune.records import Json, record_of
from mlxprune.run.event_kinds import StageStatus
from mlxprune_tui.readers import training_curves
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.readers.training_curves import ArmCurve


@dataclass
class Entry:
    """One arm of one run. ``record`` is what arms.json says of it, ``result`` what the report
    does; both are None before they are written."""

    label: str
    arm: str
    view: View
    curve: ArmCurve | None
    record: ArmRecord | None = None
    result: ArmResult | None = None

    @property
    def macro(self) -> float | None:
        """Bits per byte on the test part, mean over domains: the mean over the seeds so far."""
        if self.result is not None and self.result.test_macro is not None:
            return self.result.test_macro
        told = [
            assessed.macro
            for name, assessed in self.view.state.assessed.items()
            if self.view.is_present(name)
            and training_curves.SEED.sub("", name.rpartition("/")[2]) == self.arm
            and assessed.macro is not None
        ]
        return float(np.mean(told)) if told else None

    @property
    def domains(self) -> dict[str, float]:
        """Bits per byte of every domain of the test part, mean over seeds."""
        sums: dict[str, list[float]] = {}
        for test in self.result.tests if self.result is not None else []:
            for name, bits in test.domains.items():
                sums.setdefault(name, []).append(bits)
        return {name: float(np.mean(bits)) for name, bits in sums.items()}


_reports: dict[str, tuple[int, StudyResult | None]] = {}  # by path: when it was written, its object


def result_of(view: View) -> StudyResult | None:
    """What the report of a run says, read once as long as it stays; None before there is one, or
    where another version wrote it otherwise."""
    path = view.run.path / "report.json"
    try:
        written = path.stat().st_mtime_ns
    except OSError:
        return _study_result(view.state.result)
    if _reports.get(str(path), (0, None))[0] != written:
        try:
            _reports[str(path)] = (written, _study_result(read_json(path)))
        except (OSError, ValueError):  # it is being replaced, or damaged
            return _study_result(view.state.result)
    return _reports[str(path)][1]


def present_result(view: View) -> StudyResult | None:
    """The same where it is of the present configuration: while a run goes on with another slice,
    the report in its folder is still that of the slice before."""
    state = view.state.stages["report"].state
    return result_of(view) if state in (StageStatus.DONE, StageStatus.REUSED) else None


# What reports of earlier versions do not have yet.
LATER: Json = {"left_out": {}, "comparisons": [], "budgets": {}, "tasks": None, "verdict": None}


def _study_result(told: object) -> StudyResult | None:
    try:
        whole = {**LATER, **told} if isinstance(told, dict) else told
        return record_of(whole, StudyResult)
    except ValueError:
        return None


def entries_of(view: View, axis: str, prefix: str = "") -> list[Entry]:
    """The arms of a run that have begun to train or are planned."""
    curves = [
        training_curves.curve(name, curve)
        for name, curve in view.state.curves.items()
        if view.is_present(name)
    ]
    by_arm = {c.arm: c for c in training_curves.by_arm(curves, axis)}
    try:
        records = read_arms(view.run).firsts()  # of the seeds the first, as in the report
    except MlxpruneError:
        records = {}
    records = {name: r for name, r in records.items() if view.is_present(f"final/{name}-s{r.seed}")}
    result = present_result(view)
    arms = {} if result is None else result.arms
    return [
        Entry(prefix + name, name, view, by_arm.get(name), records.get(name), arms.get(name))
        for name in dict.fromkeys([*by_arm, *records, *arms])
    ]


def differences(one: Any, other: Any, path: str = "") -> list[tuple[str, str, str]]:
    """(key, of the one, of the other) wherever two trees differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in sorted({*one, *other}, key=str):
            below = f"{path}.{key}" if path else str(key)
            found += differences(one.get(key), other.get(key), below)
        return found
    return [] if one == other else [(path, _short(one), _short(other))]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)
