"""Verdict: arms against their controls, over seeds and documents at once.

The variance of a mean difference is that of the seeds, s^2 / S, known from few of them, plus that
of the documents, v, known well. Where slices share a control they are decided together, as
many-to-one comparisons are (Dunnett 1955). The quantile comes from one joint resampling of both
noises, in which an estimate of the seed noise is as wrong as its degrees of freedom make it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from mlxprune.inference.document_noise import DocumentNoise, document_noise
from mlxprune.inference.seed_noise import (
    MATCHING,
    SeedDifferences,
    SeedNoise,
    moved_means,
    seed_noise,
)
from mlxprune.stats import GroupedMean

RESAMPLES = 10_000
LEVEL = 0.95


class Verdict(StrEnum):
    """What a comparison says, as people read it."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"
    ONE_SEED = "n=1, document noise only, no verdict"
    TOO_FEW = "too few test documents, no verdict"

    @property
    def short(self) -> str:
        """In a table."""
        return {Verdict.ONE_SEED: "one seed", Verdict.TOO_FEW: "few texts"}.get(self, str(self))


@dataclass(frozen=True)
class ArmPair:
    """An arm and its control: ``arm[s]``, ``control[s]`` float64 [units] are the values of every
    document or item for seed s: bits, say.

    ``seeds`` are their names. Pairs of one ``kind`` share their seed noise; ``together`` says that
    they are decided as one family. ``against`` names the control.
    """

    arm: list[np.ndarray]
    control: list[np.ndarray]
    seeds: list[int]
    kind: str
    against: str
    together: bool


@dataclass(frozen=True)
class PairedDifference:
    """Arm minus control: the mean over seeds, its 95 % interval, each seed's difference, the
    probability of so large a difference by chance (of a family: of its largest; None with one
    seed), and what that says.

    ``seed_sd`` is the standard deviation of one seed's difference, pooled over ``pooled`` pairs
    (None with one seed); ``document_sd`` that of the mean difference over documents, known with
    ``document_degrees`` of freedom; ``degrees`` those of both together (Satterthwaite 1946);
    ``standard_errors`` the half-width of the interval in standard errors.
    """

    difference: float
    interval: tuple[float, float]
    by_seed: list[float]
    probability: float | None
    verdict: Verdict
    seed_sd: float | None
    pooled: int
    document_sd: float
    document_degrees: float
    degrees: float
    standard_errors: float


class Noise(Protocol):
    """What a standard error is made of: a ``PairedDifference``, or a record of one."""

    @property
    def seed_sd(self) -> float | None: ...
    @property
    def document_sd(self) -> float: ...
    @property
    def by_seed(self) -> list[float]: ...


def standard_error(found: Noise) -> float:
    """Of a mean difference over seeds and documents."""
    seeds = 0.0 if found.seed_sd is None else found.seed_sd**2 / len(found.by_seed)
    return float(np.sqrt(seeds + found.document_sd**2))


def compare_paired(
    pairs: list[ArmPair],
    parts: GroupedMean,
    seed: int,
    lower: bool = True,
    resamples: int = RESAMPLES,
) -> list[PairedDifference]:
    """Every pair's arm minus its control in a mean over groups, paired by seed.

    See docs/method.md, Verdict. ``seed`` is that of the resampling; ``lower`` values are better.
    """
    if not pairs:
        return []
    by_seed = [
        np.array([parts.mean(a - c) for a, c in zip(p.arm, p.control, strict=True)]) for p in pairs
    ]
    means = np.array(
        [np.mean([a - c for a, c in zip(p.arm, p.control, strict=True)], axis=0) for p in pairs]
    )
    documents = document_noise(means, parts)
    generator = np.random.default_rng(seed)
    several = [n for n in range(len(pairs)) if len(by_seed[n]) > 1]
    drawn = np.zeros((resamples, len(pairs)))
    noises: dict[int, tuple[SeedNoise, int]] = {}
    for kind in dict.fromkeys(pairs[n].kind for n in several):
        mine = [n for n in several if pairs[n].kind == kind]
        moved = [SeedDifferences(pairs[n].seeds, by_seed[n], pairs[n].against) for n in mine]
        noise = seed_noise(moved, resamples, generator)
        count = sum(pairs[n].together for n in several) if pairs[mine[0]].together else 1
        own = np.diag(documents.covariance)[mine]
        drawn[:, mine] = drawn_means(noise, own, count, resamples, generator)
        noises |= {n: (noise, place) for place, n in enumerate(mine)}
    drawn += drawn_documents(documents, resamples, generator)
    families = [[n for n in several if pairs[n].together]]
    families += [[n] for n in several if not pairs[n].together]
    found = {
        n: _of_one_seed(by_seed[n], documents, n) for n in range(len(pairs)) if n not in several
    }
    for family in families:
        if family:
            found |= _decide(family, by_seed, noises, documents, drawn, lower)
    return [found[number] for number in range(len(pairs))]


def _of_one_seed(by_seed: np.ndarray, noise: DocumentNoise, number: int) -> PairedDifference:
    error = float(np.sqrt(noise.covariance[number, number]))
    mean, half = float(by_seed.mean()), 1.96 * error
    return PairedDifference(
        difference=mean,
        interval=(mean - half, mean + half),
        by_seed=by_seed.tolist(),
        probability=None,
        verdict=Verdict.ONE_SEED,
        seed_sd=None,
        pooled=0,
        document_sd=error,
        document_degrees=_finite(noise.degrees[number]),
        degrees=_finite(noise.degrees[number]),
        standard_errors=1.96,
    )


def _decide(
    family: list[int],
    by_seed: list[np.ndarray],
    noises: dict[int, tuple[SeedNoise, int]],
    documents: DocumentNoise,
    drawn: np.ndarray,
    lower: bool,
) -> dict[int, PairedDifference]:
    """Pairs that are decided together, each with two seeds or more, by their numbers."""
    own = np.diag(documents.covariance)
    of_seeds = np.array(
        [n.variance[k] / len(n.pairs[k].values) for n, k in (noises[f] for f in family)]
    )
    error = np.sqrt(of_seeds + own[family])
    statistics = np.abs(drawn[:, family]) / np.where(error > 0, error, 1.0)
    farthest, quantiles = joint_quantiles(statistics)
    found = {}
    for place, number in enumerate(family):
        noise, which = noises[number]
        values = by_seed[number]
        quantile = float(quantiles[place])
        mean, half = float(values.mean()), quantile * float(error[place])
        beyond = len(drawn)
        if error[place] > 0:
            mine = int((statistics[:, place] >= abs(mean) / error[place]).sum())
            beyond = int((farthest <= mine).sum())
        verdict = Verdict.UNDECIDED
        if not documents.enough[number]:
            verdict = Verdict.TOO_FEW
        elif abs(mean) > half:
            verdict = Verdict.BETTER if (mean < 0) == lower else Verdict.WORSE
        found[number] = PairedDifference(
            difference=mean,
            interval=(mean - half, mean + half),
            by_seed=values.tolist(),
            probability=(1 + beyond) / (1 + len(drawn)),
            verdict=verdict,
            seed_sd=float(np.sqrt(noise.variance[which])),
            pooled=int(noise.pooled[which]),
            document_sd=float(np.sqrt(own[number])),
            document_degrees=_finite(documents.degrees[number]),
            degrees=_satterthwaite(
                of_seeds[place], noise.degrees[which], own[number], documents.degrees[number]
            ),
            standard_errors=quantile,
        )
    return found


def _least_ranks(statistics: np.ndarray) -> np.ndarray:
    """int64 [resamples]: how many resamples are as far out as this one, in the pair in which it is
    farthest out."""
    ranks = len(statistics) - np.argsort(np.argsort(statistics, axis=0), axis=0)
    result: np.ndarray = ranks.min(axis=1)
    return result


def joint_quantiles(statistics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(how many resamples are as far out as each [resamples], the half-width [pairs] of intervals
    that hold together with ``LEVEL``): each pair's own quantile at one level for all, so that a
    pair whose noise is little known does not widen the others (Beran 1988)."""
    farthest = _least_ranks(statistics)
    level = 1 - float(np.quantile(farthest, 1 - LEVEL, method="lower")) / len(farthest)
    return farthest, np.quantile(statistics, level, axis=0)


def drawn_means(
    noise: SeedNoise,
    of_documents: np.ndarray,
    together: int,
    resamples: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """How far the seeds may have moved the mean differences of one kind, [resamples, pairs]."""
    counts = np.array([len(pair.values) for pair in noise.pairs])
    total = noise.variance / counts + of_documents
    part = of_documents / np.where(total > 0, total, 1.0)
    chance = generator.random((resamples, 1)) < part ** (MATCHING * together**2)
    return moved_means(noise, chance * generator.chisquare(2, (resamples, 1)), generator)


def drawn_documents(
    documents: DocumentNoise, resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """How far the documents may have moved them, [resamples, pairs]."""
    moved = generator.standard_normal((resamples, len(documents.degrees)))
    moved = moved @ root_of(documents.covariance).T
    degrees = np.minimum(np.maximum(documents.degrees, 1.0), 1e6)
    known: np.ndarray = degrees / generator.chisquare(degrees, (resamples, len(degrees)))
    result: np.ndarray = moved * np.sqrt(known)
    return result


def root_of(covariance: np.ndarray) -> np.ndarray:
    """A matrix whose product with its transpose is ``covariance``, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    result: np.ndarray = vectors * np.sqrt(np.maximum(values, 0.0))
    return result


def _satterthwaite(
    of_seeds: float, seed_degrees: float, of_documents: float, document_degrees: float
) -> float:
    spread = of_seeds**2 / seed_degrees + of_documents**2 / document_degrees
    return _finite((of_seeds + of_documents) ** 2 / spread if spread else np.inf)


def _finite(degrees: float) -> float:
    """JSON knows no infinity."""
    return float(min(degrees, 1e6))
