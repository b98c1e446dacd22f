"""The order to train a model on some documents of the run, with the validation that all share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlxprune.config.schema import Training
from mlxprune.data import split
from mlxprune.evaluation.bits_per_byte import documents_for_curves
from mlxprune.experiment.artifacts import StudyExecution
from mlxprune.experiment.training_order import TrainingOrder
from mlxprune.training.recipe import VALIDATIONS_PER_RUN, Recipe


def order_on_documents(
    study: StudyExecution,
    stage: str,
    settings: Training,
    recipe: Recipe,
    documents: np.ndarray,
    folder: Path,
    fingerprint: str,
) -> TrainingOrder:
    """``documents`` are numbers in the corpus, ascending."""
    corpus, tokens, config = study.held.corpus, study.held.tokens(), study.config
    members = study.held.split.members(split.VALIDATION)
    # A forward pass costs a third of a step: all validations together stay near 5 % of the work.
    budget = min(1_000_000, max(20_000, int(0.15 * recipe.targets) // VALIDATIONS_PER_RUN))
    held_out = documents_for_curves(corpus, tokens, members, config.seed, budget)
    return TrainingOrder(
        recipe=recipe,
        tokens=study.run.tokens(),
        documents=documents,
        keys=corpus.index["key"][documents],
        folder=folder,
        fingerprint=fingerprint,
        tokenizer_folder=study.run.tokenizer,
        stage=stage,
        held_out=held_out,
        held_out_bytes=int(corpus.index["bytes"][held_out].sum()),
        gradient_checkpointing=settings.gradient_checkpointing,
        memory_bytes=config.memory,
    )
