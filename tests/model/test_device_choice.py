"""The device: what is decided once, kept, and asked for; and what a trial of dtypes says."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.engine import backend, hardware
from mlxprune.execution.lifecycle import alone
from mlxprune.files import read_json
from mlxprune.model import device_choice
from mlxprune.model.device_choice import part_flops, settle_device
from mlxprune.model.dtype_trial import DtypeFigures, TrialOrder, chosen_dtypes, try_dtypes
from mlxprune.testing import tiny
from mlxprune.testing.forced import forced_graph


def figures(**rates: tuple[float, float | None, float]) -> list[DtypeFigures]:
    return [
        DtypeFigures(
            dtype=name, score=score, train=train, largest_error=0.01, rank_correlation=correlation
        )
        for name, (score, train, correlation) in rates.items()
    ]


def test_the_fastest_that_keeps_the_ranks_is_taken() -> None:
    m1 = figures(float32=(900, 100, 1.0), bfloat16=(580, 90, 0.9999), float16=(1000, None, 0.99999))
    assert chosen_dtypes(m1) == ("float32", "float16")
    m4 = figures(float32=(500, 60, 1.0), bfloat16=(1000, 100, 0.9999), float16=(1010, None, 0.9999))
    assert chosen_dtypes(m4) == ("bfloat16", "bfloat16")
    lost = figures(float32=(500, 60, 1.0), bfloat16=(600, 70, 0.9999), float16=(1000, None, 0.5))
    assert chosen_dtypes(lost) == ("bfloat16", "bfloat16")
    overflown = figures(float32=(500, 60, 1.0), bfloat16=(400, 70, 0.2), float16=(900, None, 0.0))
    assert chosen_dtypes(overflown) == ("bfloat16", "float32")


@pytest.mark.slow
def test_a_trial_measures_every_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, on a CPU: errors are those of the dtypes, float32's is none."""
    from mlxprune.model import dtype_trial

    monkeypatch.setattr(dtype_trial, "CONTEXT", 64)
    monkeypatch.setattr(dtype_trial, "VOCABULARY", 512)
    with forced_graph():
        before = backend.detect()
        found = {
            f.dtype: f
            for f in try_dtypes(None, TrialOrder("pico", ["bfloat16", "float16"], 2, 0.0))
        }
        assert backend.detect() == before  # whoever works next in this process has its own
    assert found["float32"].largest_error == 0
    assert 0 < found["float16"].largest_error < found["bfloat16"].largest_error < 0.1
    assert found["float16"].train is None
    assert found["bfloat16"].rank_correlation > 0.5
    assert all(f.score > 0 for f in found.values())


def test_a_batch_is_bounded_by_a_power_of_two_near_a_quarter_of_a_second() -> None:
    for peak in (2e12, 3.7e12, 15e12):
        assert 0.17 < part_flops(peak) / peak < 0.36
        assert part_flops(peak) == part_flops(peak * 1.01) or part_flops(peak) * 2 == part_flops(
            peak * 1.01
        )


def test_what_was_decided_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second start reads it, also when the peak is measured otherwise; another device decides
    anew, and the run is told."""
    config = validate_config(tiny.tiny_config(tmp_path), "test")
    with forced_graph("bfloat16"), alone(config, tmp_path / "out", []) as execution:
        first = settle_device(execution)
        assert (first.train_dtype, first.score_dtype) == ("bfloat16", "bfloat16")
        assert backend.detect().train_dtype == mx.bfloat16
        monkeypatch.setattr(hardware, "FORCED_PART_FLOPS", 2.0**20)
        assert settle_device(execution) == first
    with forced_graph("float32"), alone(config, tmp_path / "out", []) as execution:
        again = settle_device(execution)
        assert again.train_dtype == "float32"
        assert any("this run began on" in str(w.message) for w in execution.log.state.warnings)
    backend.unsettle()


@pytest.mark.parametrize(
    ("asked", "train", "score"),
    [("float32", "float32", "float32"), ("float16", "float32", "float16")],
)
def test_a_dtype_can_be_asked_for(tmp_path: Path, asked: str, train: str, score: str) -> None:
    config = validate_config(tiny.tiny_config(tmp_path) | {"dtype": asked}, "test")
    assert config.dtype_identity == {"dtype": asked}
    with forced_graph("bfloat16"), alone(config, tmp_path / "out", []) as execution:
        choice = settle_device(execution)
        assert (choice.train_dtype, choice.score_dtype) == (train, score)
        assert execution.children.begin.score_dtype == score
    assert read_json(tmp_path / "out" / device_choice.FILE)["asked"] == asked


def test_a_cpu_says_that_it_has_float32(tmp_path: Path) -> None:
    if not backend.detect().on_cpu:
        pytest.skip("this is no CPU")
    config = validate_config(tiny.tiny_config(tmp_path) | {"dtype": "bfloat16"}, "test")
    with alone(config, tmp_path / "out", []) as execution:
        assert settle_device(execution).train_dtype == "float32"
        assert any("for a GPU" in str(w.message) for w in execution.log.state.warnings)


def test_float32_is_float32() -> None:
    """Set before MLX is imported: elsewhere it rounds products to TF32."""
    import os

    assert os.environ["MLX_ENABLE_TF32"] == "0"
    a = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
    product = np.array(mx.array(a) @ mx.array(a).T)
    assert np.abs(product - a.astype(np.float64) @ a.T.astype(np.float64)).max() < 1e-3
