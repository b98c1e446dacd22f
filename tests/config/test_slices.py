"""Slices in the configuration: shorthand, names, and what cannot be."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mlxprune.config.loading import load_config, validate_config
from mlxprune.config.schema import EARLY
from mlxprune.errors import ConfigError

BASE: dict[str, Any] = {"data": {"paths": ["x"]}}


def slices(**selection: Any) -> Any:
    return validate_config({**BASE, "selection": selection}, "test").slices


def labels(**selection: Any) -> list[str]:
    return [choice.label for choice in slices(**selection)]


def test_lists_mean_every_combination() -> None:
    found = labels(criterion=["low", "medium", "high"], rate=[0.25, 0.5])
    assert found == ["low-25", "low-50", "medium-25", "medium-50", "high-25", "high-50"]


def test_slices_share_the_keys_beside_them() -> None:
    found = slices(
        unit="documents",
        rate=0.3,
        slices=[{"criterion": "low"}, {"band": [0.2, 0.4]}, {"criterion": "high", "rate": 0.1}],
    )
    assert [c.label for c in found] == ["low-30", "band-20-40", "high-10"]
    assert {c.unit for c in found} == {"documents"}


@pytest.mark.parametrize(
    ("selection", "label"),
    [
        ({"by": ["domain", "length"]}, "high-50-by-domain-length"),
        ({"by": "domain", "metric": "bpb"}, "high-50-by-domain-bpb"),
        ({"criterion": "soft", "centre": 0.7, "rate": 0.2}, "soft-20-at-70"),
        ({"reference": "zlib", "metric": "bpb"}, "high-50-bpb-zlib"),
        ({"metric": "progress"}, "high-50-progress"),
        ({"name": "mine"}, "mine"),
        ({"rate": "0.125"}, "high-12.5"),
    ],
)
def test_slices_are_named_by_what_they_are(selection: dict[str, Any], label: str) -> None:
    assert labels(**selection) == [label]


@pytest.mark.parametrize(
    ("selection", "problem"),
    [
        ({"floor": 0.6, "cap": 0.5}, "cannot both hold"),
        ({"protect": ["a"], "cap": {"a": 0.5}}, "cannot both hold"),
        ({"floor": {"a": 0.6}, "cap": 0.5}, "cannot both hold"),
        ({"floor": 1.5}, "between 0 and 1"),
        ({"criterion": "soft"}, "centre"),
        ({"centre": 0.5}, "centre"),
        ({"criterion": "soft", "centre": 2}, "centre 2"),
        ({"slices": [{"criterion": "low"}, {"criterion": "low", "unit": "documents"}]}, "called"),
        ({"slices": []}, "slices"),
        ({"slices": ["low"]}, "table"),
        ({"name": "random-50"}, "control arm"),
        ({"name": "matched.x"}, "control arm"),
        ({"name": "Base-x2"}, "control arm"),
        ({"criterion": "soft", "centre": 0.5, "spread": 1e-9}, "spread"),
        ({"slices": [{"name": "Hi"}, {"name": "hi"}]}, "called"),
        ({"name": "a/b"}, "folder"),
        ({"metric": {"difference": ["main", "other"]}}, "no reference 'other'"),
        ({"reference": "nobody"}, "no reference 'nobody'"),
        ({"rule": "paper", "unit": "documents", "floor": 0.1}, "paper"),
        ({"min_tokens": 0}, "min_tokens"),
        ({"by": "length"}, "by"),
        ({"rate": [0.5, 2]}, "rate 2"),
    ],
)
def test_what_cannot_be_is_refused(selection: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        slices(**selection)
    assert problem in caught.value.problem, caught.value.problem


def test_a_misspelt_key_of_a_slice_names_the_closest() -> None:
    with pytest.raises(ConfigError) as caught:
        slices(slices=[{"critereon": "low"}])
    assert "criterion" in caught.value.fix
    with pytest.raises(ConfigError) as caught:
        slices(critereon="low")
    assert "selection.critereon" in caught.value.problem
    assert "criterion" in caught.value.fix


@pytest.mark.parametrize(
    "selection",
    [
        {"criterion": ["low", "high"]},
        {"by": ["domain", "length"], "floor": {"a": 0.1}, "protect": ["b"]},
        {"slices": [{"band": [0.1, 0.2]}, {"criterion": "soft", "centre": 0.5}]},
        {"metric": "progress"},
    ],
)
def test_what_is_written_is_read_again(selection: dict[str, Any]) -> None:
    whole = validate_config({**BASE, "selection": selection}, "test")
    assert validate_config(whole.model_dump(mode="json"), "test") == whole


def test_an_override_holds_for_every_slice(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("data: {paths: [a]}\nselection: {slices: [{criterion: low, rate: 0.3}, {}]}\n")
    found = load_config(path, ["selection.rate=0.1"]).slices
    assert [c.rate for c in found] == [Decimal("0.1"), Decimal("0.1")]
    found = load_config(path, ["selection.slices=[{band: [0, 0.5]}]"]).slices
    assert [c.label for c in found] == ["band-0-50"]


def test_bounds_of_a_domain() -> None:
    choice = slices(floor={"a": 0.1}, cap=0.8, protect=["b"])[0]
    assert choice.bounds_of("a") == (Decimal("0.1"), Decimal("0.8"))
    assert choice.bounds_of("b") == (1, 1)
    assert choice.bounds_of("c") == (0, Decimal("0.8"))


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ({"references": [{"name": "a"}, {"name": "a"}]}, "name of its own"),
        ({"references": [{"name": "a"}], "reference": {"tokens": 5}}, "not both"),
        ({"references": [{"name": "zlib"}]}, "zlib"),
        ({"split": {"cross": 2, "reference": 0.2}}, "cross"),
        ({"split": {"cross": 2}, "references": [{"name": "a"}, {"name": "b"}]}, "cross"),
        ({"split": {"cross": 1}}, "cross"),
        ({"split": {"reference": 0.6, "test": 0.3, "validation": 0.2}}, "none is left"),
        ({"reference": {"pretrained": "x", "snapshots": [0.5]}}, "snapshots"),
        ({"final": {"ladder": [1, 1]}}, "rung"),
        ({"final": {"arms": ["prund"]}}, "arms"),
        (
            {"final": {"ladder": [2]}, "selection": {"slices": [{"name": "a"}, {"name": "a-x2"}]}},
            "two arms are called",
        ),
        ({"reference": {"pretrained": "x"}, "selection": {"metric": "progress"}}, "progress"),
    ],
)
def test_references_and_arms_that_cannot_be(tree: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_config({**BASE, **tree}, "test")
    assert problem in caught.value.problem, caught.value.problem


def test_metric_progress_brings_its_snapshot() -> None:
    found = validate_config({**BASE, "selection": {"metric": "progress"}}, "test")
    assert found.scorers[0].snapshots == [EARLY]
    assert validate_config(BASE, "test").scorers[0].snapshots == []


def test_half_of_the_documents_and_half_of_the_tokens_are_of_two_sizes() -> None:
    """They have no random control in common, and neither is thinned to the other."""
    both = slices(
        slices=[{"criterion": "high", "unit": "tokens"}, {"criterion": "low", "unit": "documents"}]
    )
    assert [choice.share for choice in both] == ["50-tokens", "50-documents"]
    assert [choice.share for choice in slices(criterion=["low", "high"], unit="documents")] == [
        "50",
        "50",
    ]
