"""Checkpoints: whole ones alone are resumed from, and old ones go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlxprune.checksums import file_sum, read_sealed, write_sealed
from mlxprune.errors import Stopped
from mlxprune.records import plain
from mlxprune.testing.training import assert_same_bytes, recipe, train_small
from mlxprune.training.checkpoints import remove_damaged, usable_checkpoints
from mlxprune.training.recipe import Recipe


def one_whole_and_one_stopped(folder: Path) -> tuple[Recipe, Path, Path, Path]:
    """(recipe, a finished training, one stopped at step 10, its newest checkpoint)."""
    chosen = recipe()
    whole, broken = folder / "whole" / "m", folder / "broken" / "m"
    train_small(whole, chosen)
    with pytest.raises(Stopped):
        train_small(broken, chosen, 10)
    return chosen, whole, broken, sorted((broken / "checkpoints").glob("step-*"))[-1]


def test_a_torn_checkpoint_is_not_resumed_from(tmp_path: Path) -> None:
    """Without its state file, which comes last, it does not count."""
    chosen, whole, broken, newest = one_whole_and_one_stopped(tmp_path)
    (newest / "state.json").unlink()
    train_small(broken, chosen, fresh=False)
    name = "model.safetensors"
    assert (whole / name).read_bytes() == (broken / name).read_bytes()


def test_a_checkpoint_in_the_making_is_neither_read_nor_in_the_way(tmp_path: Path) -> None:
    """A kill while a checkpoint is flushed leaves its folder under a temporary name, complete."""
    chosen, whole, broken, newest = one_whole_and_one_stopped(tmp_path)
    newest.rename(newest.with_name(newest.name + ".partial"))
    train_small(broken, chosen, fresh=False)
    assert_same_bytes(whole, broken)


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "final" / "m"
    train_small(folder, recipe())
    assert len(list((folder / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize(
    "how", ["flip", "gone", *(pytest.param(h, marks=pytest.mark.slow) for h in ("cut", "empty"))]
)
def test_of_a_damaged_checkpoint_the_one_before_is_used(
    name: str, how: str, tmp_path: Path, generator: np.random.Generator
) -> None:
    chosen, whole, broken, newest = one_whole_and_one_stopped(tmp_path)
    before = sorted((broken / "checkpoints").glob("step-*"))[-2]
    path = newest / name
    data = bytearray(path.read_bytes())
    data[int(generator.integers(len(data)))] ^= 8
    kept = {"flip": bytes(data), "cut": bytes(data[: len(data) // 2]), "empty": b""}.get(how)
    path.unlink() if kept is None else path.write_bytes(kept)
    found = next(usable_checkpoints((broken,), chosen, chosen.steps))
    assert found[0] == before
    train_small(broken, chosen, fresh=False)
    assert_same_bytes(whole, broken)


def test_damaged_checkpoints_are_removed_and_named(tmp_path: Path) -> None:
    _, _, broken, newest = one_whole_and_one_stopped(tmp_path)
    (newest / "state.json").write_text("{}")
    assert remove_damaged((broken,)) == [newest]
    assert remove_damaged((broken,)) == []


def test_weights_that_are_no_numbers_are_not_gone_on_from(tmp_path: Path) -> None:
    """As where the last step before a checkpoint broke them, which the next loss would show."""
    chosen, whole, broken, newest = one_whole_and_one_stopped(tmp_path)
    weights = load_file(newest / "weights.safetensors")
    name = sorted(weights)[0]
    weights[name].flat[0] = np.inf
    save_file(weights, newest / "weights.safetensors")
    state = read_sealed(newest / "state.json")
    state["files"]["weights.safetensors"] = plain(file_sum(newest / "weights.safetensors"))
    write_sealed(newest / "state.json", state)
    train_small(broken, chosen, fresh=False)
    assert_same_bytes(whole, broken)


def test_nothing_is_saved_before_the_first_step(tmp_path: Path) -> None:
    chosen = recipe()
    folder = tmp_path / "m"
    with pytest.raises(Stopped):
        train_small(folder, chosen, 0)
    assert not (folder / "checkpoints").exists()
    whole = tmp_path / "whole" / "m"
    train_small(whole, chosen)
    train_small(folder, chosen, fresh=False)
    assert_same_bytes(whole, folder)
