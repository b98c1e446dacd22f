"""The stage ``reference``: trains the models that score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mlxprune.data import split
from mlxprune.errors import DataError
from mlxprune.execution.stage import Artifact, run_stage
from mlxprune.experiment.artifacts import StudyExecution
from mlxprune.experiment.scorers import Scorer, scorers_of, snapshot_name
from mlxprune.experiment.training_order import train_in_child
from mlxprune.files import files_identity, folder_in_the_making, write_json
from mlxprune.model.architecture import parameter_counts, preset_of
from mlxprune.model.weights import MODEL_FILES, MODEL_VERSION, fetch_model
from mlxprune.pipeline.train_documents import order_on_documents
from mlxprune.records import Json, plain, read_record
from mlxprune.tokenization.token_file import Tokens
from mlxprune.training.recipe import TRAINING_VERSION, Recipe, recipe_identity, recipe_of
from mlxprune.training.summary import TrainingSummary

SETTLED = 0.9  # a rank correlation of the last two validations under which ranks still move


def train_references(study: StudyExecution) -> None:
    """The stage ``reference``: every model that scores, its early copies first."""
    artifacts = {
        scorer.name: _pretrained(study, scorer)
        if scorer.reference.pretrained
        else _trained(study, scorer)
        for scorer in scorers_of(study.config)
    }
    inputs = {name: artifact.inputs[0] for name, artifact in artifacts.items()}
    run_stage(study, "reference", list(artifacts.values()), inputs)
    _warn_about_ranks(study)


def _pretrained(study: StudyExecution, scorer: Scorer) -> Artifact:
    """A folder that points to the model."""
    folder, name = study.run.reference(scorer.name), scorer.reference.pretrained
    source = fetch_model(name or "")

    def point() -> Json:
        with folder_in_the_making(folder) as partial:
            write_json(partial / "pretrained.json", {"folder": str(source)})
        return {"pretrained": name}

    inputs = {"pretrained": name, "files": files_identity(source, MODEL_FILES)}
    return Artifact(folder, (inputs,), point)


def _trained(study: StudyExecution, scorer: Scorer) -> Artifact:
    settings, config, tokens = scorer.reference, study.config, study.held.tokens()
    members = _documents(study, scorer)
    vocabulary = (tokens.vocab_size, tokens.prefix, tokens.end)
    seed = config.seed if settings.seed is None else settings.seed
    recipe = recipe_of(settings, preset_of(settings.model), vocabulary, settings.tokens, seed)
    stop = None if scorer.snapshot is None else max(1, round(scorer.snapshot * recipe.steps))
    if scorer.snapshot is None and scorer.fold in (None, 0):
        _warn_about_size(study, scorer, recipe, tokens, members)
    inputs: Json = {
        "version": [TRAINING_VERSION, MODEL_VERSION],
        "recipe": recipe_identity(recipe),
        "tokens": study.fingerprint("tokens"),
        **config.dtype_identity,
        **({} if scorer.fold is None else {"fold": scorer.fold, "folds": config.split.cross}),
        **({} if stop is None else {"stop": stop}),
    }
    earlier = tuple(
        study.run.reference(snapshot_name(settings.name, share))
        for share in settings.snapshots
        if scorer.fold is None and (scorer.snapshot is None or share < scorer.snapshot)
    )

    def build() -> Json:
        order = order_on_documents(
            study, "reference", settings, recipe, members, artifact.path, artifact.fingerprint
        )
        summary = train_in_child(study, replace(order, stop=stop, earlier=earlier))
        return {**plain(summary.totals), "final_loss": summary.final_loss}

    artifact = Artifact(study.run.reference(scorer.name), (inputs,), build)
    return artifact


def _documents(study: StudyExecution, scorer: Scorer) -> np.ndarray:
    """What a reference trains on: its part, or with cross-scoring the pool without its fold."""
    if scorer.fold is None:
        members = study.held.split.members(split.REFERENCE)
        problem, fix = "the reference part has no document", "raise split.reference"
    else:
        members = study.held.split.members(split.TRAIN)
        members = members[study.held.folds(members) != scorer.fold]
        problem, fix = "the other folds have no document", "lower split.cross"
    if not len(members):
        raise DataError(problem, str(study.run.split), f"{fix} or give more text")
    return members


# --- warnings ---------------------------------------------------------------------------------


def _warn_about_size(
    study: StudyExecution,
    scorer: Scorer,
    recipe: Recipe,
    tokens: Tokens,
    members: np.ndarray,
) -> None:
    which = "the reference" if len(study.config.scorers) == 1 else f"reference {scorer.name}"
    body, tables = parameter_counts(recipe.config)
    if recipe.targets < 10 * body:
        ratio = recipe.targets / body
        study.warn("reference", f"{which} sees {ratio:.1f} tokens a parameter (20 is usual)")
    if tables > 0.35 * (body + tables):
        share = tables / (body + tables)
        study.warn("reference", f"{share:.0%} of {which} is embedding: a smaller vocabulary?")
    unique = int(tokens.lengths(members).sum()) + len(members)
    if recipe.targets > 1.05 * unique:
        passes = recipe.targets / max(unique, 1)
        study.warn("reference", f"the text of {which} is short: {passes:.1f} passes over it")


def _warn_about_ranks(study: StudyExecution) -> None:
    """Ranks that still move between the last two validations are not settled."""
    for scorer in scorers_of(study.config):
        path = study.run.reference(scorer.name) / "training.json"
        if scorer.snapshot is not None or not path.exists():
            continue
        points = read_record(path, TrainingSummary).history.validation
        settled = points[-1].rank_correlation if points else None
        if settled is not None and settled < SETTLED:
            study.warn(
                "reference",
                f"the ranks under {scorer.name} still move: {settled:.2f} rank correlation with "
                "those one tenth of the training earlier; raise reference.tokens",
            )
