"""Cuts: limits half way to the next document, by group where the slice ranks by group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlxprune.config.slices import Slice
from mlxprune.errors import DataError
from mlxprune.filtering.cuts import Cuts, Interval, cuts_of_slice, groups_of
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.metric import metric_values
from mlxprune.selection.selector import apply_slice

NAMES = ("a", "b", "c")


def some_scores(generator: np.random.Generator, count: int = 400) -> Scores:
    tokens = generator.integers(1, 300, count)
    return Scores(
        generator.integers(0, 1 << 63, count).astype(np.uint64),
        generator.normal(3, 1, count) * tokens, tokens, tokens * 4,
        domain=generator.integers(0, 3, count), domains=NAMES,
    )  # fmt: skip


@pytest.mark.parametrize(
    "asked",
    [
        {"criterion": "low", "rate": 0.3}, {"criterion": "high", "rate": 0.7, "unit": "documents"},
        {"criterion": "medium", "rate": 0.4}, {"band": [0.1, 0.35]}, {"by": "domain"},
        {"by": ["domain", "length"], "unit": "documents"}, {"floor": 0.2, "rate": 0.3},
        {"protect": ["b"], "cap": {"c": 0.1}, "rate": 0.5}, {"tokens": 9000},
        {"min": 10, "max": 40},
        {"rule": "paper", "unit": "documents", "criterion": "medium", "rate": 0.5},
        {"min_tokens": 50, "criterion": "low"}, {"criterion": "medium", "rate": 0.4, "floor": 0.3},
    ],
)  # fmt: skip
def test_a_study_cut_by_its_own_cuts_is_the_slice(
    asked: dict[str, Any], generator: np.random.Generator
) -> None:
    scores, choice = some_scores(generator), Slice.model_validate(asked)
    kept = apply_slice(scores, choice, 1).mask
    cuts = cuts_of_slice(scores, choice, kept, 1, scores.num_tokens)
    assert scores.domain is not None
    names = [NAMES[code] for code in scores.domain.tolist()]
    found = cuts.kept(metric_values(scores, choice), names, scores.num_tokens)
    found &= scores.num_tokens >= choice.min_tokens
    if choice.bounded:  # the document that a cap or a floor splits is not in preference's order
        assert (found != kept).sum() <= 2 * len(NAMES)
    else:
        assert np.array_equal(found, kept)


def test_a_side_on_which_nothing_was_dropped_has_no_limit(generator: np.random.Generator) -> None:
    scores = some_scores(generator)
    low, high = (Slice(criterion=c, rate="0.5") for c in ("low", "high"))  # type: ignore[arg-type]
    for choice, free in ((low, "low"), (high, "high")):
        kept = apply_slice(scores, choice, 0).mask
        whole = cuts_of_slice(scores, choice, kept, 0, scores.num_tokens).whole
        assert (whole.low is None, whole.high is None) == (free == "low", free == "high")


def test_groups_that_the_study_never_saw() -> None:
    whole, own = Interval(0.0, 1.0), Interval(5.0, None)
    values, lengths = np.array([0.5, 7.0, 0.5, 7.0]), np.array([8, 8, 8, 8])
    names = ["new", "new", "a", "a"]
    for policy, wanted in (("whole", [1, 0, 0, 1]), ("keep", [1, 1, 0, 1]), ("drop", [0, 0, 0, 1])):
        cuts = Cuts(by="domain", whole=whole, groups={"a": own}, new_domains=policy)
        assert cuts.kept(values, names, lengths).tolist() == [bool(w) for w in wanted]
    cells = Cuts(by="domain,length", whole=whole, groups={"a": own, "a/3": None, "a/5": whole})
    assert cells.kept(values, names, np.array([8, 8, 32, 64])).tolist() == [True, False, True, True]
    assert set(groups_of(names, np.array([8, 9, 32, 64]), "domain,length")) == {
        "new/3",
        "a/5",
        "a/6",
    }


def test_a_lot_has_no_cut(generator: np.random.Generator) -> None:
    scores = some_scores(generator)
    choice = Slice.model_validate({"criterion": "soft", "centre": 0.5})
    with pytest.raises(DataError, match="drawn by lot"):
        cuts_of_slice(scores, choice, np.ones(len(scores), bool), 0, scores.num_tokens)
