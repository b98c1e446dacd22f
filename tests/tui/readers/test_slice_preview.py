from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from mlxprune.config.loading import override_setting, validate_config
from mlxprune.config.slices import Slice
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.selector import apply_slice
from mlxprune_tui.readers import slice_preview
from mlxprune_tui.readers.what_if import settings_of


def some_scores(generator: np.random.Generator, count: int, domains: int) -> Scores:
    tokens = generator.integers(1, 1500, count)
    rounded = np.round(generator.normal(4, 1, count).clip(0.1), 1)  # many ties
    return Scores(
        generator.integers(0, 2**63, count).astype(np.uint64),
        rounded * tokens,
        tokens,
        tokens * 4,
        domain=generator.integers(0, domains, count) if domains else None,
        domains=tuple(f"d{n}" for n in range(domains)),
    )


def some_slice(generator: np.random.Generator, domains: int) -> Slice:
    told: dict[str, Any] = {
        "criterion": str(generator.choice(["low", "medium", "high", "band"])),
        "unit": str(generator.choice(["documents", "tokens"])),
        "min_tokens": int(generator.choice([1, 1, 300])),
    }
    if domains:
        told["by"] = [["domain"], ["domain", "length"], "corpus"][int(generator.integers(3))]
    if told["criterion"] == "band":
        low, high = sorted(generator.choice(101, 2, replace=False).tolist())
        told |= {"band": (Decimal(low) / 100, Decimal(high) / 100), "rate": None}
    else:
        told["rate"] = Decimal(int(generator.integers(1, 101))) / 100
    return Slice.model_validate(told)


@pytest.mark.parametrize("trial", range(40))
def test_it_keeps_what_the_selection_keeps(trial: int, generator: np.random.Generator) -> None:
    domains = int(generator.choice([0, 1, 5]))
    scores = some_scores(generator, int(generator.integers(1, 6000)), domains)
    tokens = generator.integers(1, 900, len(scores))
    for _ in range(8):
        choice = some_slice(generator, domains)
        table = slice_preview.Table(scores, tokens, 3, choice)
        kept = table.ask(choice)
        mask = apply_slice(scores, choice, 3, tokens).mask
        domain = np.zeros(len(scores), int) if scores.domain is None else scores.domain
        count = max(1, domains)
        assert np.array_equal(kept.documents, np.bincount(domain[mask], minlength=count))
        sums = np.bincount(domain[mask], weights=tokens[mask], minlength=count)
        assert np.array_equal(kept.tokens, sums)
        assert ((kept.columns >= 0) & (kept.columns <= 1 + 1e-9)).all()
        for row, inside in table.around(choice, kept, True, 8, 0):
            assert inside == mask[row]


@pytest.mark.parametrize("kind", ["floor", "soft", "paper"])
def test_what_is_no_interval_is_asked_of_the_selection(
    kind: str, generator: np.random.Generator
) -> None:
    scores = some_scores(generator, 900, 3)
    told: dict[str, dict[str, Any]] = {
        "floor": {"criterion": "high", "rate": Decimal("0.5"), "floor": Decimal("0.2")},
        "soft": {"criterion": "soft", "rate": Decimal("0.4"), "centre": Decimal("0.7")},
        "paper": {"criterion": "low", "rate": Decimal("0.3"), "rule": "paper",
                  "unit": "documents"},
    }  # fmt: skip
    choice = Slice.model_validate(told[kind])
    table = slice_preview.Table(scores, scores.num_tokens, 3, choice)
    kept = table.ask(choice)
    mask = apply_slice(scores, choice, 3, scores.num_tokens).mask
    assert kept.all_documents == int(mask.sum())
    assert kept.spans is None
    assert table.around(choice, kept, True, 6, 0) == []


def test_the_settings_make_the_slice(generator: np.random.Generator) -> None:
    """What the app copies, read as the command line reads it, is the slice in hand."""
    for _ in range(50):
        choice = some_slice(generator, 3).model_copy(update={"min_tokens": 1})
        tree: dict[str, Any] = {
            "data": {"paths": ["x"]},
            "selection": {"slices": [{"criterion": "low", "rate": 0.2}]},
        }
        for setting in settings_of(choice):
            override_setting(tree, setting)
        assert validate_config(tree, "test").slices == [choice]


def some_table() -> tuple[slice_preview.Table, Slice]:
    n = 1000
    tokens = np.full(n, 10)
    mean = np.linspace(1, 5, n)
    scores = Scores(
        np.arange(n).astype(np.uint64),
        mean * tokens,
        tokens,
        tokens * 4,
        domain=(np.arange(n) >= 500).astype(np.int64),
        domains=("easy", "hard"),
    )
    choice = Slice.model_validate({"criterion": "high", "rate": 0.3, "unit": "documents"})
    return slice_preview.Table(scores, tokens, 3, choice), choice


def test_the_edges_of_a_what_if() -> None:
    table, choice = some_table()
    kept = table.ask(choice)
    low, high = table.cut_values(choice, kept)
    assert low == pytest.approx(table.values[700])
    assert high == pytest.approx(table.values[999])
    around = table.around(choice, kept, False, 8, 0)
    assert {row for row, _ in around} == set(range(696, 704))
    assert [inside for _, inside in sorted(around)] == [False] * 4 + [True] * 4
    assert kept.columns[:200].max() == 0
    assert kept.columns[-50:].min() == 1
