"""Replicates: one difference over whole studies, each with its own split and reference."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ReplicatedDifference:
    """The mean over studies, the 95 % interval of Student's t over them (None with one study), and
    each study's difference. What no interval within one study holds is in it: the split, the
    reference, and the random arms."""

    difference: float
    interval: tuple[float, float] | None
    by_study: dict[str, float]


def replicated(by_study: dict[str, float]) -> ReplicatedDifference:
    """``by_study``: the difference of an arm and its control in every study."""
    values = np.array(list(by_study.values()))
    mean = float(values.mean())
    if len(values) < 2:
        return ReplicatedDifference(mean, None, by_study)
    half = student_quantile(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return ReplicatedDifference(mean, (mean - half, mean + half), by_study)


def student_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t with whole degrees of freedom, by halving."""
    low, high = 0.0, 16.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if student_two_sided(middle, degrees) > 0.05 else (low, middle)
    return (low + high) / 2


def student_two_sided(t: float, degrees: int) -> float:
    """P(|T| >= |t|) of Student's t with whole degrees of freedom, in closed form (Abramowitz and
    Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(abs(t) / math.sqrt(degrees))
    square = math.cos(angle) ** 2
    term, total = 1.0, 1.0
    first = 1 if degrees % 2 == 0 else 2
    for k in range(first, degrees - 2 if degrees % 2 else degrees - 1, 2):
        term *= square * k / (k + 1)
        total += term
    if degrees == 1:
        inside = 2 * angle / math.pi
    elif degrees % 2:
        inside = 2 / math.pi * (angle + math.sin(angle) * math.cos(angle) * total)
    else:
        inside = math.sin(angle) * total
    return max(0.0, 1.0 - inside)
