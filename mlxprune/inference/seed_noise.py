"""Seed noise: how far the paired differences of one kind move from seed to seed.

A slice is the same for every seed, a random arm is drawn anew, so pairs of one kind (slices minus
random, say) are alike and pairs of two kinds are not. From three seeds on, pairs of one
kind share their variance as long as the largest is no larger, against the mean of the others, than
it is in half of all studies whose pairs are alike; one that is larger stands alone. Two seeds do
not tell whether pairs are alike: each stands alone.

Differences from one control move together, the more the more of the noise is the control's. So the
variance of pairs that share one is known as its two parts are: what is common to all, from as many
degrees of freedom as one pair has, and what is each pair's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST_CORRELATION = 0.5  # of two differences from one control, where all arms are equally noisy
MOST_CORRELATION = 0.99
# With the degrees of freedom alone, an interval that lies between the noise of seeds and that of
# documents holds too much (the Behrens-Fisher interval). The prior under which it would hold its
# level to second order (Ghosh and Kim 2001) adds two degrees with the chance 1 - c, c the seeds'
# share of the variance; at one or two degrees it then holds too little. This power of 1 - c, times
# the square of how many pairs are decided together, as their intervals reach farther out, holds
# 0.93 to 0.97 (bench/coverage.py).
MATCHING = 8


@dataclass(frozen=True)
class SeedDifferences:
    """Arm minus control for each seed, two seeds at least; ``against`` names the control."""

    seeds: list[int]
    values: np.ndarray  # float64 [seeds]
    against: str

    @property
    def degrees(self) -> int:
        return len(self.values) - 1


@dataclass(frozen=True)
class SeedNoise:
    """Of the pairs of one kind: ``variance`` [pairs] of one seed's difference, the ``degrees``
    [pairs] of freedom that it rests on, over how many pairs it is ``pooled`` [pairs], and the
    ``correlation`` of differences from one control."""

    pairs: list[SeedDifferences]
    variance: np.ndarray
    degrees: np.ndarray
    pooled: np.ndarray
    correlation: float
    shared: float  # of the pooled variance, what is common to the pairs of a control and
    own: float  # what is not
    groups: float  # the mean of 1 / pairs of a control, over controls
    shared_degrees: int
    own_degrees: int


def seed_noise(
    pairs: list[SeedDifferences], resamples: int, generator: np.random.Generator
) -> SeedNoise:
    """The noise of pairs of one kind."""
    degrees = np.array([pair.degrees for pair in pairs])
    variance = np.array([pair.values.var(ddof=1) for pair in pairs])
    correlation = _correlation(pairs)
    together = np.arange(0)
    if degrees.min() > 1 and len({tuple(pair.seeds) for pair in pairs}) == 1:
        together = _alike(variance, _estimates(pairs, correlation, resamples, generator))
    if len(together) < 2:
        ones = np.ones(len(pairs), np.int64)
        return SeedNoise(pairs, variance, degrees.astype(float), ones, correlation, 0, 0, 1, 0, 0)
    return _pooled([*pairs], variance, degrees, correlation, together)


def _pooled(
    pairs: list[SeedDifferences],
    variance: np.ndarray,
    degrees: np.ndarray,
    correlation: float,
    together: np.ndarray,
) -> SeedNoise:
    """The variance of the pairs ``together`` from that of the means over each control and that of
    what is left, which are independent."""
    own_sum, own_degrees, of_means, inverse = 0.0, 0, [], []
    each = int(degrees[together[0]])
    for control in dict.fromkeys(pairs[k].against for k in together):
        values = np.array([pairs[k].values for k in together if pairs[k].against == control])
        rest = values - values.mean(axis=1, keepdims=True)
        common = rest.mean(axis=0)
        of_means.append(float((common**2).sum()) / each)
        inverse.append(1 / len(values))
        own_sum += float(((rest - common) ** 2).sum())
        own_degrees += each * (len(values) - 1)
    groups = float(np.mean(inverse))
    shared, own = float(np.mean(of_means)), own_sum / max(own_degrees, 1)
    whole, known = shared + own * (1 - groups), each * len(of_means)
    spread = shared**2 / known + (own * (1 - groups)) ** 2 / max(own_degrees, 1)
    variance, degrees = variance.copy(), degrees.astype(np.float64)
    variance[together] = whole
    degrees[together] = whole**2 / spread if spread else known
    pooled = np.ones(len(pairs), np.int64)
    pooled[together] = len(together)
    return SeedNoise(
        pairs, variance, degrees, pooled, correlation, shared, own, groups, known, own_degrees
    )


def moved_means(noise: SeedNoise, more: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """float64 [resamples, pairs]: draws of how far the mean differences are from the truth, with
    variances that may be what they were estimated to be (fiducial draws: an estimate over a draw of
    chi-square). ``more`` [resamples, pairs] are degrees that the matching prior adds, as a draw."""
    count = len(noise.pairs)
    seeds = np.array([len(pair.values) for pair in noise.pairs])
    normal = _correlated(noise, (len(more), count), generator)
    squares = _correlated(noise, (len(more), int(seeds.max()) - 1, count), generator) ** 2
    sums = squares.cumsum(axis=1)[:, seeds - 2, np.arange(count)]
    result: np.ndarray = normal * np.sqrt(noise.variance / seeds * (seeds - 1) / (sums + more))
    pooled = np.flatnonzero(noise.pooled > 1)
    if not len(pooled):
        return result
    more = more[:, pooled[0]]
    shared = noise.shared * noise.shared_degrees
    shared = shared / (generator.chisquare(noise.shared_degrees, len(more)) + more)
    own = np.zeros(len(more))
    if noise.own_degrees:
        own = noise.own * noise.own_degrees / generator.chisquare(noise.own_degrees, len(more))
    common = np.maximum(shared - own * noise.groups, 0.0)
    own = np.minimum(own, shared + own * (1 - noise.groups))
    controls = list(dict.fromkeys(noise.pairs[k].against for k in pooled))
    by_control = generator.standard_normal((len(more), len(controls)))
    for k in pooled:
        of_control = by_control[:, controls.index(noise.pairs[k].against)]
        alone = generator.standard_normal(len(more))
        result[:, k] = (np.sqrt(common) * of_control + np.sqrt(own) * alone) / np.sqrt(seeds[k])
    return result


def _correlation(pairs: list[SeedDifferences]) -> float:
    """Of the differences of pairs that share a control."""
    moved = together = 0.0
    for first, one in enumerate(pairs):
        for other in pairs[first + 1 :]:
            common = [seed for seed in one.seeds if seed in other.seeds]
            if one.against != other.against or len(common) < 2:
                continue
            a, b = (np.array([p.values[p.seeds.index(s)] for s in common]) for p in (one, other))
            moved += float(np.cov(a, b)[0, 1])
            together += float(a.var(ddof=1) + b.var(ddof=1)) / 2
    found = moved / together if together else LEAST_CORRELATION
    return min(max(found, LEAST_CORRELATION), MOST_CORRELATION)


def _correlated(
    noise: SeedNoise, shape: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray:
    """Normal draws [..., pairs] that correlate where pairs share a control."""
    controls = [pair.against for pair in noise.pairs]
    names = list(dict.fromkeys(controls))
    own = generator.standard_normal(shape)
    if len(names) == len(controls):
        return own
    shared = generator.standard_normal((*shape[:-1], len(names)))
    part = np.sqrt(noise.correlation)
    which = [names.index(control) for control in controls]
    result: np.ndarray = part * shared[..., which] + np.sqrt(1 - noise.correlation) * own
    return result


def _estimates(
    pairs: list[SeedDifferences],
    correlation: float,
    resamples: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """float64 [resamples, pairs]: variances as they would be estimated if the true ones were 1."""
    alike = SeedNoise(
        pairs, np.ones(len(pairs)), np.ones(len(pairs)), np.ones(len(pairs)), correlation,
        0, 0, 1, 0, 0,
    )  # fmt: skip
    shape = (resamples, pairs[0].degrees, len(pairs))
    result: np.ndarray = (_correlated(alike, shape, generator) ** 2).mean(axis=1)
    return result


def _alike(variance: np.ndarray, estimates: np.ndarray) -> np.ndarray:
    """The pairs whose variances may be pooled."""
    rest = np.argsort(-variance, kind="stable")
    while len(rest) > 1:
        largest = estimates[:, rest].max(axis=1)
        others = (estimates[:, rest].sum(axis=1) - largest) / (len(rest) - 1)
        usual = float(np.median(largest / others))
        if variance[rest[0]] <= usual * variance[rest[1:]].mean():
            return rest
        rest = rest[1:]
    return rest
