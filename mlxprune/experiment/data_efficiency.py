"""Data efficiency: how an arm's figures grow with its targets, from ends that are all decayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mlxprune.evaluation.task_metrics import mean_of
from mlxprune.experiment.records import ArmEvaluation, StudyArms, read_evaluation
from mlxprune.inference.document_noise import influences
from mlxprune.inference.verdict import Verdict, root_of
from mlxprune.records import Record
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import is_current
from mlxprune.stats import Z_95, GroupedMean

RHO_RESAMPLES = 2000
MOST_TARGETS = 100.0


class BudgetPoint(Record):
    """The figures of an arm at so many targets, as means over its seeds."""

    targets: int
    seeds: int
    macro: float
    gold_bpb: float | None  # None without tasks, as the next
    accuracy: float | None
    primary: float | None


class Rho(Record):
    """The share of the control's targets at which the arm reaches the control's final figure: under
    1 it saves, over 1 it loses. None: no number of targets would do, as far as its curve tells.

    Interpolated in log targets between decayed ends, and extrapolated beyond them (``beyond``).
    The interval is that of the difference at the end, carried over: it holds 1 where that is
    undecided.
    """

    share: float | None
    interval: tuple[float | None, float | None]
    beyond: bool
    decided: bool

    def __str__(self) -> str:
        """``0.83 (0.71 to 0.97)``."""
        low, high = (_share(value) for value in self.interval)
        return f"{_share(self.share)} ({low} to {high})"


class FewerTargets(Record):
    """The paper's measure of training efficiency: how many times fewer targets an arm needs for
    what its control ends with, linear in targets between the arm's ends (arXiv 2405.20541; 1.31 on
    the Pile). In average accuracy, and in bits per byte of right answers; None: it never gets
    there. It has no interval: rho has one.

    ``at_least``: the arm is there at its first end already, so the figure is a bound.
    """

    accuracy: float | None
    gold_bpb: float | None
    at_least: bool


def fewer_targets(
    targets: list[int], accuracy: tuple[list[float], float], gold: tuple[list[float], float]
) -> FewerTargets:
    """Of rising curves over ascending ``targets``: (the arm's figure at each, the control's last).
    A curve of what falls is given with its sign changed."""
    found = [_first_reached(targets, *curve) for curve in (accuracy, gold)]
    times = [None if at is None else targets[-1] / at for at in found]
    return FewerTargets(accuracy=times[0], gold_bpb=times[1], at_least=targets[0] in found)


def _first_reached(targets: list[int], figures: list[float], aim: float) -> float | None:
    """The first targets at which a curve that is linear between its ends is at ``aim``."""
    if figures[0] >= aim:
        return float(targets[0])
    for after in range(1, len(targets)):
        low, high = figures[after - 1], figures[after]
        if high >= aim:
            part = (aim - low) / (high - low)
            return targets[after - 1] + part * (targets[after] - targets[after - 1])
    return None


def _share(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f}"


def budget_points(run: RunFolder, primary: str, arms: StudyArms) -> dict[str, list[BudgetPoint]]:
    """Of every arm that has branches, by targets."""
    by_arm: dict[str, dict[int, list[ArmEvaluation]]] = {}
    for name, record in arms.arms.items():
        ends = {**record.branches, name: record.targets} if record.branches else {}
        for end, targets in ends.items():
            if is_current(run, run.evaluation(end)):
                evaluation = read_evaluation(run, end)
                by_arm.setdefault(record.arm, {}).setdefault(targets, []).append(evaluation)
    return {
        arm: [_point(targets, of, primary) for targets, of in sorted(ends.items())]
        for arm, ends in by_arm.items()
    }


def _point(targets: int, evaluations: list[ArmEvaluation], primary: str) -> BudgetPoint:
    macro = float(np.mean([e.macro for e in evaluations]))
    suites = [e.tasks for e in evaluations if e.tasks is not None]
    aims = [e.target.macro for e in evaluations if e.target is not None]
    gold = mean_of([s.gold_bpb for s in suites]) if suites else None
    figures = {"macro": macro, "tasks": gold, "target": float(np.mean(aims)) if aims else None}
    return BudgetPoint(
        targets=targets,
        seeds=len(evaluations),
        macro=macro,
        gold_bpb=gold,
        accuracy=mean_of([s.average.normalised_accuracy for s in suites]) if suites else None,
        primary=figures[primary],
    )


def reached_at(targets: np.ndarray, figures: np.ndarray, aim: np.ndarray) -> np.ndarray:
    """float64 [curves]: the targets at which falling curves reach ``aim`` [curves]; inf: never.

    ``targets`` [ends] ascend, ``figures`` [curves, ends]. A figure that rises from one end to the
    next is noise: both take their mean (isotonic regression). Beyond the ends a curve goes on along
    the line, in log targets, from its first end to its last.
    """
    x, falling = np.log(targets), _falling(figures)
    slope = (falling[:, -1] - falling[:, 0]) / (x[-1] - x[0])
    result = np.full(len(aim), np.inf)
    goes_on = slope < 0
    before, after = aim >= falling[:, 0], aim <= falling[:, -1]
    with np.errstate(over="ignore"):
        for beyond, end in ((before, 0), (after & ~before, -1)):
            mine = beyond & goes_on
            away = (aim[mine] - falling[mine, end]) / slope[mine]
            result[mine] = np.exp(np.minimum(x[end] + away, 700.0))
    for row in np.flatnonzero(~before & ~after):
        result[row] = np.exp(np.interp(-aim[row], -falling[row], x))
    result[before & ~goes_on] = targets[0]
    return result


def _falling(figures: np.ndarray) -> np.ndarray:
    """Each row as the nearest one that never rises: the mean of min-max and max-min formulas of
    isotonic regression, [curves, ends]."""
    count = figures.shape[1]
    sums = np.concatenate([np.zeros((len(figures), 1)), figures.cumsum(axis=1)], axis=1)
    result = np.empty_like(figures, dtype=np.float64)
    for at in range(count):
        best = np.full(len(figures), -np.inf)
        for last in range(at, count):  # max over later ends of the min over earlier beginnings
            means = [
                (sums[:, last + 1] - sums[:, first]) / (last + 1 - first) for first in range(at + 1)
            ]
            best = np.maximum(best, np.min(means, axis=0))
        result[:, at] = best
    return result


class KnownNoise(Protocol):
    """What of a comparison its interval rests on: a ``PairedDifference``, or a record of one."""

    @property
    def seed_sd(self) -> float | None: ...
    @property
    def standard_errors(self) -> float: ...
    @property
    def verdict(self) -> Verdict: ...


@dataclass(frozen=True)
class ArmEnds:
    """An arm and its control: ``targets`` [ends] of the arm, the values [seeds][units] of the arm
    at each end and of the control at its last."""

    targets: np.ndarray
    arm: list[list[np.ndarray]]
    control: list[np.ndarray]


def rho_of(
    ends: ArmEnds, parts: GroupedMean, difference: KnownNoise, seed: int, lower: bool = True
) -> Rho:
    """The share of targets, with its interval from one resampling of seeds and documents, scaled so
    that the difference at the end moves as far as the interval of the verdict is wide."""
    sign = 1.0 if lower else -1.0
    values = [*ends.arm, ends.control]  # the control's last
    means = sign * np.array([[parts.mean(v) for v in seeds] for seeds in values])
    pull = influences(np.array([np.mean(seeds, axis=0) for seeds in values]), parts)
    count = len(ends.control)
    noise = pull @ pull.T
    if count > 1:
        rest = means - means.mean(axis=1, keepdims=True)
        own = float((rest[-2] - rest[-1]).var() * count / (count - 1))
        pooled = (difference.seed_sd or 0.0) ** 2
        raised = pooled / own if own > 0 else 1.0
        noise = noise + raised * rest @ rest.T / (count * (count - 1))
    generator = np.random.default_rng(seed)
    moved = generator.standard_normal((RHO_RESAMPLES, len(values))) @ root_of(noise).T
    moved *= difference.standard_errors / Z_95
    figures = means.mean(axis=1) + np.concatenate([np.zeros((1, len(values))), moved])
    reached = reached_at(ends.targets, figures[:, :-1], figures[:, -1]) / ends.targets[-1]
    # Beyond either end of the resamples the law of the curve is a guess: so are these limits.
    low, high = np.quantile(reached[1:], [0.025, 0.975], method="inverted_cdf")
    share = float(reached[0])
    first, last = ends.targets[0] / ends.targets[-1], 1.0
    return Rho(
        share=_finite(share),
        interval=(_finite(low), _finite(high)),
        beyond=not first <= share <= last,
        decided=difference.verdict in (Verdict.BETTER, Verdict.WORSE),
    )


def _finite(share: float) -> float | None:
    """Beyond a hundred times the targets is never."""
    return float(share) if share < MOST_TARGETS else None


def ends_of(run: RunFolder, arms: StudyArms, arm: str, seeds: list[int]) -> dict[int, list[str]]:
    """The evaluations of an arm by its targets, one a seed, the shortest first; of the ends that
    every seed has."""
    found: dict[int, list[str]] = {}
    for seed in seeds:
        record = arms.arms.get(f"{arm}-s{seed}")
        if record is None:
            continue
        for name, targets in {**record.branches, f"{arm}-s{seed}": record.targets}.items():
            if is_current(run, run.evaluation(name)):
                found.setdefault(targets, []).append(name)
    return {targets: names for targets, names in sorted(found.items()) if len(names) == len(seeds)}
