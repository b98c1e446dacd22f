"""Checkpoints: weights, optimizer state and a step, from which a training goes on exactly."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxprune.checksums import is_whole, read_sealed, sums_of, write_sealed
from mlxprune.files import PARTIAL, folder_in_the_making, no_space_behind_runtime_errors
from mlxprune.records import plain, record_of
from mlxprune.run.markers import CHECKPOINTS, forget
from mlxprune.training.recipe import Recipe, begins_alike, recipe_identity
from mlxprune.training.summary import CheckpointHistory, CheckpointState, RollBack

if TYPE_CHECKING:
    import mlx.nn as nn

CHECKPOINTS_KEPT = 2
ROLLBACKS = "rollbacks.json"
STATE, WEIGHTS, OPTIMIZER = "state.json", "weights.safetensors", "optimizer.safetensors"


def finished_checkpoints(folder: Path) -> list[Path]:
    """Oldest first, also those that were damaged since."""
    found = (folder / CHECKPOINTS).glob("step-*")
    return sorted(p for p in found if p.is_dir() and not p.name.endswith(PARTIAL))


def state_of_checkpoint(path: Path) -> CheckpointState | None:
    """What a checkpoint says of itself; None where a byte of it is not what it was."""
    try:
        state = record_of(read_sealed(path / STATE), CheckpointState)
    except (OSError, ValueError):
        return None
    files = state.files
    if files is None:  # of before there were checksums
        return state if (path / WEIGHTS).exists() and (path / OPTIMIZER).exists() else None
    return state if all(is_whole(path / name, files[name]) for name in files) else None


def remove_damaged(folders: tuple[Path, ...]) -> list[Path]:
    """Remove the damaged checkpoints of these folders; return which they were."""
    found = [p for f in folders for p in finished_checkpoints(f) if state_of_checkpoint(p) is None]
    for path in found:
        forget(path)
    return found


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
    if target.exists():
        if state_of_checkpoint(target) is not None:
            return
        forget(target)
    with folder_in_the_making(target) as partial, no_space_behind_runtime_errors(folder):
        mx.save_safetensors(str(partial / WEIGHTS), dict(sorted(tree_flatten(model.parameters()))))
        mx.save_safetensors(str(partial / OPTIMIZER), dict(sorted(tree_flatten(optimizer.state))))
        state = CheckpointState(
            step=step,
            recipe=recipe,
            micro_batches=micro_batches,
            history=history,
            files=sums_of([partial / WEIGHTS, partial / OPTIMIZER], partial),
        )
        write_sealed(partial / STATE, state)
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
    folders: tuple[Path, ...],
    recipe: Recipe,
    last: int,
    model: nn.Module,
    optimizer: Any,
    only_regular: bool = False,
) -> Restored:
    """Load the newest whole checkpoint of these folders that is not past ``last`` and whose weights
    are finite; step 0, with nothing loaded, where there is none. ``only_regular``: none that a stop
    or the clock has left, so that where it goes on from is the same however it came there."""
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_unflatten

    for path, state in usable_checkpoints(folders, recipe, last):
        if only_regular and state.step % recipe.checkpoint_every:
            continue
        weights: Any = mx.load(str(path / WEIGHTS))
        if not all(mx.all(mx.isfinite(array)).item() for array in weights.values()):
            continue
        model.load_weights(list(weights.items()))
        saved: Any = mx.load(str(path / OPTIMIZER))
        optimizer.state = tree_unflatten(list(saved.items()))
        mx.eval(*(array for _, array in tree_flatten(model.parameters())), optimizer.state)
        return Restored(state.step, state.micro_batches, state.history)
    return Restored(0, None, CheckpointHistory())


def usable_checkpoints(
    folders: tuple[Path, ...], recipe: Recipe, last: int
) -> Iterator[tuple[Path, CheckpointState]]:
    """The whole checkpoints of these folders that this recipe can go on from and that are not past
    ``last``, newest first."""
    paths = sorted((p for f in folders for p in finished_checkpoints(f)), key=lambda p: p.name)
    for path in reversed(paths):
        state = state_of_checkpoint(path)
        if state is None:
            continue
        same = recipe_identity(state.recipe) == recipe_identity(recipe) or begins_alike(
            state.recipe, recipe, state.step
        )
        if same and state.step <= last:
            yield path, state


def prune_checkpoints(folder: Path, recipe: Recipe, besides: list[int]) -> None:
    """Keep the last regular ones, so that a stop in between leaves no trace in what is finished,
    and those at the steps ``besides``."""
    spared = [_checkpoint(folder, step) for step in besides]
    regular = [
        path
        for path in finished_checkpoints(folder)
        if (step := int(path.name[5:])) and step % recipe.checkpoint_every == 0
    ]
    for path in (folder / CHECKPOINTS).glob("*"):
        if path not in regular[-CHECKPOINTS_KEPT:] and path not in spared:
            shutil.rmtree(path)


def remove_later(folder: Path, step: int) -> None:
    """Checkpoints of a folder past a step: a training that went back does not come this way
    again."""
    for path in finished_checkpoints(folder):
        if int(path.name[5:]) > step:
            forget(path)


def stored_rollbacks(folder: Path) -> list[RollBack]:
    """Of a training under way; none where it never went back."""
    try:
        return record_of(read_sealed(folder / ROLLBACKS)["rollbacks"], list[RollBack])
    except (OSError, ValueError, KeyError):
        return []


def store_rollbacks(folder: Path, rollbacks: list[RollBack]) -> None:
    write_sealed(folder / ROLLBACKS, {"rollbacks": plain(rollbacks)})
