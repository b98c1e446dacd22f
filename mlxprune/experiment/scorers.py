"""Scorers: the models that score the pool, in the order in which they are trained."""

from __future__ import annotations

from dataclasses import dataclass

from mlxprune.config.schema import Config, Reference
from mlxprune.config.slices import FREE_SCORES
from mlxprune.model.architecture import preset_of, training_defaults


@dataclass(frozen=True)
class Scorer:
    """One model that scores: a reference, an early copy of it, or one fold's reference."""

    name: str  # of its folder and its scores
    reference: Reference
    snapshot: float | None = None
    fold: int | None = None
    tokenizer: str = "main"  # whose tokens it reads


def scorers_of(config: Config) -> list[Scorer]:
    """Every model that scores; a snapshot stands before the reference that goes on from it."""
    scorers = []
    for reference in config.scorers:
        if config.split.cross:
            folds = range(config.split.cross)
            scorers += [Scorer(f"fold-{n}", reference, fold=n) for n in folds]
            continue
        for share in sorted(reference.snapshots):
            scorers.append(Scorer(snapshot_name(reference.name, share), reference, snapshot=share))
        scorers.append(Scorer(reference.name, reference, tokenizer=_tokenizer(config, reference)))
    return scorers


def _tokenizer(config: Config, reference: Reference) -> str:
    """A pretrained model brings its own tokenizer, which may be that of the final models."""
    if not reference.pretrained or reference.pretrained == config.tokenizer.pretrained:
        return "main"
    return "reference" if reference.name == "main" else f"reference-{reference.name}"


def snapshot_name(reference: str, share: float) -> str:
    return f"{reference}.at-{100 * share:g}"


def free_score_names(config: Config) -> list[str]:
    """The scores that need no model. Unigram frequency always: ranks must be more than that."""
    wanted = {choice.reference for choice in config.slices} | {*config.final.arms}
    for choice in config.slices:
        if not isinstance(choice.metric, str):
            wanted |= {*choice.metric.difference}
    return [name for name in FREE_SCORES if name in wanted or name == "unigram"]


def scoring_context(config: Config, reference: Reference) -> int:
    """The window in tokens that documents are scored under: ``score.context``, else the context
    that the reference has or is trained with."""
    if config.score.context is not None:
        return config.score.context
    if reference.pretrained:
        return reference.context or 512
    return training_defaults(reference, preset_of(reference.model)).context
