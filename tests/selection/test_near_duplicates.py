"""Near-duplicates and templates among the ends of the ranks."""

from __future__ import annotations

import numpy as np

from mlxprune.selection.near_duplicates import describe_ends, shingles
from mlxprune.tokenization.token_file import Tokens


def tokens_of(documents: list[np.ndarray]) -> Tokens:
    lengths = [len(d) for d in documents]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate(documents).astype(np.uint16)
    return Tokens(ids, offsets.astype(np.int64), 5000, 1, 1)


def test_planted_near_duplicates_are_found(generator: np.random.Generator) -> None:
    template = generator.integers(0, 5000, 300)
    copies = []
    for _ in range(6):
        copy = template.copy()
        copy[generator.integers(0, 300, 3)] = generator.integers(0, 5000, 3)
        copies.append(copy)
    others = [generator.integers(0, 5000, generator.integers(20, 300)) for _ in range(30)]
    held = tokens_of([*copies, *others])
    order = np.concatenate([generator.permutation(6), 6 + generator.permutation(30)])
    found = describe_ends(held, np.arange(36), np.full(36, 900), order, 3)["lowest"]
    assert found.documents == 9
    assert found.near_duplicates == found.largest_cluster == 6
    assert found.clusters == 1
    row, size = found.chosen[0]
    assert row < 6
    assert size == 6
    assert len({r for r, _ in found.chosen}) == 3


def test_repeats_inside_a_document_are_told(generator: np.random.Generator) -> None:
    looping = np.tile(generator.integers(0, 5000, 10), 30)
    plain = [generator.integers(0, 5000, 300) for _ in range(7)]
    held = tokens_of([looping, *plain])
    found = describe_ends(held, np.arange(8), np.full(8, 900), np.arange(8), 2)
    assert found["lowest"].repeated_shingles > 0.4
    assert found["highest"].repeated_shingles < 0.01
    assert found["highest"].near_duplicates == 0


def test_documents_of_one_token_are_borne() -> None:
    held = tokens_of([np.array([7]), np.array([7]), np.array([8]), np.array([9])])
    found = describe_ends(held, np.arange(4), np.ones(4), np.arange(4), 5)
    assert found["lowest"].documents == 1
    assert len(shingles(np.array([7], np.uint16))) == 1
