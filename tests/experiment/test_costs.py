"""Costs of a real run, counted again from its files."""

from __future__ import annotations

import pytest

from mlxprune.experiment.artifacts import open_run
from mlxprune.experiment.costs import study_costs
from mlxprune.files import read_json
from mlxprune.model.architecture import flops_per_token
from mlxprune.run.events import fold_log
from mlxprune.run.folder import RunFolder


def test_costs_are_those_of_what_was_trained_and_scored(tiny_run: RunFolder) -> None:
    held = open_run(tiny_run.path)
    found = study_costs(held, fold_log(tiny_run.events))
    assert found is not None
    reference = read_json(tiny_run.reference("main") / "training.json")
    each = flops_per_token(reference["recipe"]["config"], 64)
    assert found.reference_flops == pytest.approx(3 * each * reference["targets"])
    assert found.score_flops == pytest.approx(each * held.tokens().lengths(held.pool).sum())
    final = read_json(tiny_run.final("high-50-s0") / "training.json")
    assert found.models == 2
    assert found.final_flops == pytest.approx(2 * 3 * each * final["targets"])
    assert found.model_flops == pytest.approx(3 * each * final["targets"])
    assert found.seconds == pytest.approx(sum(found.stage_seconds.values()))
    assert found.stage_seconds["final"] > 0
