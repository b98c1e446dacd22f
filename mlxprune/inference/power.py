"""Power: the differences that a study can decide, and the seeds that it would take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxprune.inference.document_noise import DocumentNoise
from mlxprune.inference.seed_noise import LEAST_CORRELATION, SeedDifferences, SeedNoise
from mlxprune.inference.verdict import (
    RESAMPLES,
    PairedDifference,
    drawn_documents,
    drawn_means,
    joint_quantiles,
    standard_error,
)

Z_POWER = 0.8416212335729143  # the 80 % quantile of the normal distribution
MOST_SEEDS = 30  # more are not proposed


@dataclass(frozen=True)
class ExpectedNoise:
    """Standard deviations of an arm minus its control: ``seed_sd`` of one seed's difference,
    ``document_sd`` of the mean over seeds. ``pairs`` slices are decided together from one control,
    ``document_degrees`` is how well the second is known."""

    seed_sd: float
    document_sd: float
    pairs: int = 1
    document_degrees: float = np.inf


def smallest_difference(found: PairedDifference) -> float | None:
    """The size of a difference that so noisy a study would have decided with 80 % power; None with
    one seed."""
    if found.seed_sd is None:
        return None
    return (found.standard_errors + Z_POWER) * standard_error(found)


def decidable(noise: ExpectedNoise, seeds: int) -> float | None:
    """The size of the smallest difference that a study of so many seeds decides with 80 % power;
    None with one seed. Arms and their control are taken to be equally noisy."""
    if seeds < 2:
        return None
    error = np.hypot(noise.seed_sd / np.sqrt(seeds), noise.document_sd)
    return float((_quantile(noise, seeds) + Z_POWER) * error)


def seeds_needed(found: PairedDifference, pairs: int = 1) -> int | None:
    """How many seeds would decide the difference that was found, were it the true one, with 80 %
    power; None where more seeds than 30 would not, or where one seed tells nothing of their noise.
    """
    if found.seed_sd is None or not found.difference:
        return None
    noise = ExpectedNoise(found.seed_sd, found.document_sd, pairs)
    for seeds in range(2, MOST_SEEDS + 1):
        least = (1.96 + Z_POWER) * np.hypot(noise.seed_sd / np.sqrt(seeds), noise.document_sd)
        if least > abs(found.difference):
            continue
        if (decidable(noise, seeds) or np.inf) <= abs(found.difference):
            return seeds
    return None


def _quantile(noise: ExpectedNoise, seeds: int) -> float:
    """The half-width of an interval in standard errors, where noises are estimated as they are."""
    generator = np.random.default_rng(0)
    count, variance, degrees = noise.pairs, noise.seed_sd**2, seeds - 1
    pairs = [SeedDifferences(list(range(seeds)), np.zeros(seeds), "control") for _ in range(count)]
    pooled = count > 1 and degrees > 1
    expected = SeedNoise(
        pairs=pairs,
        variance=np.full(count, variance),
        degrees=np.full(count, float(degrees)),
        pooled=np.full(count, count if pooled else 1),
        correlation=LEAST_CORRELATION,
        shared=variance * (1 + (count - 1) * LEAST_CORRELATION) / count,
        own=variance * (1 - LEAST_CORRELATION),
        groups=1 / count,
        shared_degrees=degrees,
        own_degrees=degrees * (count - 1),
    )
    correlation = np.where(np.eye(count) > 0, 1.0, LEAST_CORRELATION)
    own = np.full(count, noise.document_sd**2)
    documents = DocumentNoise(
        noise.document_sd**2 * correlation, np.full(count, noise.document_degrees)
    )
    drawn = drawn_means(expected, own, count, RESAMPLES, generator)
    drawn += drawn_documents(documents, RESAMPLES, generator)
    error = np.sqrt(variance / seeds + own)
    _, quantiles = joint_quantiles(np.abs(drawn) / np.where(error > 0, error, 1.0))
    return float(np.median(quantiles))
