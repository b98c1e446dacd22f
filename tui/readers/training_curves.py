"""Trainings: the curves of a run as arrays, by model and by arm. No screen, only numbers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from mlxprune.columns import Columns
from mlxprune.experiment.budgets import effective_data
from mlxprune.run import state
from mlxprune.units import LN2
from mlxprune_tui.drawing.pass_strip import PassCell

AXES = ("tokens", "steps", "time")
FIGURES = ("loss", "learning_rate", "gradient_norm", "rate", "utilisation")
FAR = 0.98  # a seed that has come so far of the farthest stands beside it
SEED = re.compile(r"-s(\d+)(\.at-[0-9.]+)?$")


@dataclass(frozen=True)
class Curve:
    """Columns of the train and validation points of one model, float64; NaN is missing."""

    name: str
    train: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    total: float | None  # targets that it is to train on

    @property
    def arm(self) -> str:
        return SEED.sub("", self.name.partition("/")[2])

    @property
    def final(self) -> bool:
        return self.name.startswith("final/")

    def axis(self, which: str, validation: bool = False) -> np.ndarray:
        """The x of every point: targets, steps, or seconds since its first."""
        told = self.validation if validation else self.train
        if which == "tokens":
            return told["targets"]
        if which == "time":
            first = self.train["t"] if len(self.train["t"]) else self.validation["t"]
            return told["t"] - (first[0] if len(first) else 0.0)
        if not validation:
            return told["step"]
        size = self.targets_per_step
        return told["targets"] / size if size else np.full(len(told["targets"]), np.nan)

    @property
    def targets_per_step(self) -> float | None:
        with np.errstate(all="ignore"):
            sizes = self.train["targets"] / self.train["step"]
        sizes = sizes[np.isfinite(sizes)]
        return float(sizes[-1]) if len(sizes) else None

    def boundaries(self, which: str) -> np.ndarray:
        """Where a pass begins, but the first."""
        passes = self.train["pass"]
        at = np.flatnonzero(np.diff(passes) > 0) + 1
        return self.axis(which)[at]


def curve(name: str, held: state.Curve) -> Curve:
    """One of the state's curves. Points of older logs say less: what they lack is NaN."""
    return Curve(name, _columns(held.train), _columns(held.validation), held.total_targets)


def _columns(points: Columns) -> dict[str, np.ndarray]:
    return {
        name: np.array([math.nan if cell is None else cell for cell in points[name]], np.float64)
        for name in points.names
    }


def passes_of(one: Curve, bytes_per_token: float | None, unique: float | None) -> list[PassCell]:
    """Every pass: training at its end and the last validation inside it, in bits per byte; where
    the first goes on falling and the second does not, the model memorises. ``worth`` is what the
    repeat law (Muennighoff et al. 2023) gives a token of the pass, ``unique`` targets being one."""
    rows = []
    passes = one.train["pass"]
    for number in np.unique(passes[np.isfinite(passes)]):
        mine = np.flatnonzero(passes == number)
        losses = one.train["loss"][mine[-max(1, len(mine) // 5) :]]
        losses = losses[np.isfinite(losses)]
        begins = one.train["targets"][mine[0]]
        if len(earlier := one.train["targets"][passes < number]):
            begins = earlier[-1]
        later = one.train["targets"][passes > number]
        ends = one.train["targets"][mine[-1]] if len(later) else np.inf
        at = one.validation["targets"]
        inside = np.flatnonzero((at > begins) & (at <= ends))
        trained = None
        if len(losses) and bytes_per_token:
            trained = float(losses.mean()) / (LN2 * bytes_per_token)
        valid = float(one.validation["bits_per_byte"][inside[-1]]) if len(inside) else None
        rows.append(PassCell(int(number), trained, valid, _worth(int(number), unique)))
    return rows


def _worth(number: int, unique: float | None) -> float | None:
    if not unique:
        return None
    before = effective_data(unique, (number - 1) * unique) if number > 1 else 0.0
    return (effective_data(unique, number * unique) - before) / unique


def seeds_of(curves: dict[str, state.Curve], arm: str, present: set[str]) -> list[Curve]:
    """The curves of all seeds of an arm, of models that are ``present``."""
    found = [curve(name, held) for name, held in curves.items() if name in present]
    return [one for one in found if one.final and one.arm == arm]


@dataclass(frozen=True)
class ArmCurve:
    """The validation curves of an arm's seeds on one axis: mean, least, largest; and how many."""

    arm: str
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int  # that have come as far as the first of them
    begun: int


def by_arm(curves: list[Curve], which: str) -> list[ArmCurve]:
    """The mean of the seeds that have come farthest: one that has only begun would be held against
    ends. Arms whose axis is not known (an older log, a model from elsewhere) are left out."""
    groups: dict[str, list[Curve]] = {}
    for one in curves:
        if one.final and len(one.validation["targets"]):
            groups.setdefault(one.arm, []).append(one)
    found = []
    for arm, members in groups.items():
        lines, able_members = [], []
        for one in members:
            x, y = one.axis(which, True), one.validation["bits_per_byte"]
            able = np.isfinite(x) & np.isfinite(y)
            if able.any():
                lines.append((x[able], y[able]))
                able_members.append(one)
        if not lines:
            continue
        far = FAR * max(float(one.validation["targets"][-1]) for one in members)
        ended = [
            line
            for line, one in zip(lines, able_members, strict=True)
            if float(one.validation["targets"][-1]) >= far
        ]
        begun, lines = len(lines), ended or lines
        x = min((line[0] for line in lines), key=lambda v: float(v[-1]))
        rows = np.stack([np.interp(x, a, b) for a, b in lines])
        found.append(
            ArmCurve(
                arm, x, rows.mean(axis=0), rows.min(axis=0), rows.max(axis=0), len(lines), begun
            )
        )
    return found
