"""Shapes: into how many micro-batches the steps of a training are cut, and from which step on.

They decide the last bits of the weights, so they are settled once, before the first step, and kept
beside the model until it is finished: a training that goes on has the same shapes. One that ran out
of memory goes on with more, smaller parts, and that is kept in the same place.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from mlxprune.checksums import read_sealed_list, write_sealed_list
from mlxprune.model.architecture import flops_per_token
from mlxprune.model.memory_bounds import memory_plan
from mlxprune.records import record_of
from mlxprune.training.recipe import Recipe

FILE = "shapes.json"


class StepShape(msgspec.Struct, array_like=True):
    """From ``step`` on a step has so many equal ``parts``."""

    step: int
    parts: int


def usual_parts(
    recipe: Recipe, memory_bytes: int | None, gradient_checkpointing: bool, part_flops: float | None
) -> int:
    """What the configuration says; else the fewest equal parts that fit into memory and do not take
    a GPU more than ``part_flops`` each, one sequence at the least."""
    if recipe.accumulate:
        return recipe.accumulate
    plan = memory_plan(recipe.config, recipe.context, memory_bytes)
    parts = plan.micro_batches(recipe.batch_size, recipe.optimizer, gradient_checkpointing)
    if part_flops is None:
        return parts
    a_row = 3 * flops_per_token(recipe.config, recipe.context) * recipe.context
    while (recipe.batch_size // parts) * a_row > part_flops:
        more = finer(recipe.batch_size, parts)
        if more is None:
            break
        parts = more
    return parts


def finer(batch_size: int, parts: int, factor: int = 1) -> int | None:
    """The next larger number of equal parts, at least ``factor`` times as many; None where a part
    is one sequence."""
    larger = [n for n in range(parts + 1, batch_size + 1) if batch_size % n == 0]
    return next((n for n in larger if n >= factor * parts), larger[-1] if larger else None)


def stored_shapes(folder: Path, usual: int) -> list[StepShape]:
    """The shapes of a training; stored the first time."""
    try:
        return _read(folder)
    except (OSError, ValueError):  # not there, or damaged: as it was without a lack of memory
        write_sealed_list(folder / FILE, [StepShape(0, usual)])
    return _read(folder)


def _read(folder: Path) -> list[StepShape]:
    return record_of(read_sealed_list(folder / FILE), list[StepShape])


def shape_at(shapes: list[StepShape], step: int) -> int:
    """Parts of the step that comes after so many."""
    return [shape.parts for shape in shapes if shape.step <= step][-1]


def with_finer_parts(folder: Path, batch_size: int, step: int) -> int | None:
    """Cut the steps from ``step`` on into at least twice as many parts; None where a part is one
    sequence already. ``step`` is where the training will go on."""
    shapes = _read(folder)
    parts = finer(batch_size, shapes[-1].parts, 2)
    if parts is None:
        return None
    kept = [shape for shape in shapes if shape.step < step]
    write_sealed_list(folder / FILE, [*kept, StepShape(step, parts)])
    return parts
