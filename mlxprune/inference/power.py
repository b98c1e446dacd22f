"""Power: the differences that a study can decide, and the seeds that it would take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxprune.inference.document_noise import DocumentNoise
from mlxprune.inference.seed_noise import SeedNoise
from mlxprune.inference.verdict import (
    LEVEL,
    RESAMPLES,
    PairedDifference,
    resampled,
    standard_error,
)

POWER = 0.8
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
    count = noise.pairs
    correlation = np.where(np.eye(count) > 0, 1.0, 0.5)
    drawn = generator.standard_normal((RESAMPLES, seeds - 1, count))
    scales = ((drawn @ np.linalg.cholesky(correlation).T) ** 2).mean(axis=(1, 2))
    degrees = (seeds - 1) * count**2 / float((correlation**2).sum())
    seed_noise = SeedNoise(
        np.full(count, noise.seed_sd**2),
        np.full(count, degrees),
        np.full(count, count),
        correlation,
        np.repeat(scales[:, None], count, axis=1),
    )
    documents = DocumentNoise(
        noise.document_sd**2 * correlation, np.full(count, noise.document_degrees)
    )
    statistics = resampled(seed_noise, np.full(count, seeds), documents, generator)
    return float(np.quantile(np.abs(statistics).max(axis=1), LEVEL))
