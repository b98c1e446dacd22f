"""The job of training a model on some documents of the run, with the validation that all share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlxprune.config.schema import Training
from mlxprune.data import split
from mlxprune.evaluation.bits_per_byte import documents_for_curves, validator
from mlxprune.experiment.artifacts import StudyExecution
from mlxprune.training.job import TrainingJob
from mlxprune.training.recipe import VALIDATIONS_PER_RUN, Recipe
from mlxprune.training.stream import TrainingStream


def job_on_documents(
    study: StudyExecution,
    stage: str,
    settings: Training,
    recipe: Recipe,
    documents: np.ndarray,
    folder: Path,
    fingerprint: str,
) -> TrainingJob:
    """``documents`` are numbers in the corpus, ascending."""
    corpus, tokens, config = study.held.corpus, study.held.tokens(), study.config
    members = study.held.split.members(split.VALIDATION)
    # A forward pass costs a third of a step: all validations together stay near 5 % of the work.
    budget = min(1_000_000, max(20_000, int(0.15 * recipe.targets) // VALIDATIONS_PER_RUN))
    held_out = documents_for_curves(corpus, tokens, members, config.seed, budget)
    return TrainingJob(
        recipe=recipe,
        stream=TrainingStream(tokens, documents, corpus.index["key"][documents], recipe.seed),
        folder=folder,
        fingerprint=fingerprint,
        tokenizer_folder=study.run.tokenizer,
        stage=stage,
        validate=validator(corpus, tokens, held_out, recipe.config, recipe.context, config.memory),
        gradient_checkpointing=settings.gradient_checkpointing,
        memory_bytes=config.memory,
    )
