"""Statistics: rank correlation, intervals, and what a difference of two arms is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

BOOTSTRAPS = 1000
BOOTSTRAP_BLOCK = 50  # resamples drawn at once
Z_95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution
FAMILY_ERROR_RATE = 0.05  # the error rate over all slices of a study


def student_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t, by halving."""
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


def deciles_of(values: np.ndarray) -> np.ndarray:
    """int64 [documents]: the tenth of the ranks that each document's value is in, 0 the lowest."""
    place = np.empty(len(values), np.int64)
    place[np.argsort(values, kind="stable")] = np.arange(len(values))
    return place * 10 // max(len(values), 1)


@dataclass(frozen=True)
class GroupedMean:
    """What a mean over groups is made of: ``sizes`` and ``groups`` [units]; the mean of a group is
    the ratio of its units' values and sizes, ``weights`` [groups] add up to one."""

    sizes: np.ndarray
    groups: np.ndarray
    weights: np.ndarray

    def mean(self, values: np.ndarray) -> float:
        """``values`` float64 [units]."""
        count = len(self.weights)
        total = np.bincount(self.groups, weights=values, minlength=count)
        size = np.bincount(self.groups, weights=self.sizes, minlength=count)
        there = size > 0
        return float((self.weights[there] * total[there] / size[there]).sum())


def equal_groups(sizes: np.ndarray, groups: np.ndarray) -> GroupedMean:
    """Every group that has a unit counts alike."""
    counts = np.bincount(groups)
    return GroupedMean(sizes, groups, (counts > 0) / max(1, (counts > 0).sum()))


class Verdict(StrEnum):
    """What a comparison says, as people read it."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"
    ONE_SEED = "n=1, document noise only, no verdict"


@dataclass(frozen=True)
class PairedDifference:
    """Arm minus control: the mean over seeds, its 95 % interval, each seed's difference, the
    probability of so large a mean by chance (None with one seed), and what that says."""

    difference: float
    interval: tuple[float, float]
    by_seed: list[float]
    probability: float | None
    verdict: Verdict


def compare_paired(
    arm: list[np.ndarray],
    control: list[np.ndarray],
    parts: GroupedMean,
    seed: int,
    lower: bool = True,
) -> PairedDifference:
    """Arm minus control in a mean over groups, paired by seed (docs/method.md, Verdict).

    ``arm[s]`` and ``control[s]`` hold the values of every unit (document, item) for seed s: bits,
    say. The interval is mean +- t(S - 1) * sqrt(s_d^2 / S + v), v from the bootstrap over units
    inside groups; one seed gives their noise only and no verdict. ``lower`` values are better.
    """
    differences = [parts.mean(a) - parts.mean(c) for a, c in zip(arm, control, strict=True)]
    count = len(differences)
    mean_difference = np.mean([a - c for a, c in zip(arm, control, strict=True)], axis=0)
    noise = _bootstrap_variance(mean_difference, parts, seed)
    mean = float(np.mean(differences))
    probability = None
    if count == 1:
        half = 1.96 * math.sqrt(noise)
        verdict = Verdict.ONE_SEED
    else:
        spread = float(np.var(differences, ddof=1))
        error = math.sqrt(spread / count + noise)
        half = student_quantile(count - 1) * error
        probability = student_two_sided(mean / error, count - 1) if error else float(mean == 0)
        sign = 1 if lower else -1
        verdict = Verdict.UNDECIDED
        if abs(mean) > half:
            verdict = Verdict.BETTER if sign * mean < 0 else Verdict.WORSE
    return PairedDifference(mean, (mean - half, mean + half), differences, probability, verdict)


def _bootstrap_variance(differences: np.ndarray, parts: GroupedMean, seed: int) -> float:
    """Variance of the mean difference over resamples of the units of each group."""
    generator = np.random.default_rng(seed)
    totals = np.zeros(BOOTSTRAPS)
    for code, weight in enumerate(parts.weights):
        mine = np.flatnonzero(parts.groups == code)
        if len(mine) == 0:
            continue
        for first in range(0, BOOTSTRAPS, BOOTSTRAP_BLOCK):
            drawn = mine[generator.integers(0, len(mine), (BOOTSTRAP_BLOCK, len(mine)))]
            ratio = differences[drawn].sum(axis=1) / parts.sizes[drawn].sum(axis=1)
            totals[first : first + BOOTSTRAP_BLOCK] += weight * ratio
    return float(np.var(totals, ddof=1))


def share_with_interval(correct: np.ndarray, group: np.ndarray) -> tuple[float, float, float]:
    """The plain mean over groups of the share of ones, with a 95 % interval: Wilson's score
    interval (1927), for groups that count alike with the effective number of items."""
    if not len(correct):
        return math.nan, math.nan, math.nan
    counts = np.bincount(group)
    sums = np.bincount(group, weights=correct)
    there = counts > 0
    mean = float((sums[there] / counts[there]).mean())
    effective = there.sum() ** 2 / (1 / counts[there]).sum()
    square = Z_95**2 / effective
    centre = (mean + square / 2) / (1 + square)
    half = Z_95 * math.sqrt(mean * (1 - mean) / effective + square / (4 * effective))
    half /= 1 + square
    return mean, max(0.0, centre - half), min(1.0, centre + half)


def ratio_with_error(values: np.ndarray, sizes: np.ndarray) -> tuple[float, float | None]:
    """sum(values) / sum(sizes), and its standard error over items (Cochran 1977, 6.9)."""
    count, size = len(values), float(sizes.sum())
    if not count:
        return math.nan, None
    mean = float(values.sum() / size)
    if count == 1:
        return mean, None
    with np.errstate(invalid="ignore"):  # a broken model has no error either
        rest = float(((values - mean * sizes) ** 2).sum())
    return mean, math.sqrt(rest * count / (count - 1)) / size


def adjust_by_holm(probabilities: list[float]) -> list[float]:
    """The probabilities of a family of comparisons, adjusted together (Holm 1979)."""
    adjusted = [0.0] * len(probabilities)
    lowest = 0.0
    order = sorted(range(len(probabilities)), key=lambda n: probabilities[n])
    for done, number in enumerate(order):
        lowest = max(lowest, min(1.0, (len(probabilities) - done) * probabilities[number]))
        adjusted[number] = lowest
    return adjusted


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two float64 arrays; equal values share their mean rank."""
    x, y = (_mean_ranks(v) for v in (a, b))
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / scale) if scale else float("nan")


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    result: np.ndarray = (ends - (counts + 1) / 2)[inverse]
    return result
