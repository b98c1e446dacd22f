"""Training order: a training as a child process is given it, and the run that supervises it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.evaluation.bits_per_byte import validator
from mlxprune.execution.children import do_in_child
from mlxprune.execution.context import Execution
from mlxprune.execution.stage import tell_of_damage
from mlxprune.execution.supervision import supervised
from mlxprune.run.markers import claim
from mlxprune.tokenization.token_file import open_tokens
from mlxprune.training.checkpoints import remove_damaged, usable_checkpoints
from mlxprune.training.job import StageShare, TrainingJob
from mlxprune.training.loop import train_model
from mlxprune.training.recipe import Recipe
from mlxprune.training.shapes import stored_shapes, usual_parts, with_finer_parts
from mlxprune.training.stream import TrainingStream
from mlxprune.training.summary import TrainingSummary

TRAIN = "mlxprune.experiment.training_order:train"  # what the child does


@dataclass(frozen=True)
class TrainingOrder:
    """The fields of a TrainingJob, with files and numbers in place of what is open.

    ``documents`` int64 and their ``keys`` uint64: what is trained on, in the corpus of ``tokens``;
    ``held_out``: the documents of the curve, ``held_out_bytes`` of text.
    """

    recipe: Recipe
    tokens: Path
    documents: np.ndarray
    keys: np.ndarray
    folder: Path
    fingerprint: str
    tokenizer_folder: Path
    stage: str
    held_out: np.ndarray
    held_out_bytes: int
    gradient_checkpointing: bool = False
    memory_bytes: int | None = None
    stop: int | None = None
    stem: int | None = None
    earlier: tuple[Path, ...] = ()
    share: StageShare | None = None

    def job(self) -> TrainingJob:
        """Open what it names."""
        tokens = open_tokens(self.tokens)
        recipe = self.recipe
        return TrainingJob(
            recipe=recipe,
            stream=TrainingStream(tokens, self.documents, self.keys, recipe.seed),
            folder=self.folder,
            fingerprint=self.fingerprint,
            tokenizer_folder=self.tokenizer_folder,
            stage=self.stage,
            validate=validator(
                tokens, self.held_out, self.held_out_bytes, recipe.config, recipe.context,
                self.memory_bytes,
            ),
            gradient_checkpointing=self.gradient_checkpointing,
            memory_bytes=self.memory_bytes,
            stop=self.stop,
            stem=self.stem,
            earlier=self.earlier,
            share=self.share,
        )  # fmt: skip


def train(link: Any, order: TrainingOrder) -> TrainingSummary:
    """In the child."""
    return train_model(order.job(), link, link)


def train_in_child(execution: Execution, order: TrainingOrder) -> TrainingSummary:
    """Train a model in a process that may die: it goes on from the last checkpoint in a fresh one,
    in smaller parts where memory or the screen's patience ended it."""
    from mlxprune.engine import backend

    claim(order.folder, order.fingerprint)  # before the shapes, which belong to this fingerprint
    recipe, flops = order.recipe, backend.detect().part_flops
    usual = usual_parts(recipe, order.memory_bytes, order.gradient_checkpointing, flops)
    stored_shapes(order.folder, usual)

    places = (order.folder, *order.earlier)

    def last_step() -> int:
        found = next(usable_checkpoints(places, recipe, order.stop or recipe.steps), None)
        return found[1].step if found else 0

    def attempt() -> TrainingSummary:
        _leave_damaged(execution, order.stage, places)
        return do_in_child(
            execution.children,
            execution.control,
            execution.log,
            TRAIN,
            order,
            TrainingSummary,
        )

    def smaller() -> str | None:
        parts = with_finer_parts(order.folder, recipe.batch_size, last_step())
        return f"{parts} micro-batches a step from step {last_step():,} on" if parts else None

    name = order.folder.relative_to(order.folder.parents[1]).as_posix()
    return supervised(execution.log, order.stage, name, attempt, last_step, smaller)


def _leave_damaged(execution: Execution, stage: str, places: tuple[Path, ...]) -> None:
    """The training goes on from the last good checkpoint."""
    for path in remove_damaged(places):
        tell_of_damage(execution, stage, [path], "the one before it is used")
