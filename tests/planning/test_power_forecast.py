"""What a planned study can decide: from earlier runs, else from the stated prior."""

from __future__ import annotations

import json
from pathlib import Path

from mlxprune.data.split import DomainSizes
from mlxprune.planning.power_forecast import PRIOR_SEED_SD, power_forecast
from mlxprune.testing.tiny import short_study

SIZES = DomainSizes({"a": 2000.0, "b": 3000.0}, {"a": 2e6, "b": 3e6})


def test_without_an_earlier_run_the_prior_is_named(tmp_path: Path) -> None:
    found = power_forecast(short_study(), SIZES, tmp_path)
    assert found.seed_sd == PRIOR_SEED_SD
    assert "prior" in found.noise_from
    assert found.difference is not None and found.difference > 0
    one = power_forecast(short_study(final={"seeds": [0]}), SIZES, tmp_path)
    assert one.difference is None


def test_earlier_runs_of_such_models_are_taken(tmp_path: Path) -> None:
    for name, model, noise in (("one", "micro", 0.01), ("two", "micro", 0.03), ("x", "pico", 9.0)):
        (tmp_path / name).mkdir()
        verdict = {"seed_sd": noise, "document_sd": noise / 2, "verdict": "undecided"}
        (tmp_path / name / "report.json").write_text(json.dumps({"verdict": verdict}))
        (tmp_path / name / "config.yaml").write_text(f"final:\n  model: {model}\n")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "report.json").write_text("{")
    found = power_forecast(short_study(), SIZES, tmp_path)
    assert found.seed_sd == 0.02 and found.document_sd == 0.01
    assert "2 comparisons" in found.noise_from


def test_more_slices_and_fewer_seeds_decide_less(tmp_path: Path) -> None:
    several = short_study(selection={"criterion": ["low", "medium", "high"]})
    sizes = [
        power_forecast(config, SIZES, tmp_path).difference
        for config in (short_study(), several, short_study(final={"seeds": [0, 1]}))
    ]
    assert sizes[0] < sizes[1] < sizes[2]  # type: ignore[operator]
    confirmed = short_study(
        selection={"criterion": ["low", "medium", "high"]}, final={"confirm": 1}
    )
    assert power_forecast(confirmed, SIZES, tmp_path).difference == sizes[0]
