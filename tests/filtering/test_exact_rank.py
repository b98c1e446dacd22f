"""The exact rank in passes against the slice that holds all scores."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from mlxprune.config.slices import Slice
from mlxprune.errors import DataError
from mlxprune.filtering import exact_rank
from mlxprune.filtering.exact_rank import ExactRank, RankedRows
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.selector import apply_slice

NAMES = ("a", "b", "c")


@pytest.mark.parametrize("held", [True, False])
def test_it_keeps_what_the_slice_keeps(
    held: bool, generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of equal figures, of both signs, in groups, whether it fits into memory or not."""
    if not held:
        monkeypatch.setattr(exact_rank, "HELD_DOCUMENTS", 0)
    for _ in range(25):
        count = int(generator.integers(1, 300))
        figures = np.round(generator.normal(0, 1, count), int(generator.integers(0, 5)))
        tokens = generator.integers(1, 60, count)
        keys = generator.integers(0, 1 << 63, count).astype(np.uint64)
        domain = generator.integers(0, 3, count)
        choice = any_slice(generator)
        scores = Scores(keys, figures, tokens, tokens, domain=domain, domains=NAMES, given=figures)
        wanted = apply_slice(scores, choice, 5).mask
        parts = np.split(np.arange(count), np.sort(generator.integers(0, count, 3)))

        def read(
            parts: list[np.ndarray] = parts, columns: Any = (figures, keys, tokens, domain)
        ) -> Iterator[RankedRows]:
            for part in parts:
                f, k, t, d = (column[part] for column in columns)
                yield RankedRows(f, k, t, [NAMES[i] for i in d])

        rank = ExactRank(read, choice, 5)
        found = np.concatenate([rank.kept(rows) for rows in read()])
        assert np.array_equal(found, wanted), choice


def any_slice(generator: np.random.Generator) -> Slice:
    by: Any = ["corpus", "domain", ("domain", "length")][int(generator.integers(3))]
    criterion: Any = str(generator.choice(["low", "medium", "high", "band"]))
    shared: dict[str, Any] = {
        "criterion": criterion, "by": by, "min_tokens": int(generator.integers(1, 12)),
        "unit": str(generator.choice(["documents", "tokens"])),
    }  # fmt: skip
    if criterion == "band":
        return Slice(band=(Decimal("0.2"), Decimal("0.75")), **shared)
    return Slice(rate=Decimal(str(round(float(generator.uniform(0.02, 1)), 3))), **shared)


@pytest.mark.parametrize(
    "choice",
    [
        {"criterion": "soft", "centre": 0.5}, {"floor": 0.1},
        {"rule": "paper", "unit": "documents"}, {"max": 20}, {"tokens": 1000},
    ],
)  # fmt: skip
def test_what_is_no_interval_of_ranks_is_refused(choice: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="no exact rate"):
        ExactRank(lambda: iter(()), Slice.model_validate(choice), 0)
