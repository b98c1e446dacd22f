"""Budgets: branches that are trainings of their own length, and what they say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxprune.config.loading import validate_config
from mlxprune.config.schema import Config
from mlxprune.errors import ConfigError
from mlxprune.experiment.data_efficiency import ArmEnds, Rho, fewer_targets, reached_at, rho_of
from mlxprune.files import read_json
from mlxprune.inference.verdict import ArmPair, Verdict, compare_paired
from mlxprune.model.weights import WEIGHTS
from mlxprune.pipeline.runner import run_study
from mlxprune.run.folder import RunFolder
from mlxprune.stats import equal_groups
from mlxprune.testing import tiny
from mlxprune.training.recipe import Recipe, begins_alike, branch_of, learning_rate_at


def test_targets_are_reached_between_and_beyond_the_ends() -> None:
    """By hand: straight in the logarithm of targets, the mean where a curve rises."""
    targets = np.array([50.0, 100.0])
    figures = np.array([[2.5, 1.5], [1.9, 1.5], [2.5, 2.1], [3, 2], [2, 2], [2.0, 2.2]])
    reached = reached_at(targets, figures, np.array([2.0, 2, 2, 2, 2, 2]))
    slope = 0.4 / math.log(2)
    assert reached.tolist() == pytest.approx(
        [50 * math.sqrt(2), 50 * math.exp(-0.1 / slope), 100 * math.exp(0.1 / slope), 100, 50,
         math.inf]
    )  # fmt: skip


# Average accuracy of the paper's 1B models on the Pile and on Dolma, read off its first figure.
CHECKPOINTS = [2.1, 4.7, 7.3, 10.0, 12.6, 15.2, 17.8, 20.4, 23.1, 26.0]
PILE_HIGH = [4.70, 8.37, 9.85, 10.67, 11.84, 12.95, 13.21, 13.87, 14.72, 15.62]
DOLMA_MEDIUM = [5.09, 8.65, 9.42, 10.85, 11.44, 12.83, 12.97, 13.93, 14.59, 15.34]


@pytest.mark.parametrize(
    ("curve", "aim", "told"), [(PILE_HIGH, 13.73, 1.31), (DOLMA_MEDIUM, 13.84, 1.29)]
)
def test_the_papers_curves_give_the_papers_efficiency(
    curve: list[float], aim: float, told: float
) -> None:
    targets = [round(b * 1e9) for b in CHECKPOINTS]
    falling = [-value for value in curve]
    found = fewer_targets(targets, (curve, aim), (falling, -aim))
    assert found.accuracy == pytest.approx(told, abs=0.01)
    assert found.gold_bpb == pytest.approx(26.0 / 2.1) and found.at_least  # there from the start
    never = fewer_targets(targets, (curve, 16.0), (curve, aim))
    assert never.accuracy is None and never.gold_bpb == found.accuracy and not never.at_least


@given(
    ends=st.integers(2, 5),
    seed=st.integers(0, 2**32),
    noise=st.floats(0, 0.5),
)
def test_a_curve_reaches_what_it_shows(ends: int, seed: int, noise: float) -> None:
    """Of a curve that falls, each of its own figures is reached at its own targets."""
    generator = np.random.default_rng(seed)
    targets = np.cumsum(generator.uniform(1, 9, ends)) * 10
    falling = np.sort(generator.uniform(1, 4, ends))[::-1] + np.arange(ends)[::-1] * noise
    reached = [reached_at(targets, falling[None], falling[[n]])[0] for n in range(ends)]
    assert reached == pytest.approx(targets.tolist())


def ends_with(shift: float, generator: np.random.Generator, seeds: int = 5) -> ArmEnds:
    """An arm that is better than its control by ``shift``, with noise of seeds and documents."""
    own = generator.normal(0, 0.1, 200)
    control = [np.full(200, 3 + generator.normal(0, 0.01)) for _ in range(seeds)]
    arm = [
        [own + 3 - shift - 0.5 * math.log(t) + generator.normal(0, 0.01) for _ in range(seeds)]
        for t in (0.5, 0.75, 1.0)
    ]
    return ArmEnds(np.array([0.5, 0.75, 1.0]), arm, control)


def rho_and_verdict(ends: ArmEnds) -> tuple[Rho, Verdict]:
    parts = equal_groups(np.ones(200), np.arange(200) % 4)
    seeds = list(range(len(ends.control)))
    pair = ArmPair(ends.arm[-1], ends.control, seeds, "kind", "random", True)
    found = compare_paired([pair], parts, 0, resamples=2000)[0]
    return rho_of(ends, parts, found, 0), found.verdict


def test_rho_and_its_interval_hold_the_truth(generator: np.random.Generator) -> None:
    """Better by a tenth of a bit at half a bit a factor e: exp(-0.2)."""
    found, held = [], 0
    for _ in range(60):
        rho, _ = rho_and_verdict(ends_with(0.1, generator))
        found.append(rho.share)
        low, high = rho.interval
        held += low is not None and high is not None and low <= math.exp(-0.2) <= high
    assert np.median(found) == pytest.approx(math.exp(-0.2), rel=0.05)
    assert held >= 52


def test_a_saving_is_told_beside_a_verdict_alone(generator: np.random.Generator) -> None:
    """The interval of rho leaves out 1 where the verdict is decided, and nothing else is told."""
    told = 0
    for _ in range(60):
        rho, verdict = rho_and_verdict(ends_with(0.0, generator))
        assert rho.decided == (verdict in (Verdict.BETTER, Verdict.WORSE))
        told += rho.decided and rho.share is not None and rho.share < 1
    assert told <= 6
    rho, verdict = rho_and_verdict(ends_with(-0.2, generator))
    assert verdict == Verdict.WORSE
    assert rho.share is not None and rho.share > 1 and rho.interval[0] is not None
    assert rho.interval[0] > 1
    assert rho.beyond


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
    compared = report["comparisons"][0]
    assert compared["rho"]["share"] > 0
    arm, control = (report["budgets"][compared[side]] for side in ("arm", "control"))
    for number, end in enumerate(compared["shorter"]):
        assert end["targets"] == arm[number]["targets"]
        apart = arm[number]["macro"] - control[number]["macro"]
        assert end["difference"]["difference"] == pytest.approx(apart)
    assert len(compared["shorter"]) == 2
    mixes = [report["arms"][compared[side]]["test_original_mix"] for side in ("arm", "control")]
    assert compared["original_mix"]["difference"] == pytest.approx(mixes[0] - mixes[1])
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
