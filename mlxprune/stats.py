"""Statistics: means over groups, rank correlation, intervals of shares and ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution


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

    def effective_units(self) -> np.ndarray:
        """float64 [groups]: how many units of one size would tell as much as those of a group
        (Kish 1965): the square of their sum over the sum of their squares."""
        count = len(self.weights)
        size = np.bincount(self.groups, weights=self.sizes, minlength=count)
        squares = np.bincount(self.groups, weights=self.sizes.astype(np.float64) ** 2)
        squares = np.concatenate([squares, np.zeros(count - len(squares))])
        return np.divide(size**2, squares, out=np.zeros(count), where=squares > 0)


def equal_groups(sizes: np.ndarray, groups: np.ndarray) -> GroupedMean:
    """Every group that has a unit counts alike."""
    counts = np.bincount(groups)
    return GroupedMean(sizes, groups, (counts > 0) / max(1, (counts > 0).sum()))


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
