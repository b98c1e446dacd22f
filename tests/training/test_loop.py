"""Training: the stream, the schedule, accumulation, exact resume, and clear stops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxprune.errors import NonFiniteLoss, Stopped
from mlxprune.model.architecture import flops_per_token
from mlxprune.testing.forced import forced_graph
from mlxprune.testing.quiet import QuietControl, QuietLog
from mlxprune.testing.training import assert_same_bytes, recipe, stream_of, train_small
from mlxprune.training.job import TrainingJob
from mlxprune.training.loop import train_model
from mlxprune.training.shapes import (
    StepShape,
    shape_at,
    stored_shapes,
    usual_parts,
    with_finer_parts,
)
from mlxprune.training.summary import TrainingSummary


@pytest.mark.parametrize("optimizer", ["adamw", "lion"])
def test_training_learns(optimizer: str, tmp_path: Path) -> None:
    rate = 3e-3 if optimizer == "adamw" else 1e-3
    chosen = recipe(steps=60, optimizer=optimizer, learning_rate=rate)
    history = train_small(tmp_path / "final" / "m", chosen).history.train
    assert history[-1].loss < history[0].loss - 0.5


@pytest.mark.parametrize("optimizer", ["adamw", "lion"])
@pytest.mark.parametrize("stop_at", [1, 6, 14])
def test_a_stopped_training_ends_with_the_same_bytes(
    optimizer: str, stop_at: int, tmp_path: Path
) -> None:
    chosen = recipe(optimizer=optimizer)
    whole, broken = tmp_path / "whole" / "m", tmp_path / "broken" / "m"
    train_small(whole, chosen)
    with pytest.raises(Stopped):
        train_small(broken, chosen, stop_at)
    train_small(broken, chosen, fresh=False)
    assert_same_bytes(whole, broken)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_checkpointing_changes_no_loss(dtype: str, tmp_path: Path) -> None:
    with forced_graph(dtype):
        plain = train_small(tmp_path / "a" / "m", recipe(steps=5)).history.train
        saved = train_small(
            tmp_path / "b" / "m", recipe(steps=5), gradient_checkpointing=True
        ).history.train
    bound = 1e-5 if dtype == "float32" else 1e-2
    assert all(abs(p.loss - s.loss) < bound for p, s in zip(plain, saved, strict=True))


@pytest.mark.parametrize("stop_at", [1, 9, 30])
def test_a_stop_between_the_parts_of_a_step_leaves_no_trace(stop_at: int, tmp_path: Path) -> None:
    """On the engine of a GPU, in eight parts a step."""
    chosen = recipe(steps=6, accumulate=8)
    whole, broken = tmp_path / "whole" / "m", tmp_path / "broken" / "m"
    with forced_graph("bfloat16"):
        train_small(whole, chosen)
        with pytest.raises(Stopped):
            train_small(broken, chosen, stop_at)
        train_small(broken, chosen, fresh=False)
    assert_same_bytes(whole, broken)


def test_parts_of_a_step_are_settled_once_and_made_finer_where_they_were_too_large(
    tmp_path: Path,
) -> None:
    assert usual_parts(recipe(accumulate=2), None, False, 1.0) == 2
    chosen = recipe(batch_size=12)
    assert usual_parts(chosen, None, False, None) == 1
    assert usual_parts(chosen, None, False, 1.0) == 12
    a_row = 3 * flops_per_token(chosen.config, chosen.context) * chosen.context
    assert usual_parts(chosen, None, False, 4.5 * a_row) == 3
    assert stored_shapes(tmp_path, 3) == [StepShape(0, 3)]
    assert stored_shapes(tmp_path, 1) == [StepShape(0, 3)]
    assert with_finer_parts(tmp_path, 12, 40) == 6
    assert with_finer_parts(tmp_path, 12, 70) == 12
    assert with_finer_parts(tmp_path, 12, 90) is None
    shapes = stored_shapes(tmp_path, 1)
    assert shapes == [StepShape(0, 3), StepShape(40, 6), StepShape(70, 12)]
    assert [shape_at(shapes, step) for step in (0, 39, 40, 99)] == [3, 3, 6, 12]


def test_a_loss_that_is_not_finite_stops_clearly(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLoss) as caught:
        train_small(tmp_path / "final" / "m", recipe(learning_rate=1e30, warmup=0.0, clip=1e30))
    assert "step" in caught.value.problem
    assert caught.value.exit_code == 1


def test_events_carry_the_mean_since_the_last_and_count_every_target(tmp_path: Path) -> None:
    folder = tmp_path / "final" / "m"
    log = QuietLog()
    chosen = recipe()
    folder.parent.mkdir()
    job = TrainingJob(
        chosen, stream_of([50, 70]), folder, "f", tmp_path, "final",
        validate=lambda m: np.array([1.5, 2, 3]),
    )  # fmt: skip
    train_model(job, log, QuietControl())  # type: ignore[arg-type]
    steps = [e for e in log.events if e.kind == "train.step"]
    assert sum(e.new_targets for e in steps) == chosen.targets
    kinds = {e.kind for e in log.events} - {"progress"}  # a GPU says that it compiles
    assert kinds == {"evaluation", "checkpoint", "train.step"}
    assert all(math.isfinite(e.gradient_norm) for e in steps)


def test_training_goes_on_from_an_early_copy_to_the_same_bytes(tmp_path: Path) -> None:
    """What a snapshot costs is nothing: the reference begins where it ends."""
    chosen = recipe()
    stop = chosen.steps // 3
    assert 0 < stop < chosen.steps
    whole, early, rest = (tmp_path / "references" / n for n in ("whole", "early", "rest"))
    whole.parent.mkdir()

    def validate(model: Any) -> np.ndarray:
        return np.array([1.5, 2, 3])

    def fit(folder: Path, log: Any, **more: Any) -> TrainingSummary:
        job = TrainingJob(
            chosen, stream_of([50, 70, 30]), folder, folder.name, tmp_path, "reference",
            validate=validate, **more,
        )  # fmt: skip
        return train_model(job, log, QuietControl())  # type: ignore[arg-type]

    straight = fit(whole, QuietLog())
    first = fit(early, QuietLog(), stop=stop)
    assert first.targets == stop * chosen.targets_per_step
    log = QuietLog()
    second = fit(rest, log, earlier=(early,))
    trained = sum(e.new_targets for e in log.events if e.kind == "train.step")
    assert trained == chosen.targets - first.targets
    assert second == straight
    bytes_of = [(f / "model.safetensors").read_bytes() for f in (whole, rest)]
    assert bytes_of[0] == bytes_of[1]
    assert (early / "model.safetensors").read_bytes() != bytes_of[0]
    settled = [point.rank_correlation for point in second.history.validation]
    assert settled[0] is None
    assert set(settled[1:]) == {1.0}
