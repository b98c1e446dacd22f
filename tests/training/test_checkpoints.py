"""Checkpoints: whole ones alone are resumed from, and old ones go."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxprune.errors import Stopped
from mlxprune.testing.training import assert_same_bytes, recipe, train_small
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
