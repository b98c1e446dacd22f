"""Document noise: how far the figures of several pairs would move with other test documents.

A figure is a mean over groups (domains, tasks), each the ratio of its units' values and sizes. Its
noise is that of the residuals of the units, each raised for its own pull on the ratio
(MacKinnon and White 1985, HC3): e / (1 - h), h the share of the group's size that the unit is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxprune.stats import GroupedMean

# Below so many degrees of freedom the noise of documents is too little known for a verdict:
# bench/coverage.py shows where intervals cease to hold what they promise.
LEAST_DEGREES = 10.0


@dataclass(frozen=True)
class DocumentNoise:
    """``covariance`` float64 [pairs, pairs] of the mean differences; ``degrees`` [pairs] of freedom
    with which its diagonal is known (Satterthwaite 1946, over the groups)."""

    covariance: np.ndarray
    degrees: np.ndarray

    @property
    def enough(self) -> np.ndarray:
        """bool [pairs]: whether a verdict may rest on so few documents."""
        known = self.degrees >= LEAST_DEGREES
        return np.asarray(known | (np.diag(self.covariance) == 0))


def document_noise(differences: np.ndarray, parts: GroupedMean) -> DocumentNoise:
    """Of ``differences`` float64 [pairs, units], arm minus control, means over seeds."""
    pull = influences(differences, parts)
    effective = parts.effective_units()
    by_group = np.array(
        [np.bincount(parts.groups, weights=row**2, minlength=len(effective)) for row in pull]
    )
    least = np.maximum(effective - 1, 0.1)  # a lone unit tells nothing of the others
    spread = (by_group**2 / least).sum(axis=1)
    total = by_group.sum(axis=1)
    degrees = np.divide(total**2, spread, out=np.full(len(pull), np.inf), where=spread > 0)
    return DocumentNoise(pull @ pull.T, degrees)


def influences(values: np.ndarray, parts: GroupedMean) -> np.ndarray:
    """float64 [rows, units]: what each unit moves a figure by. The sum of squares of a row is the
    variance of its figure, the inner product of two rows their covariance."""
    count = len(parts.weights)
    size = np.bincount(parts.groups, weights=parts.sizes, minlength=count)
    size = np.where(size > 0, size, 1.0)
    totals = np.array([np.bincount(parts.groups, weights=row, minlength=count) for row in values])
    residual = values - (totals / size)[:, parts.groups] * parts.sizes
    share = parts.sizes / size[parts.groups]
    rest = np.where(share < 1, 1 - share, 1.0)  # a unit alone in its group has no residual
    result: np.ndarray = residual * (parts.weights / size)[parts.groups] / rest
    return result
