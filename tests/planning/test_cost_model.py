"""What a plan says of every arm, and the single changes that make a study fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxprune.config.loading import override_setting, validate_config
from mlxprune.experiment.budgets import effective_data
from mlxprune.planning import cost_model
from mlxprune.planning.cost_model import CorpusTokens, cheapest_changes, estimate_costs
from mlxprune.planning.throughput import Throughput
from mlxprune.testing.tiny import short_study

SIZES = CorpusTokens(30e6, 3e6, 25e6, 1e6, 1e6)


@pytest.fixture(autouse=True)
def steady_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten million parameters' worth of FLOPs a second, whatever runs beside."""
    speed = {"pico": 80_000.0, "nano": 20_000.0, "micro": 2_000.0, "mini": 400.0, "125m": 60.0}

    def measure(name: str, vocabulary: int, context: int) -> Throughput:
        return Throughput(train=speed[name], score=3 * speed[name])

    monkeypatch.setattr(cost_model, "measured_throughput", measure)


def test_every_arm_has_its_tokens_targets_passes_and_worth() -> None:
    chosen = short_study(
        selection={"criterion": ["low", "high"], "rate": [0.25, 0.5]},
        final={"tokens": 20_000_000, "arms": ["pruned", "random", "all"], "ladder": [0.5, 2]},
    )
    found = estimate_costs(chosen, SIZES, True)
    rows = found.arms
    assert rows["high-50"].unique_tokens == 12_500_000
    assert rows["random-25"].passes == pytest.approx(20 / 6.25)
    assert rows["all"].unique_tokens == 28_000_000
    assert rows["base-x2"].passes == 2
    assert rows["high-50-x2"].passes == 4
    assert rows["low-25"].effective_tokens == round(effective_data(6_250_000, 20_000_000))
    assert set(found.left_out) == {n for n in found.left_out if n.endswith("x0.5")}
    assert found.models == sum(r.seeds for r in rows.values())
    trained = found.models * 20e6 / 2000
    assert found.stage_seconds["final"] == pytest.approx(trained)
    assert found.seconds == pytest.approx(sum(found.stage_seconds.values()))


def test_references_folds_and_snapshots_are_paid_for() -> None:
    plain = estimate_costs(short_study(), SIZES, True).stage_seconds
    early = estimate_costs(short_study(reference={"snapshots": [0.5]}), SIZES, True).stage_seconds
    assert early["reference"] == plain["reference"]
    assert early["score"] == pytest.approx(2 * plain["score"])
    folds = estimate_costs(short_study(split={"cross": 4}), SIZES, True).stage_seconds
    assert folds["reference"] == pytest.approx(4 * plain["reference"])
    assert folds["score"] == pytest.approx(plain["score"] * (25 + 4) / 25)


def test_changes_fit_and_the_least_harmful_comes_first() -> None:
    chosen = short_study(final={"tokens": 20_000_000})
    seconds = estimate_costs(chosen, SIZES, True).seconds
    for share in (0.8, 0.5, 0.3, 0.12, 0.02):
        found = cheapest_changes(chosen, SIZES, seconds, share * seconds)
        assert found, share
        for change in found:
            tree = chosen.model_dump(mode="json")
            for setting in change.set:
                override_setting(tree, setting)
            after = estimate_costs(validate_config(tree, "test"), SIZES, True)
            assert after.seconds == change.seconds <= share * seconds
    first = cheapest_changes(chosen, SIZES, seconds, 0.8 * seconds)[0]
    assert first.set == ["final.arms=[pruned, random]"]
    lost = [c.set[0] for c in cheapest_changes(chosen, SIZES, seconds, 0.8 * seconds)]
    assert lost.index("final.seeds=[0, 1]") < lost.index("final.seeds=[0]")
    assert cheapest_changes(chosen, SIZES, seconds, 1.0) == []
    several = cheapest_changes(chosen, SIZES, seconds, 0.02 * seconds)
    assert len(several) == 1
    assert len(several[0].set) > 2


def test_tasks_and_branches_are_counted(tmp_path: Path) -> None:
    """Every end of every arm is asked; what branches share is trained once."""
    rows = [{"query": "x" * 100, "choices": ["ab", "cd"], "gold": 0}] * 50
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = estimate_costs(short_study(), SIZES, True)
    asked = estimate_costs(short_study(evaluation={"tasks": [str(tmp_path)]}), SIZES, True)
    few = estimate_costs(
        short_study(evaluation={"tasks": [str(tmp_path)], "limit": 10}), SIZES, True
    )
    assert plain.task_tokens == 0 < few.task_tokens < asked.task_tokens
    assert asked.task_tokens == pytest.approx(5 * few.task_tokens, rel=0.01)
    assert asked.seconds > few.seconds > plain.seconds
    branched = estimate_costs(short_study(final={"branches": [0.5, 0.8]}), SIZES, True)
    ratio = branched.stage_seconds["final"] / plain.stage_seconds["final"]
    assert ratio == pytest.approx(1 + 0.15 * 1.3)
    ends = branched.stage_seconds["evaluation"] / plain.stage_seconds["evaluation"]
    # Three arms at three ends read the test part; two of them, whole, the validation part, too.
    assert ends == pytest.approx((9 + 2) / (3 + 2))
