"""Budgets: branches that are trainings of their own length, and what they say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.config.schema import Config
from mlxprune.errors import ConfigError
from mlxprune.experiment.data_efficiency import BudgetPoint, Rho, rho
from mlxprune.files import read_json
from mlxprune.model.weights import WEIGHTS
from mlxprune.pipeline.runner import run_study
from mlxprune.run.folder import RunFolder
from mlxprune.testing import tiny
from mlxprune.training.recipe import Recipe, begins_alike, branch_of, learning_rate_at


def point(targets: int, bits: float) -> BudgetPoint:
    return BudgetPoint(
        targets=targets, seeds=1, macro=bits, gold_bpb=None, accuracy=None, primary=bits
    )


def test_rho_by_hand() -> None:
    control = [point(50, 3.0), point(100, 2.0)]
    assert rho([point(50, 2.5), point(100, 1.5)], control) == Rho(
        share=pytest.approx(math.sqrt(0.5)), bound=""
    )
    assert rho([point(50, 1.9), point(100, 1.5)], control) == Rho(share=0.5, bound="<=")
    assert rho([point(50, 2.5), point(100, 2.1)], control) == Rho(share=1.0, bound=">=")
    assert rho(control, control) == Rho(share=pytest.approx(1.0), bound="")
    assert str(Rho(share=1.0, bound=">=")) == ">= 1.00"
    assert str(Rho(share=0.7071, bound="")) == "0.71"


def recipe(steps: int, **changes: Any) -> Recipe:
    plain: dict[str, Any] = {
        "config": {}, "context": 8, "batch_size": 2, "accumulate": None, "steps": steps,
        "optimizer": "adamw", "learning_rate": 1.0, "weight_decay": 0.0, "schedule": "wsd",
        "warmup": 0.05, "decay": 0.15, "clip": 1.0, "seed": 0, "checkpoint_every": 5,
        "validate_every": 10,
    }  # fmt: skip
    return Recipe(**{**plain, **changes})


@pytest.mark.parametrize("steps", [40, 100, 997])
@pytest.mark.parametrize("share", [0.5, 0.65, 0.8])
def test_a_branch_has_the_rates_of_the_whole_up_to_its_stem(steps: int, share: float) -> None:
    whole = recipe(steps)
    branch, stem = branch_of(whole, share)
    assert branch.steps == round(share * steps)
    rates = [learning_rate_at(branch, step) for step in range(branch.steps)]
    assert rates[:stem] == [learning_rate_at(whole, step) for step in range(stem)]
    assert branch.steps - stem == round(0.15 * branch.steps)
    assert rates[-1] < 0.4 and all(
        a > b for a, b in zip(rates[stem:], rates[stem + 1 :], strict=False)
    )
    assert begins_alike(branch, whole, stem) and not begins_alike(branch, whole, stem + 1)
    for other in (
        recipe(steps, seed=1),
        recipe(steps, learning_rate=2.0),
        recipe(steps, warmup=0.3),
    ):
        assert not begins_alike(branch, other, stem)
    cosine = recipe(steps, schedule="cosine")
    assert not begins_alike(cosine, cosine, 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("budgets")
    tiny.tiny_corpus(folder / "corpus", 120)
    return folder


def study(place: Path, **final: Any) -> Config:
    tree = tiny.tiny_config(place / "corpus", final={"tokens": 10240, "checkpoint_every": 2048})
    tree["final"] |= {"branches": [0.5, 0.8], **final}
    return validate_config(tree, "test")


@pytest.fixture(scope="module")
def run(place: Path) -> RunFolder:
    folder = RunFolder(place / "one" / "run")
    run_study(study(place), folder)
    return folder


def weights(folder: Path) -> bytes:
    return (folder / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_branches_change_nothing_of_the_whole(run: RunFolder, place: Path) -> None:
    plain = RunFolder(place / "two" / "run")
    run_study(study(place, branches=[]), plain)
    for name in ("high-50-s0", "random-50-s0"):
        assert weights(run.final(name)) == weights(plain.final(name))
        assert weights(run.final(name)) != weights(run.final(f"{name}.at-80"))


@pytest.mark.slow
def test_a_branch_is_what_its_own_length_alone_gives(run: RunFolder, place: Path) -> None:
    """The branch of a half, and the same from the beginning, without the stem of another."""
    alone = RunFolder(place / "three" / "run")
    run_study(study(place, branches=[0.8]), alone)
    for name in ("high-50-s0.at-80", "random-50-s0.at-80"):
        assert weights(run.final(name)) == weights(alone.final(name))
    told = read_json(run.final("high-50-s0.at-80") / "training.json")
    assert told["targets"] == round(0.8 * 20) * 512


@pytest.mark.slow
def test_what_is_shared_is_trained_once(run: RunFolder) -> None:
    """Two arms of 20 steps; a branch adds its decay, 15 % of its length."""
    steps = tiny.targets_trained(run.path) // 512
    decays = round(0.15 * 10) + round(0.15 * 16)
    reference = 8
    assert steps <= reference + 2 * (20 + decays)
    assert steps > reference + 2 * 20


@pytest.mark.slow
def test_every_end_is_assessed_and_told(run: RunFolder) -> None:
    report = read_json(run.path / "report.json")
    assert set(report["budgets"]) == {"high-50", "random-50"}
    for arm, ends in report["budgets"].items():
        assert [end["targets"] for end in ends] == [10 * 512, 16 * 512, 20 * 512]
        assert ends[-1]["macro"] == pytest.approx(report["arms"][arm]["test_macro"])
        assert np.isfinite([end["primary"] for end in ends]).all()
    assert report["comparisons"][0]["rho"]["share"] > 0
    assert set(report["arms"]) == {"high-50", "random-50"}  # ends are no arms
    assert "At shorter budgets" in (run.path / "report.html").read_text()


@pytest.mark.slow
def test_added_branches_train_only_themselves(run: RunFolder, place: Path) -> None:
    before = {n: weights(run.final(n)) for n in ("high-50-s0", "high-50-s0.at-50")}
    found = run_study(study(place, branches=[0.5, 0.65, 0.8]), run)
    assert found.stages["final"].state == "done"
    assert {n: weights(run.final(n)) for n in before} == before
    assert len(found.budgets["high-50"]) == 4
    again = run_study(study(place), run)
    assert again.stages["final"].state == "reused"


def test_branches_need_a_schedule_that_holds(place: Path) -> None:
    with pytest.raises(ConfigError, match="branches need the schedule wsd"):
        study(place, schedule="cosine")
    with pytest.raises(ConfigError):
        study(place, branches=[1.0])
    with pytest.raises(ConfigError, match="named once"):
        study(place, branches=[0.5, 0.5])
