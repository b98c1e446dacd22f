"""The stage ``final``: trains a final model for every arm and seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from mlxprune.config.schema import Config
from mlxprune.config.slices import Slice
from mlxprune.errors import DataError
from mlxprune.execution.stage import Artifact, run_stage
from mlxprune.experiment.arms import (
    Arm,
    ArmPool,
    arm_documents,
    arms_of,
    branches_of,
    confirmed_arms,
    documents_identity,
    why_left_out,
)
from mlxprune.experiment.artifacts import StudyExecution
from mlxprune.experiment.budgets import effective_data, final_targets
from mlxprune.experiment.records import ArmRecord, StudyArms, write_arms
from mlxprune.experiment.training_order import train_in_child
from mlxprune.files import read_array, write_array
from mlxprune.model.architecture import preset_of
from mlxprune.model.weights import MODEL_VERSION
from mlxprune.pipeline.screen_slices import screen_slices
from mlxprune.pipeline.train_documents import order_on_documents
from mlxprune.records import Json, read_record
from mlxprune.run.markers import (
    damaged_files,
    finished_under,
    forget,
    is_done,
    link_folder,
    mark_done,
)
from mlxprune.selection.composition import overlap, overlap_by_chance
from mlxprune.selection.ranking import domain_length_cells
from mlxprune.training.job import StageShare
from mlxprune.training.recipe import (
    TRAINING_VERSION,
    Recipe,
    branch_of,
    recipe_identity,
    recipe_of,
)
from mlxprune.training.summary import TrainingSummary, TrainingTotals

MANY_PASSES = 4


@dataclass(frozen=True)
class Budget:
    """What all arms of the study are trained with."""

    targets: int  # T
    pool: ArmPool
    finished: dict[str, Path]  # equal trainings of this and of neighbouring runs, by fingerprint


@dataclass(frozen=True)
class BranchTraining:
    """One training: an arm ended somewhere, the step at which a longer one leaves it, and the
    targets that no shorter one has seen to."""

    arm: Arm
    recipe: Recipe
    stem: int
    new_targets: int


class TrainedArm(TrainingTotals, omit_defaults=True):
    """What people are told of a training; ``same_as`` names the equal one that was taken over."""

    same_as: str | None = None


def train_arms(study: StudyExecution) -> None:
    """What every arm is goes to arms.json; equal arms are trained once."""
    config, run = study.config, study.run
    tokens, pool = study.held.tokens(), study.held.arm_pool()
    preset = preset_of(config.final.model)
    vocabulary = (tokens.vocab_size, tokens.prefix, tokens.end)
    unique = int(pool.lengths[pool.kept[config.slices[0].label]].sum())
    targets = final_targets(config, preset, tokens.vocab_size, unique)
    forced = "final" in study.forced
    finished = {} if forced else finished_under(run.path.parent, "final")
    budget = Budget(targets, pool, finished)
    confirmed = None
    if config.final.confirm:
        if forced:
            _forget_trainings(study)
        screening = [arm for arm in arms_of(config) if arm.screens]
        _train(study, budget, screening, vocabulary)
        confirmed = screen_slices(study, screening)
    arms = arms_of(config) if confirmed is None else confirmed_arms(config, confirmed)
    _train(study, budget, arms, vocabulary)


def _forget_trainings(study: StudyExecution) -> None:
    """All that is to be trained again, at once: the stage runs twice, and the second time must not
    forget what the first has made."""
    for arm in arms_of(study.config):
        for end in (arm, *branches_of(arm, study.config)):
            forget(study.run.final(end.name))
    forget(study.run.screening)
    study.forced = tuple(stage for stage in study.forced if stage != "final")


def _train(
    study: StudyExecution, budget: Budget, wanted: list[Arm], vocabulary: tuple[int, int, int]
) -> None:
    config, run, pool, targets = study.config, study.run, budget.pool, budget.targets
    preset = preset_of(config.final.model)
    asked = [(arm, why_left_out(arm, pool, targets)) for arm in wanted]
    left_out = {arm.arm: why for arm, why in asked if why is not None}
    trainings = {
        arm: _trainings(arm, config, recipe_of(config.final, preset, vocabulary, targets, arm.seed))
        for arm, why in asked
        if why is None
    }
    if not trainings:
        name, why = next(iter(left_out.items()))
        fix = "add pruned and random to final.arms, or raise final.tokens"
        raise DataError(f"no arm is left to train: {name}: {why}", "final.arms", fix)
    records, artifacts = _planned(study, budget, trainings)
    arms = StudyArms(targets=targets, arms=records, left_out=left_out, order=[*records])
    write_arms(run, arms)
    _warn(study, arms, pool)
    inputs = {name: artifact.inputs[0] for name, artifact in artifacts.items()}
    run_stage(study, "final", list(artifacts.values()), inputs)


def _trainings(arm: Arm, config: Config, whole: Recipe) -> list[BranchTraining]:
    """The branches of an arm, shortest first, and the arm itself, each going on from the last."""
    ends = [(branch, *branch_of(whole, branch.at or 1.0)) for branch in branches_of(arm, config)]
    trainings, start = [], 0
    for end, recipe, stem in [*ends, (arm, whole, 0)]:
        new = recipe.targets - start * recipe.targets_per_step
        trainings.append(BranchTraining(end, recipe, stem, new))
        start = stem
    return trainings


def _planned(
    study: StudyExecution, budget: Budget, trainings: dict[Arm, list[BranchTraining]]
) -> tuple[dict[str, ArmRecord], dict[str, Artifact]]:
    """Of every arm its record, and of every training its artifact, by name."""
    shared = {
        "version": [TRAINING_VERSION, MODEL_VERSION],
        "tokens": study.fingerprint("tokens"),
        "primary": study.config.evaluation.primary,
        **study.config.dtype_identity,
    }
    records: dict[str, ArmRecord] = {}
    artifacts: dict[str, Artifact] = {}
    count, before = sum(map(len, trainings.values())), 0
    total = sum(training.new_targets for ends in trainings.values() for training in ends)
    for arm, ends in trainings.items():
        documents = arm_documents(arm, budget.pool, budget.targets)
        keys = study.held.corpus.index["key"]
        identity = documents_identity(documents, keys)
        records[arm.name] = _record(study, budget.pool, ends, documents, identity)
        _store_documents(study.run.arm_documents(arm.name), keys[documents])
        for number, training in enumerate(ends):
            inputs = {
                **shared,
                "recipe": recipe_identity(training.recipe),
                "documents": identity,
            }
            start = training.recipe.targets - training.new_targets
            share = StageShare(len(artifacts) + 1, count, before - start, total)
            before += training.new_targets
            earlier = tuple(study.run.final(end.arm.name) for end in ends[:number])
            name = training.arm.name
            artifacts[name] = _artifact(study, budget, training, inputs, earlier, share)
    return records, artifacts


def _store_documents(path: Path, keys: np.ndarray) -> None:
    """What an arm is trained on, for whoever asks later."""
    try:
        same = np.array_equal(read_array(path), keys)
    except (OSError, ValueError):
        same = False
    if not same:
        write_array(path, keys)


def _artifact(
    study: StudyExecution,
    budget: Budget,
    training: BranchTraining,
    inputs: Json,
    earlier: tuple[Path, ...],
    share: StageShare,
) -> Artifact:
    arm, folder = training.arm, study.run.final(training.arm.name)

    def build() -> TrainedArm:
        equal = budget.finished.get(artifact.fingerprint)
        takes = equal is not None and equal != folder and is_done(equal, artifact.fingerprint)
        if takes and equal is not None and not damaged_files(equal):
            return _taken_over(study, equal, artifact)
        order = order_on_documents(
            study,
            "final",
            study.config.final,
            training.recipe,
            arm_documents(arm, budget.pool, budget.targets),
            folder,
            artifact.fingerprint,
        )
        order = replace(order, earlier=earlier, share=share, stem=training.stem or None)
        summary = train_in_child(study, order)
        budget.finished.setdefault(artifact.fingerprint, folder)
        return TrainedArm(**msgspec.structs.asdict(summary.totals))

    artifact = Artifact(folder, (inputs,), build)
    return artifact


def _taken_over(study: StudyExecution, equal: Path, artifact: Artifact) -> TrainedArm:
    """The files of an equal training under the arm's own name."""
    folder = artifact.path
    forget(folder)
    link_folder(equal, folder)
    here = equal.parents[1] == study.run.path
    same = equal.name if here else f"{equal.parents[1].name}/{equal.name}"
    mark_done(folder, "final", artifact.fingerprint, same_as=same)
    totals = read_record(folder / "training.json", TrainingSummary).totals
    return TrainedArm(**msgspec.structs.asdict(totals), same_as=same)


def _record(
    study: StudyExecution,
    pool: ArmPool,
    ends: list[BranchTraining],
    documents: np.ndarray,
    identity: str,
) -> ArmRecord:
    """What an arm is: kind, slice, U, T, passes, D_eff, and how much of the slice it holds."""
    arm, recipe = ends[-1].arm, ends[-1].recipe
    unique = int((study.held.tokens().lengths(documents) + 1).sum())
    common = by_chance = None
    if arm.slice is not None and arm.kind != "pruned":
        kept, mine = pool.kept[arm.slice], np.isin(pool.documents, documents)
        common = overlap(mine, kept)
        by_chance = overlap_by_chance(mine, kept, domain_length_cells(pool.domain, pool.lengths))
    return ArmRecord(
        arm=arm.arm,
        kind=arm.kind,
        seed=arm.seed,
        slice=arm.slice,
        share=arm.share,
        rung=arm.rung,
        plain=arm.slice is None or _plain(pool.slices[arm.slice]),
        documents=len(documents),
        unique_tokens=unique,
        targets=recipe.targets,
        passes=recipe.targets / unique,
        effective_tokens=round(effective_data(unique, recipe.targets)),
        branches={end.arm.name: end.recipe.targets for end in ends[:-1]},
        overlap=common,
        overlap_by_chance=by_chance,
        screens=arm.screens,
        documents_sum=identity,
    )


def _plain(choice: Slice) -> bool:
    """Whether chance alone decides what is kept of permuted scores."""
    return not choice.bounded and choice.min_tokens == 1


def _warn(study: StudyExecution, arms: StudyArms, pool: ArmPool) -> None:
    for name, why in arms.left_out.items():
        study.warn("final", f"arm {name} is left out: {why}")
    for record in arms.arms.values():
        if record.passes > MANY_PASSES and record.rung is None:
            share = record.effective_tokens / record.targets
            study.warn(
                "final",
                f"{record.passes:.1f} passes over {record.arm}: worth {share:.0%} of fresh data",
            )
            break
    for share_name in dict.fromkeys(choice.share for choice in pool.slices.values()):
        sizes = {
            label: int(pool.lengths[pool.kept[label]].sum())
            for label, choice in pool.slices.items()
            if choice.share == share_name
        }
        least = min(sizes, key=lambda label: sizes[label])
        larger = [label for label, size in sizes.items() if size > 1.05 * sizes[least]]
        if larger:
            names = ", ".join(larger[:4]) + (", ..." if len(larger) > 4 else "")
            most = max(sizes.values())
            study.warn(
                "final",
                f"slices of {share_name} % hold {sizes[least]:,} ({least}) to {most:,} tokens: so "
                f"that all arms have as many, those of {names} are random parts of theirs",
            )
