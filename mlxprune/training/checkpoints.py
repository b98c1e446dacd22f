"""Checkpoints: weights, optimizer state and a step, from which a training goes on exactly."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxprune.files import PARTIAL, folder_in_the_making, no_space_behind_runtime_errors
from mlxprune.records import read_record, write_record
from mlxprune.training.recipe import Recipe, begins_alike, recipe_identity
from mlxprune.training.summary import CheckpointHistory, CheckpointState

if TYPE_CHECKING:
    import mlx.nn as nn

CHECKPOINTS_KEPT = 2


def whole_checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first: the state file is written last."""
    found = (folder / "checkpoints").glob("step-*")
    whole = (p for p in found if not p.name.endswith(PARTIAL))
    return sorted(p for p in whole if (p / "state.json").exists())


def save_checkpoint(
    folder: Path,
    step: int,
    recipe: Recipe,
    micro_batches: int,
    model: nn.Module,
    optimizer: Any,
    history: CheckpointHistory,
    kept: list[int],
) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    target = _checkpoint(folder, step)
    if (target / "state.json").exists():
        return
    with folder_in_the_making(target) as partial, no_space_behind_runtime_errors(folder):
        mx.save_safetensors(
            str(partial / "weights.safetensors"), dict(sorted(tree_flatten(model.parameters())))
        )
        mx.save_safetensors(
            str(partial / "optimizer.safetensors"), dict(sorted(tree_flatten(optimizer.state)))
        )
        state = CheckpointState(
            step=step, recipe=recipe, micro_batches=micro_batches, history=history
        )
        write_record(partial / "state.json", state)
    prune_checkpoints(folder, recipe, [*kept, step])


def _checkpoint(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step-{step:08d}"


@dataclass(frozen=True)
class Restored:
    """What a training goes on with: the ``step``, and what was known there."""

    step: int
    micro_batches: int | None
    history: CheckpointHistory


def restore_checkpoint(
    folders: tuple[Path, ...], recipe: Recipe, last: int, model: nn.Module, optimizer: Any
) -> Restored:
    """Load the newest whole checkpoint of these folders that is not past ``last``; step 0 where
    there is none."""
    import mlx.core as mx
    from mlx.utils import tree_unflatten

    found = last_usable(folders, recipe, last)
    if found is None:
        return Restored(0, None, CheckpointHistory())
    path, state = found
    model.load_weights(str(path / "weights.safetensors"))
    saved: Any = mx.load(str(path / "optimizer.safetensors"))
    optimizer.state = tree_unflatten(list(saved.items()))
    mx.eval(model.parameters(), optimizer.state)
    return Restored(state.step, state.micro_batches, state.history)


def last_usable(
    folders: tuple[Path, ...], recipe: Recipe, last: int
) -> tuple[Path, CheckpointState] | None:
    """The newest whole checkpoint of these folders that this recipe can go on from and that is not
    past ``last``."""
    paths = sorted((p for f in folders for p in whole_checkpoints(f)), key=lambda p: p.name)
    for path in reversed(paths):
        state = read_record(path / "state.json", CheckpointState)
        same = recipe_identity(state.recipe) == recipe_identity(recipe) or begins_alike(
            state.recipe, recipe, state.step
        )
        if same and state.step <= last:
            return path, state
    return None


def prune_checkpoints(folder: Path, recipe: Recipe, besides: list[int]) -> None:
    """Keep the last regular ones, so that a stop in between leaves no trace in what is finished,
    and those at the steps ``besides``."""
    spared = [_checkpoint(folder, step) for step in besides]
    regular = [
        path
        for path in whole_checkpoints(folder)
        if (step := int(path.name[5:])) and step % recipe.checkpoint_every == 0
    ]
    for path in (folder / "checkpoints").glob("*"):
        if path not in regular[-CHECKPOINTS_KEPT:] and path not in spared:
            shutil.rmtree(path)
