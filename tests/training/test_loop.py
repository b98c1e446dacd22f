"""Training: the stream, the schedule, accumulation, exact resume, and clear stops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from mlxprune.engine import backend
from mlxprune.errors import NonFiniteLoss, Stopped
from mlxprune.model.architecture import flops_per_token
from mlxprune.testing.forced import forced_graph
from mlxprune.testing.quiet import QuietControl, QuietLog
from mlxprune.testing.training import assert_same_bytes, recipe, stream_of, train_small
from mlxprune.training.checkpoints import stored_rollbacks
from mlxprune.training.job import TrainingJob
from mlxprune.training.loop import MOST_ROLLBACKS, train_model
from mlxprune.training.shapes import (
    StepShape,
    shape_at,
    stored_shapes,
    usual_parts,
    with_finer_parts,
)
from mlxprune.training.stream import TrainingStream
from mlxprune.training.summary import TrainingSummary, divergence_of


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


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
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


def test_a_loss_that_is_never_finite_stops_clearly(tmp_path: Path) -> None:
    folder = tmp_path / "final" / "m"
    with pytest.raises(NonFiniteLoss) as caught:
        train_small(folder, recipe(learning_rate=1e30, warmup=0.0, clip=1e30))
    assert "step" in caught.value.problem
    assert f"after {MOST_ROLLBACKS} roll-backs" in caught.value.problem
    assert caught.value.exit_code == 1
    assert len(stored_rollbacks(folder)) == MOST_ROLLBACKS


class Poisoned:
    """Steps on chosen batches of the stream give a loss that is no number, and break the weights;
    ``read`` are the batches of all steps, in their order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bad: tuple[int, ...]) -> None:
        self.read: list[int] = []
        usual_batch, usual_step = TrainingStream.batch, backend.step_function
        numbers: dict[bytes, int] = {}

        def batch(stream: Any, number: int, size: int, context: int) -> Any:
            made = usual_batch(stream, number, size, context)
            numbers[made[0].tobytes()] = number
            return made

        def step_function(model: Any, *arguments: Any) -> Any:
            take = usual_step(model, *arguments)

            def poisoned(inputs: Any, *more: Any) -> Any:
                finish = take(inputs, *more)
                number = numbers[inputs.tobytes()]
                self.read.append(number)

                def ended() -> tuple[float, float]:
                    loss, norm = finish()
                    return (math.nan, norm) if number in bad else (loss, norm)

                return ended

            return poisoned

        monkeypatch.setattr(TrainingStream, "batch", batch)
        monkeypatch.setattr(backend, "step_function", step_function)


@pytest.mark.parametrize(
    "bad",
    [
        (9,),
        pytest.param((0,), marks=pytest.mark.slow),
        pytest.param((9, 14), marks=pytest.mark.slow),
        pytest.param((5, 6, 7), marks=pytest.mark.slow),
    ],
)
def test_a_loss_that_is_not_finite_goes_back_and_past_its_batches(
    bad: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = Poisoned(monkeypatch, bad)
    chosen = recipe(steps=16)
    folder = tmp_path / "final" / "m"
    summary = train_small(folder, chosen)
    back = summary.history.rollbacks
    assert 1 <= len(back) <= MOST_ROLLBACKS
    assert summary.targets == chosen.targets, "T is reached"
    every = chosen.checkpoint_every
    assert all(one.back_to % every == 0 and "nan" in one.loss for one in back)
    skipped = sum(one.skipped for one in back)
    # The steps that count: those since the last roll-back, and those before its checkpoint.
    last = back[-1]
    kept = poisoned.read[: last.back_to] if len(back) == 1 else []
    counted = kept + poisoned.read[len(poisoned.read) - (16 - last.back_to) :]
    if len(back) == 1:
        assert counted == [*range(last.back_to), *range(last.back_to + skipped, 16 + skipped)]
    assert not {*counted} & {*bad}
    assert any("went back" in mark for mark in summary.marks)
    # A kill after a roll-back goes on from the same place, past the same batches.
    broken = tmp_path / "broken" / "m"
    edges = len(poisoned.read)
    for stop_at in range(1, edges, 3):
        with pytest.raises(Stopped):
            train_small(broken, chosen, stop_at)
        train_small(broken, chosen, fresh=False)
        assert_same_bytes(folder, broken)


def test_a_longer_training_skips_what_the_shorter_one_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = Poisoned(monkeypatch, (2,))
    chosen = recipe(steps=12)
    early, rest = tmp_path / "references" / "early", tmp_path / "references" / "rest"
    first = train_small(early, chosen, stop=8)
    assert len(first.history.rollbacks) == 1
    before = len(poisoned.read)
    second = train_small(rest, chosen, earlier=(early,))
    skipped = first.history.rollbacks[0].skipped
    assert poisoned.read[before:] == [n + skipped for n in range(8, 12)]
    assert second.history.rollbacks == first.history.rollbacks


def test_a_training_that_learns_nothing_is_called_diverged(tmp_path: Path) -> None:
    folder = tmp_path / "final" / "m"
    job = TrainingJob(
        recipe(learning_rate=1.0, warmup=0.0), stream_of([50, 70]), folder, "f", tmp_path, "final"
    )
    log = QuietLog()
    folder.parent.mkdir()
    summary = train_model(job, log, QuietControl())  # type: ignore[arg-type]
    assert summary.final_loss is not None and math.isfinite(summary.final_loss)
    assert summary.final_loss > math.log(300)
    assert "above that of guessing" in str(divergence_of(summary))
    assert summary.marks == [divergence_of(summary)]
    told = [e for e in log.events if e.kind == "diverged"]
    assert {e.model for e in told} == {"final/m"}
    assert any("diverged" in str(e.message) for e in log.events if e.kind == "warning")
    learning = train_small(tmp_path / "sound" / "m", recipe(steps=60))
    assert divergence_of(learning) is None
    first, last = learning.history.train[0], learning.history.train[-1]
    worse = msgspec.structs.replace(last, loss=first.loss + 0.01)
    history = msgspec.structs.replace(learning.history, train=[first, worse])
    rising = msgspec.structs.replace(learning, final_loss=first.loss - 0.5 + 0.51, history=history)
    if rising.final_loss < math.log(300):
        assert "above its first" in str(divergence_of(rising))


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
    kinds -= {"diverged", "warning"}  # on tokens drawn at random there is nothing to learn
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
