"""Document noise against leaving one document out at a time, and against fresh documents."""

from __future__ import annotations

import numpy as np
import pytest

from mlxprune.inference.document_noise import LEAST_DEGREES, document_noise, influences
from mlxprune.stats import GroupedMean, equal_groups


def drawn(generator: np.random.Generator, count: int = 60) -> tuple[np.ndarray, GroupedMean]:
    sizes = np.exp(generator.normal(6, 1, count))
    values = sizes * generator.normal(0, 1, (3, count))
    return values, equal_groups(sizes, np.arange(count) % 4)


def test_an_influence_is_what_leaving_the_document_out_changes(
    generator: np.random.Generator,
) -> None:
    values, parts = drawn(generator)
    pull = influences(values, parts)
    for row in range(3):
        whole = parts.mean(values[row])
        for unit in range(60):
            keep = np.arange(60) != unit
            less = GroupedMean(parts.sizes[keep], parts.groups[keep], parts.weights)
            assert pull[row, unit] == pytest.approx(whole - less.mean(values[row][keep]))


def test_a_document_alone_in_its_domain_is_no_noise_and_no_knowledge() -> None:
    sizes, groups = np.array([10.0, 12, 9, 50]), np.array([0, 0, 0, 1])
    noise = document_noise(np.array([[1.0, 2, 3, 40]]), equal_groups(sizes, groups))
    assert np.isfinite(noise.covariance).all()
    assert noise.degrees[0] < LEAST_DEGREES
    assert not noise.enough[0]


def test_variance_and_covariance_are_those_of_fresh_documents() -> None:
    """Mean estimate against the spread of the figures over many test parts; with twenty documents a
    domain the estimate is about 14 % too large (HC3 errs upwards), with eighty a few."""
    generator = np.random.default_rng(4)
    figures, estimates = [], []
    for _ in range(1500):
        sizes = np.exp(generator.normal(0, 0.8, 320))
        common = generator.normal(0, 1, 320)
        values = sizes * np.array([common + generator.normal(0, 1, 320), common])
        parts = equal_groups(sizes, np.arange(320) % 4)
        figures.append([parts.mean(row) for row in values])
        estimates.append(document_noise(values, parts).covariance)
    true, found = np.cov(np.array(figures).T), np.mean(estimates, axis=0)
    np.testing.assert_allclose(found, true, rtol=0.12)


def test_degrees_count_documents_of_equal_size_and_noise(generator: np.random.Generator) -> None:
    """Five domains of n alike: 5 (n - 1), less by the chance of the variances."""
    for each in (5, 40):
        values = generator.normal(0, 1, (200, 5 * each))
        noise = document_noise(values, equal_groups(np.ones(5 * each), np.arange(5 * each) % 5))
        assert 0.6 * 5 * (each - 1) < np.median(noise.degrees) <= 5 * (each - 1)


def test_equal_arms_have_no_noise() -> None:
    noise = document_noise(np.zeros((1, 6)), equal_groups(np.ones(6), np.arange(6) % 2))
    assert noise.covariance[0, 0] == 0
    assert noise.enough[0]
