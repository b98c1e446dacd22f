"""References: the stages that train the models which score, and that score the pool with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxprune.data import split
from mlxprune.errors import DataError
from mlxprune.experiment.artifacts import folds_of, open_run_tokens
from mlxprune.experiment.scorers import Scorer, scorers_of, snapshot_name
from mlxprune.files import (
    files_identity,
    fingerprint_of,
    folder_in_the_making,
    read_json,
    write_json,
)
from mlxprune.model.architecture import parameter_counts, preset_of
from mlxprune.model.weights import MODEL_FILES, MODEL_VERSION, fetch_model
from mlxprune.pipeline.train_documents import train_on_documents
from mlxprune.run.stage import Artifact, RunContext, run_stage
from mlxprune.tokenization.token_file import Tokens
from mlxprune.training.recipe import (
    TRAINING_VERSION,
    Recipe,
    recipe_identity,
    recipe_of,
    training_summary,
)

SETTLED = 0.9  # a rank correlation of the last two validations under which ranks still move


def train_references(work: RunContext) -> None:
    """The stage ``reference``: every model that scores, its early copies first."""
    work.inputs["reference"] = {}
    pieces = [
        _pretrained(work, scorer) if scorer.reference.pretrained else _trained(work, scorer)
        for scorer in scorers_of(work.config)
    ]
    run_stage(work, "reference", pieces)
    _warn_about_ranks(work)


def _pretrained(work: RunContext, scorer: Scorer) -> Artifact:
    folder, source = (
        work.run.reference(scorer.name),
        fetch_model(scorer.reference.pretrained or ""),
    )
    facts = files_identity(source, MODEL_FILES)
    described = {"pretrained": scorer.reference.pretrained, "files": facts}
    work.inputs["reference"][scorer.name] = described

    def point() -> dict[str, Any]:
        with folder_in_the_making(folder) as partial:
            write_json(partial / "pretrained.json", {"folder": str(source)})
        return {"pretrained": scorer.reference.pretrained}

    return Artifact(folder, fingerprint_of(described), point)


def _trained(work: RunContext, scorer: Scorer) -> Artifact:
    settings = scorer.reference
    folder = work.run.reference(scorer.name)
    tokens = open_run_tokens(work.run)
    members = _documents(work, scorer)
    shape = preset_of(settings.model)
    vocabulary = (tokens.vocab_size, tokens.prefix, tokens.end)
    seed = work.config.seed if settings.seed is None else settings.seed
    recipe = recipe_of(settings, shape, vocabulary, settings.tokens, seed)
    stop = None if scorer.snapshot is None else max(1, round(scorer.snapshot * recipe.steps))
    if scorer.snapshot is None and scorer.fold in (None, 0):
        _warn_about_size(work, scorer, recipe, tokens, members)
    described: dict[str, Any] = {
        "version": [TRAINING_VERSION, MODEL_VERSION],
        "recipe": recipe_identity(recipe),
        "tokens": work.fingerprint("tokens"),
    }
    described |= (
        {} if scorer.fold is None else {"fold": scorer.fold, "folds": work.config.split.cross}
    )
    described |= {} if stop is None else {"stop": stop}
    work.inputs["reference"][scorer.name] = described
    fingerprint = fingerprint_of(described)
    earlier = tuple(
        work.run.reference(snapshot_name(settings.name, share))
        for share in settings.snapshots
        if scorer.fold is None and (scorer.snapshot is None or share < scorer.snapshot)
    )

    def build() -> dict[str, Any]:
        summary = train_on_documents(
            work, "reference", settings, recipe, members, folder, fingerprint, stop, earlier
        )
        return {**training_summary(summary), "final_loss": summary["final_loss"]}

    return Artifact(folder, fingerprint, build)


def _documents(work: RunContext, scorer: Scorer) -> np.ndarray:
    """What a reference trains on: its part, or with cross-scoring the pool without its fold."""
    parts = split.open_split(work.run.split)
    if scorer.fold is None:
        members = parts.members(split.REFERENCE)
        problem, fix = "the reference part has no document", "raise split.reference"
    else:
        members = parts.members(split.TRAIN)
        members = members[folds_of(work.run, work.config, members) != scorer.fold]
        problem, fix = "the other folds have no document", "lower split.cross"
    if not len(members):
        raise DataError(problem, str(work.run.split), f"{fix} or give more text")
    return members


# --- warnings ---------------------------------------------------------------------------------


def _warn_about_size(
    work: RunContext,
    scorer: Scorer,
    recipe: Recipe,
    tokens: Tokens,
    members: np.ndarray,
) -> None:
    which = "the reference" if len(work.config.scorers) == 1 else f"reference {scorer.name}"
    body, tables = parameter_counts(recipe.config)
    if recipe.targets < 10 * body:
        ratio = recipe.targets / body
        work.warn("reference", f"{which} sees {ratio:.1f} tokens a parameter (20 is usual)")
    if tables > 0.35 * (body + tables):
        share = tables / (body + tables)
        work.warn("reference", f"{share:.0%} of {which} is embedding: a smaller vocabulary?")
    unique = int(tokens.lengths(members).sum()) + len(members)
    if recipe.targets > 1.05 * unique:
        passes = recipe.targets / max(unique, 1)
        work.warn("reference", f"the text of {which} is short: {passes:.1f} passes over it")


def _warn_about_ranks(work: RunContext) -> None:
    """Ranks that still move between the last two validations are not settled."""
    for scorer in scorers_of(work.config):
        path = work.run.reference(scorer.name) / "training.json"
        if scorer.snapshot is not None or not path.exists():
            continue
        history = read_json(path)["history"]["validation"]
        settled = history[-1][2] if history and len(history[-1]) > 2 else None
        if settled is not None and settled < SETTLED:
            work.warn(
                "reference",
                f"the ranks under {scorer.name} still move: {settled:.2f} rank correlation with "
                "those one tenth of the training earlier; raise reference.tokens",
            )
