"""Training: the stream, the schedule, accumulation, exact resume, and clear stops."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxprune.config.schema import Final
from mlxprune.errors import NonFiniteLoss, Stopped
from mlxprune.model.architecture import preset_of
from mlxprune.testing.quiet import QuietControl, QuietLog
from mlxprune.tokenization.token_file import Tokens
from mlxprune.training.job import TrainingJob
from mlxprune.training.loop import train_model
from mlxprune.training.recipe import Recipe, learning_rate_at, recipe_identity, recipe_of, steps_for
from mlxprune.training.stream import TrainingStream
from mlxprune.training.summary import TrainingSummary

END = 1


def tokens_of(lengths: list[int], vocabulary: int = 300) -> Tokens:
    generator = np.random.default_rng(0)
    ids = generator.integers(2, vocabulary, sum(lengths)).astype(np.uint16)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens(ids, offsets, vocabulary, END, END)


def stream_of(lengths: list[int], seed: int = 0) -> TrainingStream:
    documents = np.arange(len(lengths))
    keys = documents.astype(np.uint64) * np.uint64(7919)
    return TrainingStream(tokens_of(lengths), documents, keys, seed)


def recipe(**changes: Any) -> Recipe:
    chosen = Final(
        model="pico",
        tokens=2000,
        context=16,
        batch_size=8,
        learning_rate=3e-3,
        checkpoint_every=512,
    )
    made = recipe_of(chosen, preset_of("pico"), (300, END, END), 2000, 0)
    return dataclasses.replace(made, **changes)


def run(
    folder: Path, chosen: Recipe, stop_at: int = -1, fresh: bool = True, **more: Any
) -> TrainingSummary:
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    stream = stream_of([30, 5, 70, 1, 200, 44])
    job = TrainingJob(chosen, stream, folder, "fingerprint", folder.parent, "final", **more)
    return train_model(job, QuietLog(), QuietControl(stop_at))  # type: ignore[arg-type]


@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    start=st.integers(0, 200),
    count=st.integers(1, 100),
)
@settings(deadline=None)
def test_the_stream_is_the_shuffled_documents_each_closed(
    lengths: list[int], start: int, count: int
) -> None:
    """Any stretch equals the one read from the start; a pass holds every document once."""
    stream = stream_of(lengths)
    whole = stream_of(lengths).targets(0, start + count)
    assert np.array_equal(stream.targets(start, count), whole[start:])
    one = stream.targets(0, stream.unique)
    pieces = np.split(one, np.flatnonzero(one == END) + 1)
    expected = [[*stream.tokens.document(i).tolist(), END] for i in range(len(lengths))]
    assert sorted(p.tolist() for p in pieces[:-1]) == sorted(expected)


def test_passes_are_reshuffled_and_seeded() -> None:
    lengths = [3] * 40
    stream = stream_of(lengths)
    first, second = (stream.targets(p * stream.unique, stream.unique) for p in (0, 1))
    assert sorted(first) == sorted(second)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, stream_of(lengths, seed=1).targets(0, stream.unique))


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=8),
    context=st.integers(1, 20),
    seed=st.integers(0, 3),
)
@settings(deadline=None)
def test_every_window_of_a_pass_is_read_once(lengths: list[int], context: int, seed: int) -> None:
    """In any number of passes, no part of the stream is skipped or doubled."""
    stream = stream_of(lengths, seed)
    passes = 3
    count = -(-passes * stream.unique // context)
    assert sorted(stream.window(n, context) for n in range(count)) == list(range(count))


def test_a_row_is_a_window_of_the_stream_and_its_inputs_lead_by_one() -> None:
    stream = stream_of([9, 20, 3, 40])
    for step in range(12):
        inputs, targets = stream.batch(step, 2, 10)
        for row in range(2):
            start = stream.window(2 * step + row, 10) * 10
            assert np.array_equal(targets[row], stream.targets(start, 10))
            assert np.array_equal(inputs[row, 1:], targets[row, :-1])
            before = stream.targets(start - 1, 1)[0] if start else END
            assert inputs[row, 0] == before


def test_wsd_warms_up_stays_and_decays_to_nearly_zero() -> None:
    chosen = recipe(steps=100, warmup=0.1, decay=0.2, schedule="wsd", learning_rate=1.0)
    rates = [learning_rate_at(chosen, s) for s in range(100)]
    assert rates[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert rates[10:80] == [1.0] * 70
    assert rates[80] == pytest.approx(20 / 21)
    assert rates[99] == pytest.approx(1 / 21)


def test_cosine_ends_at_a_tenth() -> None:
    chosen = recipe(steps=1000, warmup=0.0, schedule="cosine", learning_rate=1.0)
    rates = [learning_rate_at(chosen, s) for s in range(1000)]
    assert rates[0] == 1.0
    assert rates[500] == pytest.approx(0.55)
    assert rates[999] == pytest.approx(0.1, abs=1e-4)


@pytest.mark.parametrize("optimizer", ["adamw", "lion"])
def test_training_learns(optimizer: str, tmp_path: Path) -> None:
    rate = 3e-3 if optimizer == "adamw" else 1e-3
    chosen = recipe(steps=60, optimizer=optimizer, learning_rate=rate)
    history = run(tmp_path / "final" / "m", chosen).history.train
    assert history[-1].loss < history[0].loss - 0.5


def assert_same_bytes(whole: Path, broken: Path) -> None:
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(broken) for p in broken.rglob("*") if p.is_file())
    for file in files:
        assert (whole / file).read_bytes() == (broken / file).read_bytes(), file


@pytest.mark.parametrize("optimizer", ["adamw", "lion"])
@pytest.mark.parametrize("stop_at", [1, 6, 14])
def test_a_stopped_training_ends_with_the_same_bytes(
    optimizer: str, stop_at: int, tmp_path: Path
) -> None:
    chosen = recipe(optimizer=optimizer)
    whole, broken = tmp_path / "whole" / "m", tmp_path / "broken" / "m"
    run(whole, chosen)
    with pytest.raises(Stopped):
        run(broken, chosen, stop_at)
    run(broken, chosen, fresh=False)
    assert_same_bytes(whole, broken)


def one_whole_and_one_stopped(folder: Path) -> tuple[Recipe, Path, Path, Path]:
    """(recipe, a finished training, one stopped at step 10, its newest checkpoint)."""
    chosen = recipe()
    whole, broken = folder / "whole" / "m", folder / "broken" / "m"
    run(whole, chosen)
    with pytest.raises(Stopped):
        run(broken, chosen, 10)
    return chosen, whole, broken, sorted((broken / "checkpoints").glob("step-*"))[-1]


def test_a_torn_checkpoint_is_not_resumed_from(tmp_path: Path) -> None:
    """Without its state file, which comes last, it does not count."""
    chosen, whole, broken, newest = one_whole_and_one_stopped(tmp_path)
    (newest / "state.json").unlink()
    run(broken, chosen, fresh=False)
    name = "model.safetensors"
    assert (whole / name).read_bytes() == (broken / name).read_bytes()


def test_a_checkpoint_in_the_making_is_neither_read_nor_in_the_way(tmp_path: Path) -> None:
    """A kill while a checkpoint is flushed leaves its folder under a temporary name, complete."""
    chosen, whole, broken, newest = one_whole_and_one_stopped(tmp_path)
    newest.rename(newest.with_name(newest.name + ".partial"))
    run(broken, chosen, fresh=False)
    assert_same_bytes(whole, broken)


def test_how_often_it_is_saved_does_not_change_what_it_is() -> None:
    assert recipe_identity(recipe()) == recipe_identity(recipe(checkpoint_every=1))
    assert recipe_identity(recipe()) != recipe_identity(recipe(steps=3))


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "final" / "m"
    run(folder, recipe())
    assert len(list((folder / "checkpoints").iterdir())) == 2


def test_gradient_checkpointing_changes_no_loss(tmp_path: Path) -> None:
    """It patches a class of mlx-lm for good, so it runs in a process of its own."""
    import subprocess
    import sys

    code = f"""
import importlib.util, mlxprune
from pathlib import Path
spec = importlib.util.spec_from_file_location("test_loop", {__file__!r})
here = importlib.util.module_from_spec(spec)
spec.loader.exec_module(here)
recipe, run = here.recipe, here.run
out = Path({str(tmp_path)!r})
plain = run(out / "a" / "m", recipe(steps=5)).history.train
saved = run(out / "b" / "m", recipe(steps=5), gradient_checkpointing=True).history.train
assert all(abs(p.loss - s.loss) < 1e-5 for p, s in zip(plain, saved)), (plain, saved)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_loss_that_is_not_finite_stops_clearly(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLoss) as caught:
        run(tmp_path / "final" / "m", recipe(learning_rate=1e30, warmup=0.0, clip=1e30))
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
    assert {"evaluation", "checkpoint", "train.step"} == {e.kind for e in log.events}
    assert all(math.isfinite(e.gradient_norm) for e in steps)


def test_budgets_round_up_to_whole_steps() -> None:
    assert steps_for(1, 16, 8) == 1
    assert steps_for(129, 16, 8) == 2
    assert recipe().targets >= 2000


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
