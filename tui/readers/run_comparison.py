"""Contest: arms of one run, or of several, beside each other: what is known of each, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlxprune.files import read_json
from mlxprune_tui.readers import training_curves
from mlxprune_tui.readers.run_view import View
from mlxprune_tui.readers.training_curves import ArmCurve


@dataclass
class Entry:
    """One arm of one run. ``facts`` is what arms.json says of it, ``result`` what the report
    does; both are empty before they are written."""

    label: str
    arm: str
    view: View
    curve: ArmCurve | None
    facts: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def macro(self) -> float | None:
        """Bits per byte on the test part, mean over domains: the mean over the seeds so far."""
        known = self.result.get("test_macro")
        if known is not None:
            return float(known)
        told = [
            a["macro"]
            for name, a in self.view.state["assessed"].items()
            if training_curves.SEED.sub("", name.rpartition("/")[2]) == self.arm
            and a.get("macro") is not None
        ]
        return float(np.mean(told)) if told else None

    @property
    def domains(self) -> dict[str, float]:
        """Bits per byte of every domain of the test part, mean over seeds."""
        sums: dict[str, list[float]] = {}
        for seed in (self.result.get("seeds") or {}).values():
            for name, bits in (seed.get("test") or {}).get("domains", {}).items():
                sums.setdefault(name, []).append(bits)
        return {name: float(np.mean(bits)) for name, bits in sums.items()}


_reports: dict[str, tuple[int, dict[str, Any]]] = {}  # by path: when it was written, what it says


def result_of(view: View) -> dict[str, Any]:
    """What the report of a run says, read once as long as it stays; empty before there is one."""
    path = view.run.path / "report.json"
    try:
        written = path.stat().st_mtime_ns
        if _reports.get(str(path), (0, {}))[0] != written:
            found = read_json(path)
            _reports[str(path)] = (written, found if isinstance(found, dict) else {})
        return _reports[str(path)][1]
    except (OSError, ValueError):
        return view.state["result"] or {}


def entries_of(view: View, axis: str, prefix: str = "") -> list[Entry]:
    """The arms of a run that have begun to train or are planned."""
    curves = [training_curves.curve(n, c) for n, c in view.state["curves"].items()]
    by_arm = {c.arm: c for c in training_curves.by_arm(curves, axis)}
    try:
        planned = read_json(view.run.arms)
        facts: dict[str, Any] = {}
        for one in planned["arms"].values():  # of the seeds the first, as in the report
            facts.setdefault(one["arm"], one)
    except (OSError, ValueError, KeyError, TypeError):
        facts = {}
    told = result_of(view).get("arms") or {}
    names = list(dict.fromkeys([*by_arm, *facts, *told]))
    return [
        Entry(prefix + name, name, view, by_arm.get(name), facts.get(name, {}), told.get(name, {}))
        for name in names
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
