"""Arms: what the final models train on. All carry the same unique tokens and the same targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxprune import model as models
from mlxprune import train
from mlxprune.config import Config, Slice, Training
from mlxprune.selection import random_documents


@dataclass(frozen=True)
class Arm:
    """One final model to train: an arm of the study with one seed."""

    arm: str  # high-50, random-50
    kind: str  # pruned, random
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm}-s{self.seed}"


def arms_of(config: Config) -> list[Arm]:
    """Pruned and control of a seed stand beside each other, so a stopped study has whole pairs."""
    named = {"pruned": config.selection.name(), "random": control_name(config.selection)}
    return [
        Arm(named[kind], kind, seed) for seed in config.final.seeds for kind in config.final.arms
    ]


def control_name(choice: Slice) -> str:
    return "random-" + choice.name().split("-", 1)[1].removesuffix("-paper")


def documents_of(
    arm: Arm, pool: np.ndarray, keys: np.ndarray, lengths: np.ndarray, kept: np.ndarray
) -> np.ndarray:
    """The documents of an arm, in canonical order. ``lengths`` count the closing end-of-text."""
    if arm.kind == "pruned":
        return pool[kept]
    budget = int(lengths[kept].sum())
    return pool[random_documents(keys, lengths, budget, arm.seed)]


def recipe_of(
    settings: Training,
    shape: models.Shape,
    vocab: tuple[int, int, int],
    targets: int,
    seed: int,
) -> train.Recipe:
    """Settings, preset and budget as the values that decide the weights.

    ``vocab`` is (size, prefix id, end id).
    """
    chosen = models.training_defaults(settings, shape)
    context, batch = chosen["context"], chosen["batch_size"]
    steps = train.steps_for(targets, context, batch)

    def every(asked: int | None, per_run: int) -> int:
        return max(1, asked // (context * batch) if asked else steps // per_run)

    return train.Recipe(
        config=models.full_config(shape, vocab[0], context, vocab[1], vocab[2]),
        context=context,
        batch_size=batch,
        accumulate=settings.accumulate,
        steps=steps,
        optimizer=chosen["optimizer"],
        learning_rate=chosen["learning_rate"],
        weight_decay=chosen["weight_decay"],
        schedule=settings.schedule,
        warmup=settings.warmup,
        decay=settings.decay,
        clip=settings.clip,
        seed=seed,
        checkpoint_every=every(settings.checkpoint_every, train.CHECKPOINTS_PER_RUN),
        validate_every=every(settings.validate_every, train.VALIDATIONS_PER_RUN),
    )


def final_targets(config: Config, shape: models.Shape, vocab_size: int, unique: int) -> int:
    """T, from whichever budget the configuration names; ``unique`` is U of the slice."""
    final = config.final
    if final.passes is not None:
        return max(1, round(final.passes * unique))
    if final.per_parameter is not None:
        body, _ = models.parameter_counts({**shape.config, "vocab_size": vocab_size})
        return max(1, round(final.per_parameter * body))
    return int(final.tokens or 0)


def effective_data(unique: float, targets: float) -> float:
    """D_eff = U + U Rstar (1 - exp(-R / Rstar)), R repeats (Muennighoff et al. 2023)."""
    rstar = 15.387756
    repeats = max(0.0, targets / unique - 1)
    seen_once = min(unique, targets)
    return float(seen_once + seen_once * rstar * (1 - np.exp(-repeats / rstar)))


def summary_of(training: dict[str, Any]) -> dict[str, Any]:
    return {
        "tokens": training["targets"],
        "unique_tokens": training["unique_tokens"],
        "documents": training["documents"],
        "passes": training["passes"],
        "validation_bpb": training["validation_bpb"],
    }
