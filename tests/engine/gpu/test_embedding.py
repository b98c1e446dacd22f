"""The gradient of a look-up: float64's sums to rounding, and the same bytes every time."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxprune.engine.gpu.embedding import LookupOrder, embed, lookup_order, sum_by_id


def ids_of(kind: str, count: int, vocabulary: int, generator: np.random.Generator) -> np.ndarray:
    if kind == "zipf":
        return ((generator.zipf(1.3, count) - 1) % vocabulary).astype(np.int32)
    if kind == "one":
        return np.full(count, vocabulary - 1, np.int32)
    return generator.integers(0, vocabulary, count).astype(np.int32)


@pytest.mark.parametrize("kind", ["zipf", "one", "even"])
@pytest.mark.parametrize(
    "count, vocabulary",
    [(1, 5), (63, 5), (64, 5), (65, 7), (128, 1), (500, 3), (2000, 97), (4096, 9000)],
)
def test_sums_are_those_of_float64(
    kind: str, count: int, vocabulary: int, generator: np.random.Generator
) -> None:
    """Both edges of a block, ids over many blocks, ids that do not occur."""
    ids = ids_of(kind, count, vocabulary, generator)
    rows = generator.standard_normal((count, 6)).astype(np.float32)
    true = np.zeros((vocabulary, 6))
    np.add.at(true, ids, rows.astype(np.float64))
    size = np.zeros((vocabulary, 6))
    np.add.at(size, ids, np.abs(rows))
    order = LookupOrder(*map(mx.array, lookup_order(ids, vocabulary)))
    found = np.array(sum_by_id(mx.array(rows), order))
    assert np.all(np.abs(found - true) <= 1e-6 * size + 1e-12)
    again = np.array(sum_by_id(mx.array(rows), order))
    assert found.tobytes() == again.tobytes()


def test_bfloat16_rows_are_added_in_float32(generator: np.random.Generator) -> None:
    """The table of errors by frequency: what is added is rounded once, before, and never after."""
    ids = ids_of("zipf", 8192, 8192, generator)
    rows = mx.array(generator.standard_normal((8192, 32)).astype(np.float32)).astype(mx.bfloat16)
    true = np.zeros((8192, 32))
    np.add.at(true, ids, np.array(rows.astype(mx.float32)).astype(np.float64))
    order = LookupOrder(*map(mx.array, lookup_order(ids, 8192)))
    found = np.array(sum_by_id(rows, order))
    seen = np.bincount(ids, minlength=8192)
    for least, most in ((1, 1), (10, 20), (100, 200), (500, 8192)):
        some = (seen >= least) & (seen <= most)
        norm = np.linalg.norm(true[some], axis=1)
        error = np.linalg.norm((found - true)[some], axis=1) / norm
        print(f"seen {least} to {most}: {np.median(error):.2e}" if some.any() else "none")
        assert not some.any() or np.median(error) < 1e-6


def test_a_look_up_gives_rows_and_its_gradient(generator: np.random.Generator) -> None:
    table = generator.standard_normal((40, 5)).astype(np.float32)
    ids = ids_of("zipf", 300, 40, generator).reshape(3, 100)
    weights = generator.standard_normal((3, 100, 5)).astype(np.float32)
    order = LookupOrder(*map(mx.array, lookup_order(ids, 40)))

    def loss(table: mx.array) -> mx.array:
        rows = embed(table, mx.array(ids), order, mx.float32)
        return (rows * mx.array(weights)).sum()

    value, gradient = mx.value_and_grad(loss)(mx.array(table))
    true = np.zeros((40, 5))
    np.add.at(true, ids.ravel(), weights.reshape(-1, 5).astype(np.float64))
    assert np.allclose(np.array(gradient), true, atol=1e-4)
    assert np.isclose(float(value.item()), float((table[ids] * weights).sum()), rtol=1e-4)
    rows = embed(mx.array(table), mx.array(ids), order, mx.bfloat16)
    assert rows.dtype == mx.bfloat16
    assert np.array_equal(
        np.array(rows.astype(mx.float32)),
        np.array(mx.array(table).astype(mx.bfloat16).astype(mx.float32))[ids],
    )
