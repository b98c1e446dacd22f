"""Train a model on some documents of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.config.schema import Training
from mlxprune.data import split
from mlxprune.evaluation.bits_per_byte import documents_for_curves, validator
from mlxprune.experiment.artifacts import open_run_corpus, open_run_tokens
from mlxprune.run.stage import RunContext
from mlxprune.training.loop import train_model
from mlxprune.training.progress import StageShare
from mlxprune.training.recipe import VALIDATIONS_PER_RUN, Recipe
from mlxprune.training.stream import TrainingStream


def train_on_documents(
    work: RunContext,
    stage: str,
    settings: Training,
    recipe: Recipe,
    documents: np.ndarray,
    folder: Path,
    fingerprint: str,
    stop: int | None = None,
    earlier: tuple[Path, ...] = (),
    place: StageShare | None = None,
    stem: int | None = None,
) -> dict[str, Any]:
    """Train on some documents of the run; ``stop``, ``earlier``, ``place`` and ``stem`` as in
    ``train.train``."""
    names, tokens = open_run_corpus(work.run, work.config), open_run_tokens(work.run)
    stream = TrainingStream(tokens, documents, names.index["key"][documents], recipe.seed)
    members = split.open_split(work.run.split).members(split.VALIDATION)
    # A forward pass costs a third of a step: all validations together stay near 5 % of the work.
    budget = min(1_000_000, max(20_000, int(0.15 * recipe.targets) // VALIDATIONS_PER_RUN))
    held_out = documents_for_curves(names, tokens, members, work.config.seed, budget)
    return train_model(
        recipe,
        stream,
        folder,
        fingerprint,
        work.run.tokenizer,
        validator(names, tokens, held_out, recipe.config, recipe.context, work.config.memory),
        stage,
        work.log,
        work.control,
        settings.gradient_checkpointing,
        work.config.memory,
        stop,
        earlier,
        place,
        stem,
    )
