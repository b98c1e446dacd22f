"""A count of tokens and a range of perplexity are slices of shares, once there are scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.config.slices import Slice
from mlxprune.errors import ConfigError, DataError
from mlxprune.experiment.artifacts import open_run
from mlxprune.experiment.document_explanation import explain_document
from mlxprune.experiment.rank_stability import compare_references
from mlxprune.pipeline.runner import run_study
from mlxprune.run.folder import RunFolder
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.absolute import resolved
from mlxprune.selection.selector import select_slice
from mlxprune.testing import tiny


def scores_of(generator: np.random.Generator, count: int) -> Scores:
    tokens = generator.integers(1, 80, count)
    mean = np.round(generator.normal(3, 1, count), 1)  # many equal ones
    return Scores(
        generator.integers(0, 2**63, count).astype(np.uint64), mean * tokens, tokens, 4 * tokens
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_range_keeps_what_lies_in_it(seed: int) -> None:
    """Against a comparison of every document; both ends belong to it."""
    scores = scores_of(np.random.default_rng(), 700)
    perplexity = np.exp(scores.nll_sum / scores.num_tokens)
    bits = scores.nll_sum / (np.log(2) * scores.num_bytes)
    low, high = np.quantile(perplexity, [0.2, 0.7])
    for ends, metric, mask in (
        (
            {"min": float(low), "max": float(high)},
            "perplexity",
            (perplexity >= low) & (perplexity <= high),
        ),
        ({"max": float(low)}, "perplexity", perplexity <= low),
        ({"min": 0.9}, "bpb", bits >= 0.9),
    ):
        choice = Slice.model_validate({**ends, "metric": metric})
        assert choice.criterion == "range"
        assert (select_slice(scores, choice, seed).mask == mask).all()


@pytest.mark.parametrize("criterion", ["low", "medium", "high"])
def test_a_count_of_tokens_is_kept_within_a_document(criterion: str) -> None:
    scores = scores_of(np.random.default_rng(), 900)
    for wanted in (500, 7_777, int(scores.num_tokens.sum())):
        choice = Slice.model_validate({"criterion": criterion, "tokens": wanted})
        kept = select_slice(scores, choice, 0).mask
        assert abs(int(scores.num_tokens[kept].sum()) - wanted) <= scores.num_tokens.max()
    assert kept.all()


def test_shares_come_back_as_they_are_and_resolving_twice_changes_nothing() -> None:
    scores = scores_of(np.random.default_rng(), 50)
    plain = Slice.model_validate({"rate": 0.3})
    assert resolved(plain, scores, scores.num_tokens) is plain
    once = resolved(Slice.model_validate({"min": 2}), scores, scores.num_tokens)
    assert resolved(once, scores, scores.num_tokens) is once


def test_what_no_document_can_fill() -> None:
    scores = scores_of(np.random.default_rng(), 50)
    with pytest.raises(DataError, match="no document is in this range"):
        resolved(Slice.model_validate({"min": 1e9}), scores, scores.num_tokens)
    with pytest.raises(DataError, match="asks for 9,000,000 of"):
        resolved(Slice.model_validate({"tokens": "9M"}), scores, scores.num_tokens)


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"criterion": "range"}, "belong together"),
        ({"criterion": "low", "min": 3}, "belong together"),
        ({"min": 5, "max": 3}, "above max"),
        ({"min": 5, "by": "domain"}, "over the whole corpus"),
        ({"min": 5, "metric": "adjusted"}, "perplexity or bpb"),
        ({"tokens": "2M", "unit": "documents"}, "tokens count tokens"),
        ({"tokens": "2M", "floor": 0.1}, "no floor"),
        ({"tokens": "2M", "min": 3}, "say how much once"),
    ],
)
def test_what_cannot_be(selection: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        validate_config({"data": {"paths": ["x"]}, "selection": selection}, "test")


def test_names_and_fingerprints() -> None:
    assert Slice.model_validate({"min": 20, "max": 100}).label == "range-20to100"
    assert Slice.model_validate({"max": 100}).label == "range-to100"
    assert Slice.model_validate({"criterion": "low", "tokens": "20M"}).label == "low-20M"
    assert not {"tokens", "min", "max"} & set(Slice().results())
    assert Slice.model_validate({"tokens": "20M"}).results()["tokens"] == 20_000_000


@pytest.mark.slow
def test_a_study_of_absolute_slices(tiny_corpus: Path, tmp_path: Path) -> None:
    """With controls of their size, and known again when the run is opened."""
    tree = tiny.tiny_config(tiny_corpus)
    tree["selection"] = {"slices": [{"criterion": "low", "tokens": "2k"}, {"min": 100, "max": 400}]}
    run = RunFolder(tmp_path / "run")
    result = run_study(validate_config(tree, "test"), run)
    assert set(result.arms) == {
        "low-2k", "random-2k", "range-100to400", "random-100to400"
    }  # fmt: skip
    sizes = {name: arm.unique_tokens for name, arm in result.arms.items()}
    assert sizes["low-2k"] == pytest.approx(sizes["random-2k"], abs=150)
    held = open_run(run.path)
    first, second = held.config.slices
    assert first.rate is not None
    assert second.band is not None
    scores = held.scores(second)
    perplexity = np.exp(scores.nll_sum / scores.num_tokens)
    assert (held.kept(second) == ((perplexity >= 100) & (perplexity <= 400))).all()
    again = run_study(validate_config(tree, "test"), run)
    assert {stage.state for stage in again.stages.values()} == {"reused"}


@pytest.mark.parametrize(
    ("written", "setting", "label"),
    [
        ({"min": 10, "max": 50}, "selection.rate=0.3", "high-30"),
        ({"min": 10, "max": 50}, "selection.band=[0.2, 0.4]", "band-20-40"),
        ({"min": 10, "max": 50}, "selection.tokens=20M", "high-20M"),
        ({"tokens": "20M", "criterion": "low"}, "selection.rate=0.3", "low-30"),
        ({"criterion": "high", "rate": 0.5}, "selection.min=10", "range-10to"),
        ({"slices": [{"tokens": "20M"}, {"criterion": "low", "rate": 0.1}]}, "selection.rate=0.3",
         "high-30"),
        ({"rate": 0.5}, "selection.tokens=20M", "high-20M"),
    ],
)  # fmt: skip
def test_a_setting_takes_the_place_of_another_amount(
    written: dict[str, Any], setting: str, label: str, tmp_path: Path
) -> None:
    from mlxprune.config.loading import load_config
    from mlxprune.config.yaml_file import write_yaml

    path = tmp_path / "c.yaml"
    path.write_text(write_yaml({"data": {"paths": ["x"]}, "selection": written}))
    assert load_config(path, [setting]).slices[0].label == label


def test_an_amount_of_a_slice_takes_the_place_of_a_shared_one() -> None:
    tree = {"tokens": "20M", "slices": [{"criterion": "high"}, {"criterion": "low", "rate": 0.3}]}
    read = validate_config({"data": {"paths": ["x"]}, "selection": tree}, "test")
    assert [choice.label for choice in read.slices] == ["high-20M", "low-30"]
    with pytest.raises(ConfigError, match="say how much once"):
        validate_config({"data": {"paths": ["x"]}, "selection": {"rate": 0.3, "tokens": "2M"}}, "x")


def test_ranges_of_other_figures_share_no_control() -> None:
    one = Slice.model_validate({"min": 1, "max": 5})
    other = Slice.model_validate({"min": 1, "max": 5, "metric": "bpb"})
    assert one.share != other.share
    assert other.label == "range-1to5-bpb"
    assert Slice.model_validate({"tokens": 1_210_000}).share == "1.21M"
    assert Slice.model_validate({"tokens": 1_214_567}).share == "1214567"


@pytest.mark.slow
def test_it_is_explained_and_compared_as_the_share_that_it_is(
    tiny_corpus: Path, tmp_path: Path, command: Any
) -> None:
    tree = tiny.tiny_config(tiny_corpus)
    tree["selection"] = {"min": 100, "max": 400}
    run = RunFolder(tmp_path / "run")
    run_study(validate_config(tree, "test"), run, until="selection")
    held = open_run(run.path)
    name = pq.read_table(run.scores()).column("id")[0].as_py()
    (said,) = explain_document(held, name)
    assert said.band != (0.0, 1.0)
    compared = compare_references([run.path], {})
    assert compared.documents == len(held.pool)
    assert compare_references([run.path], {"rate": 0.3}).slice == "high-30"
