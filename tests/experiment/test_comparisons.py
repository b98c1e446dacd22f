"""Which arms are compared with which, and what may be called a difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.errors import DataError
from mlxprune.experiment.comparisons import Comparison
from mlxprune.experiment.conclusion import verdict_sentence
from mlxprune.experiment.records import read_arms
from mlxprune.inference.verdict import Verdict
from mlxprune.pipeline.runner import run_study
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import read_marker
from mlxprune.testing import tiny


def test_the_better_slice_is_named_before_a_lower_undecided_one() -> None:
    shared: dict[str, Any] = {
        "main": True, "about": "selection", "interval": (-0.3, 0.1), "seeds": [0, 1, 2],
        "control": "random-50", "by_seed": [0.1] * 3, "probability": 0.01, "seed_sd": 0.1,
        "pooled": 1, "document_sd": 0.1, "document_degrees": 50.0, "degrees": 50.0,
        "standard_errors": 2.0, "control_figure": 2.0,
    }  # fmt: skip
    found = [
        Comparison(arm="low-50", difference=-0.2, verdict=Verdict.UNDECIDED, **shared),
        Comparison(arm="high-50", difference=-0.1, verdict=Verdict.BETTER, **shared),
    ]
    assert "high-50 ends" in verdict_sentence(found, "macro")


@pytest.mark.slow
def test_equal_arms_are_trained_once_also_across_runs(tmp_path: Any) -> None:
    """Without a reference part, all is none; a second run finds what the first has trained."""
    tree = tiny.tiny_config(
        tiny.tiny_corpus(tmp_path / "corpus", documents=90),
        selection={"criterion": "high", "unit": "tokens"},
        final={"arms": ["matched", "none", "all"], "tokens": 12288},
    )
    tree["split"] = {"cross": 2, "validation": 0.1, "test": 0.1}
    tree["reference"]["tokens"] = 2048

    def same_as(run: RunFolder, arm: str) -> Any:
        marker = read_marker(run.final(arm))
        return None if marker is None else marker.same_as

    first, second = (RunFolder(tmp_path / n) for n in ("first", "second"))
    run_study(validate_config(tree, "test"), first, until="final")
    assert same_as(first, "none-s0") is None
    assert same_as(first, "all-s0") == "none-s0"
    weights = [(first.final(n) / "model.safetensors").read_bytes() for n in ("none-s0", "all-s0")]
    assert weights[0] == weights[1]
    tree["selection"] = {"criterion": "low", "unit": "tokens"}
    run_study(validate_config({**tree, "name": "second"}, "test"), second, until="final")
    assert same_as(second, "none-s0") == "first/none-s0"
    assert same_as(second, "matched.low-50-s0") is None
    assert (second.final("none-s0") / "model.safetensors").read_bytes() == weights[0]
    run_study(validate_config(tree, "test"), second, until="final", force="final")
    assert same_as(second, "none-s0") is None
    assert (second.final("none-s0") / "model.safetensors").read_bytes() == weights[0]


@pytest.mark.slow
def test_a_study_with_every_arm_and_a_ladder(tiny_corpus: Any, tmp_path: Any) -> None:
    kinds = [
        "pruned",
        "random",
        "matched",
        "by-domain",
        "zlib",
        "unigram",
        "shuffled",
        "none",
        "all",
    ]
    tree = tiny.tiny_config(tiny_corpus, final={"arms": kinds, "ladder": [0.25, 2], "tokens": 4096})
    run = RunFolder(tmp_path / "run")
    result = run_study(validate_config(tree, "test"), run)
    names = {a if a in ("none", "all") else f"{a}.high-50" for a in kinds[2:]}
    assert set(result.arms) == (names - {"none"}) | {
        "high-50",
        "random-50",
        "base-x2",
        "random-50-x2",
        "matched.high-50-x2",
        "high-50-x2",
    }
    assert set(result.left_out) == {"none"} | {
        f"{name}-x0.25" for name in ("base", "high-50", "random-50", "matched.high-50")
    }
    longest = int(np.diff(np.load(run.tokens() / "offsets.npy")).max()) + 1
    sizes = {n: a.unique_tokens for n, a in result.arms.items()}
    for name, size in sizes.items():
        if name.endswith("high-50") or name == "random-50":
            assert abs(size - sizes["high-50"]) <= longest, name
    assert len({a.tokens for a in result.arms.values()}) == 1
    assert result.arms["base-x2"].passes == pytest.approx(2, rel=0.1)
    assert result.arms["high-50-x2"].passes == pytest.approx(4, rel=0.2)
    page = run.report.read_text()
    for word in (
        "Arm against arm",
        "When data is short",
        "base-x2",
        "is left out",
        "near-duplicates",
    ):
        assert word in page, word


@pytest.mark.slow
def test_a_study_without_an_arm_is_refused(tiny_corpus: Any, tmp_path: Any) -> None:
    tree = tiny.tiny_config(tiny_corpus, final={"arms": ["none"]}, reference={"tokens": 512})
    with pytest.raises(DataError) as caught:
        run_study(validate_config(tree, "test"), RunFolder(tmp_path / "run"))
    assert "no arm is left" in caught.value.problem


def test_damaged_arms_are_an_error_and_none_is_none(tmp_path: Any) -> None:
    """A report without arms must not take the place of one with them."""
    run = RunFolder(tmp_path)
    assert read_arms(run).arms == {}
    run.arms.parent.mkdir(parents=True)
    run.arms.write_text('{"arms": {}}')
    with pytest.raises(DataError, match="arms cannot be read"):
        read_arms(run)
