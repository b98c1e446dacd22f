"""A training job: what is trained on what, where it goes, and where it stands in its stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.training.recipe import Recipe
from mlxprune.training.stream import TrainingStream

Validate = Callable[[Any], np.ndarray]  # of a model


@dataclass(frozen=True)
class StageShare:
    """Where a training stands among those of its stage: the how many-th, and in targets what lies
    before its first step, and all."""

    number: int
    count: int
    before: int
    total: int


@dataclass(frozen=True)
class TrainingJob:
    """``validate`` gives float64 [1 + documents]: the bits per byte of held-out text, then the mean
    negative log-likelihood of each document.

    ``stop`` ends after so many steps with a checkpoint there, from which the same recipe goes on in
    another folder that names this one among its ``earlier``. A checkpoint at ``stem`` is kept, from
    which a longer training goes on in the same way, where both are still at the constant rate of
    wsd.
    """

    recipe: Recipe
    stream: TrainingStream
    folder: Path  # in the layout of Hugging Face
    fingerprint: str
    tokenizer_folder: Path
    stage: str
    validate: Validate | None = None
    gradient_checkpointing: bool = False
    memory_bytes: int | None = None
    stop: int | None = None
    stem: int | None = None
    earlier: tuple[Path, ...] = ()
    share: StageShare | None = None  # for the progress of the whole stage

    @property
    def name(self) -> str:
        """As events have it: final/high-50-s0."""
        return self.folder.relative_to(self.folder.parents[1]).as_posix()

    @property
    def last(self) -> int:
        """The step after which it ends."""
        return self.stop or self.recipe.steps
