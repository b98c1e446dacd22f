"""The configuration: strict, exact, and its errors name the key and the fix."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mlxprune.config import field_types
from mlxprune.config.data import Data
from mlxprune.config.loading import load_config, validate_config
from mlxprune.config.schema import Config, Score, Split
from mlxprune.config.yaml_file import write_yaml
from mlxprune.errors import ConfigError

BASE: dict[str, Any] = {"data": {"paths": ["corpus"]}}


def load(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load_config(path, list(overrides))


@pytest.mark.parametrize(
    ("text", "count"),
    [("26B", 26 * 10**9), ("2M", 2_000_000), ("512k", 512_000), ("1.5M", 1_500_000)],
)
def test_counts_count_in_thousands(text: str, count: int) -> None:
    assert field_types.parse_count(text) == count


def test_yaml_is_read_as_1_2(tmp_path: Path) -> None:
    """`no` is text, `1e-4` a number."""
    read = load(tmp_path, "name: no\ndata: {paths: [a]}\nreference: {learning_rate: 1e-4}")
    assert read.name == "no"
    assert read.reference.learning_rate == 1e-4


def test_every_key_but_the_paths_has_a_default() -> None:
    assert validate_config(BASE, "test").final.tokens == 50_000_000


def test_what_is_resolved_reads_back_as_the_same(tmp_path: Path) -> None:
    first = load(tmp_path, "data: {paths: [a]}\nselection: {band: [0.1, 0.35]}\nfinal: {passes: 2}")
    again = load(tmp_path, write_yaml(first.model_dump(mode="json")))
    assert again == first


def test_a_rate_is_an_exact_decimal() -> None:
    read = validate_config({**BASE, "selection": {"rate": 0.1}}, "test")
    assert read.slices[0].rate == Decimal("0.1")


@pytest.mark.parametrize(
    ("tree", "problem", "fix"),
    [
        ({"data": {"paths": ["a"], "texxt_key": "b"}}, "data.texxt_key", "text_key"),
        ({**BASE, "selektion": {}}, "selektion", "selection"),
        ({"data": {}}, "data.paths", "data.paths"),
        ({**BASE, "selection": {"rate": 1.5}}, "rate 1.5", ""),
        ({**BASE, "selection": {"rate": 0}}, "rate 0", ""),
        ({**BASE, "selection": {"rate": None}}, "give a rate", ""),
        ({**BASE, "seed": -1}, "seed", ""),
        ({**BASE, "seed": 10**20}, "seed", ""),
        ({"data": {"paths": ["a"], "domain_key": "path:x"}}, "path:N", ""),
        ({**BASE, "final": {"seeds": [-1]}}, "final.seeds", ""),
        ({**BASE, "final": {"passes": float("inf")}}, "final.passes", ""),
        ({**BASE, "selection": {"rate": float("nan")}}, "finite", ""),
        ({**BASE, "selection": {"band": [0.5, 0.2]}}, "0 <= a < b", ""),
        ({**BASE, "selection": {"rule": "paper"}}, "documents", ""),
        ({**BASE, "final": {"tokens": "5M", "passes": 1.0}}, "one budget", ""),
        ({**BASE, "final": {"seeds": [1, 1]}}, "once", ""),
        ({**BASE, "final": {"arms": ["prunned"]}}, "final.arms", ""),
        ({**BASE, "reference": {"tokens": "many"}}, "many", ""),
        ({**BASE, "name": "../up"}, "name", ""),
        ({**BASE, "seed": "x"}, "seed", ""),
        ({**BASE, "version": 2}, "version", ""),
    ],
)
def test_errors_name_the_key_and_the_fix(tree: dict[str, Any], problem: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_config(tree, "c.yaml")
    assert problem in caught.value.problem
    assert fix in caught.value.fix
    assert len(caught.value.lines().splitlines()) == 3


def test_overrides_win_and_replace_the_alternative(tmp_path: Path) -> None:
    text = "data: {paths: [a]}\nselection: {rate: 0.5}\nfinal: {tokens: 5M}"
    read = load(tmp_path, text, "selection.band=[0.2,0.4]", "final.passes=2", "seed=7")
    assert (read.slices[0].label, read.final.passes, read.final.tokens) == (
        "band-20-40",
        2.0,
        None,
    )
    assert read.seed == 7
    with pytest.raises(ConfigError):
        load(tmp_path, text, "seed")


def test_paths_are_looked_up_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    read = load(tmp_path, "data: {paths: [corpus, 'corpus/*.jsonl', hf://datasets/a/b]}")
    assert [entry.path for entry in read.data.paths] == [
        str(tmp_path / "corpus"),
        str(tmp_path / "corpus/*.jsonl"),
        "hf://datasets/a/b",
    ]


def test_speed_keys_stay_out_of_fingerprints() -> None:
    slow = validate_config({**BASE, "score": {"workers": 7}}, "test")
    assert slow.score.results() == validate_config(BASE, "test").score.results()
    assert "gradient_checkpointing" not in slow.final.results()


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        ({"criterion": "low", "rate": 0.125}, "low-12.5"),
        ({"criterion": "high", "rate": 0.5}, "high-50"),
        ({"band": [0.2, 0.6]}, "band-20-60"),
        (
            {"criterion": "medium", "rate": 1, "unit": "documents", "rule": "paper"},
            "medium-100-paper",
        ),
    ],
)
def test_slices_are_named_by_what_they_are(tree: dict[str, Any], name: str) -> None:
    assert validate_config({**BASE, "selection": tree}, "test").slices[0].label == name


def test_every_field_of_the_data_and_training_sections_says_what_it_is() -> None:
    for section in (Data, Split, Score):
        for name, field in section.model_fields.items():
            assert field.description or name in ("long_documents",), f"{section.__name__}.{name}"


@pytest.mark.parametrize("value", ["1.0", "1", '"1.0"', '"1"', "999", "2.0"])
@pytest.mark.parametrize("part", ["reference", "test", "validation"])
def test_a_share_of_one_is_no_budget_of_one_token(part: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no share of the corpus below 1"):
        load(tmp_path, f"data: {{paths: [x]}}\nsplit: {{{part}: {value}}}")


def test_a_budget_is_large_or_has_a_suffix(tmp_path: Path) -> None:
    text = "data: {paths: [x]}\nsplit: {reference: 2000, test: 1k, validation: 0.5}"
    assert load(tmp_path, text).split.reference == 2000


BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 7)]
)


@pytest.mark.parametrize("key", ["name: ", "data: {paths: [x], limit: ", "selection: {rate: "])
def test_names_of_names_do_not_grow_without_bound(key: str, tmp_path: Path) -> None:
    close = "}" if "{" in key else ""
    with pytest.raises(ConfigError, match="more values or levels"):
        load(tmp_path, f"{BOMB}\n{key}*a6{close}")


def test_what_is_nested_deeply_is_refused(tmp_path: Path) -> None:
    for text in ("x: " + "[" * 3000 + "]" * 3000, "x: " + "{a: " * 200 + "1" + "}" * 200):
        with pytest.raises(ConfigError, match=r"nested|levels"):
            load(tmp_path, text)


@pytest.mark.parametrize(
    "setting", ["..=1", ".=1", "a..b=1", "final.tokens=" + "9" * 5000, "final.context=1e9",
                "final.batch_size=1000000000", "tokenizer.train.vocab_size=1", "name=[a]"],
)  # fmt: skip
def test_settings_that_nobody_means_are_refused_in_three_lines(
    setting: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path, "data: {paths: [x]}", setting)


def test_a_configuration_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    for path in (tmp_path / "fifo.yaml", Path("/dev/zero"), tmp_path):
        with pytest.raises(ConfigError, match="regular file"):
            load_config(path)
