"""Finals: the stages that train a final model for every arm and seed, and that evaluate them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.config.slices import Slice
from mlxprune.errors import DataError
from mlxprune.experiment.arms import (
    Arm,
    ArmPool,
    arm_documents,
    arms_of,
    branches_of,
    documents_identity,
    why_left_out,
)
from mlxprune.experiment.artifacts import open_pool, open_run_corpus, open_run_tokens
from mlxprune.experiment.budgets import effective_data, final_targets
from mlxprune.files import fingerprint_of, read_json, write_json
from mlxprune.model.architecture import preset_of
from mlxprune.model.weights import MODEL_VERSION
from mlxprune.pipeline.train_documents import train_on_documents
from mlxprune.run.markers import finished_under, forget, is_done, link_folder, mark_done
from mlxprune.run.stage import Artifact, RunContext, run_stage
from mlxprune.selection.composition import overlap, overlap_by_chance
from mlxprune.selection.ranking import domain_length_cells
from mlxprune.training.progress import StageShare
from mlxprune.training.recipe import (
    TRAINING_VERSION,
    Recipe,
    branch_of,
    recipe_identity,
    recipe_of,
    training_summary,
)

MANY_PASSES = 4


def train_arms(work: RunContext) -> None:
    """The stage ``final``: what every arm is goes to arms.json; equal arms are trained once."""
    config, run = work.config, work.run
    tokens, pool = open_run_tokens(run), open_pool(work)
    keys = open_run_corpus(run, config).index["key"]
    shape = preset_of(config.final.model)
    vocabulary = (tokens.vocab_size, tokens.prefix, tokens.end)
    first = config.slices[0]
    targets = final_targets(
        config, shape, tokens.vocab_size, int(pool.lengths[pool.kept[first.label]].sum())
    )
    shared = {
        "version": [TRAINING_VERSION, MODEL_VERSION],
        "tokens": work.fingerprint("tokens"),
        "primary": config.evaluation.primary,
    }
    plan: dict[str, Any] = {"targets": targets, "arms": {}, "left_out": {}}
    described: dict[str, Any] = {}
    pieces: list[Artifact] = []
    forced = "final" in work.forced
    finished = {} if forced else finished_under(run.path.parent, "final")
    asked = [(arm, why_left_out(arm, pool, targets)) for arm in arms_of(config)]
    plan["left_out"] = {arm.arm: why for arm, why in asked if why is not None}
    wanted = [arm for arm, why in asked if why is None]
    jobs_of = {
        arm.name: _jobs(arm, config, recipe_of(config.final, shape, vocabulary, targets, arm.seed))
        for arm in wanted
    }
    count, before = sum(map(len, jobs_of.values())), 0
    total = sum(job.new_targets for jobs in jobs_of.values() for job in jobs)
    for arm in wanted:
        documents = arm_documents(arm, pool, targets)
        jobs = jobs_of[arm.name]
        whole = jobs[-1].recipe
        chosen = documents_identity(documents, keys)
        facts = _facts(arm, pool, tokens.lengths(documents) + 1, documents, whole)
        plan["arms"][arm.name] = facts
        facts["branches"] = {job.arm.name: job.recipe.targets for job in jobs[:-1]}
        for number, job in enumerate(jobs):
            described[job.arm.name] = {
                **shared, "recipe": recipe_identity(job.recipe), "documents": chosen,
            }  # fmt: skip
            fingerprint = fingerprint_of(described[job.arm.name])
            start = job.recipe.targets - job.new_targets
            place = StageShare(len(pieces) + 1, count, before - start, total)
            before += job.new_targets
            earlier = tuple(work.run.final(j.arm.name) for j in jobs[:number])
            pieces.append(_piece(work, job, pool, targets, fingerprint, finished, earlier, place))
    if not pieces:
        name, why = next(iter(plan["left_out"].items()))
        fix = "add pruned and random to final.arms, or raise final.tokens"
        raise DataError(f"no arm is left to train: {name}: {why}", "final.arms", fix)
    work.inputs["final"] = described
    write_json(run.arms, {**plan, "order": [*plan["arms"]]})
    _tell(work, plan, pool)
    run_stage(work, "final", pieces)


@dataclass(frozen=True)
class BranchTraining:
    """One training: an arm ended somewhere, the step at which a longer one leaves it, and the
    targets that no shorter one has seen to."""

    arm: Arm
    recipe: Recipe
    stem: int
    new_targets: int


def _jobs(arm: Arm, config: Config, whole: Recipe) -> list[BranchTraining]:
    """The branches of an arm, shortest first, and the arm itself, each going on from the last."""
    ends = [(branch, *branch_of(whole, branch.at or 1.0)) for branch in branches_of(arm, config)]
    found, start = [], 0
    for end, recipe, stem in [*ends, (arm, whole, 0)]:
        new = recipe.targets - start * recipe.targets_per_step
        found.append(BranchTraining(end, recipe, stem, new))
        start = stem
    return found


def _piece(
    work: RunContext,
    job: BranchTraining,
    pool: ArmPool,
    targets: int,
    fingerprint: str,
    finished: dict[str, Path],
    earlier: tuple[Path, ...],
    place: StageShare,
) -> Artifact:
    arm, recipe = job.arm, job.recipe
    folder = work.run.final(arm.name)

    def build() -> dict[str, Any]:
        equal = finished.get(fingerprint)
        if equal is not None and equal != folder and is_done(equal, fingerprint):
            forget(folder)
            link_folder(equal, folder)
            same = (
                equal.name
                if equal.parents[1] == work.run.path
                else f"{equal.parents[1].name}/{equal.name}"
            )
            mark_done(folder, "final", fingerprint, same_as=same)
            found = training_summary(read_json(folder / "training.json"))
            return {**found, "same_as": same}
        documents = arm_documents(arm, pool, targets)
        settings = work.config.final
        made = train_on_documents(
            work,
            "final",
            settings,
            recipe,
            documents,
            folder,
            fingerprint,
            earlier=earlier,
            place=place,
            stem=job.stem or None,
        )
        finished.setdefault(fingerprint, folder)
        return training_summary(made)

    return Artifact(folder, fingerprint, build)


def _facts(
    arm: Arm, pool: ArmPool, lengths: np.ndarray, documents: np.ndarray, recipe: Recipe
) -> dict[str, Any]:
    """What an arm is: kind, slice, U, T, passes, D_eff, and how much of the slice it holds."""
    unique = int(lengths.sum())
    facts: dict[str, Any] = {
        "arm": arm.arm,
        "kind": arm.kind,
        "seed": arm.seed,
        "slice": arm.slice,
        "share": arm.share,
        "rung": arm.rung,
        "plain": arm.slice is None or _plain(pool.slices[arm.slice]),
        "documents": len(documents),
        "unique_tokens": unique,
        "targets": recipe.targets,
        "passes": recipe.targets / unique,
        "effective_tokens": round(effective_data(unique, recipe.targets)),
    }
    if arm.slice is not None and arm.kind != "pruned":
        kept = pool.kept[arm.slice]
        mine = np.isin(pool.documents, documents)
        facts["overlap"] = overlap(mine, kept)
        facts["overlap_by_chance"] = overlap_by_chance(
            mine, kept, domain_length_cells(pool.domain, pool.lengths)
        )
    return facts


def _plain(choice: Slice) -> bool:
    """Whether chance alone decides what is kept of permuted scores."""
    return not choice.bounded and choice.min_tokens == 1


def _tell(work: RunContext, plan: dict[str, Any], pool: ArmPool) -> None:
    for name, why in plan["left_out"].items():
        work.warn("final", f"arm {name} is left out: {why}")
    for facts in plan["arms"].values():
        if facts["passes"] > MANY_PASSES and facts["rung"] is None:
            share = facts["effective_tokens"] / facts["targets"]
            work.warn(
                "final",
                f"{facts['passes']:.1f} passes over {facts['arm']}: worth {share:.0%} of fresh "
                "data",
            )
            break
    for share in dict.fromkeys(choice.share for choice in pool.slices.values()):
        sizes = {
            label: int(pool.lengths[pool.kept[label]].sum())
            for label, choice in pool.slices.items()
            if choice.share == share
        }
        least = min(sizes, key=lambda label: sizes[label])
        larger = [label for label, size in sizes.items() if size > 1.05 * sizes[least]]
        if larger:
            names = ", ".join(larger[:4]) + (", ..." if len(larger) > 4 else "")
            most = max(sizes.values())
            work.warn(
                "final",
                f"slices of {share} % hold {sizes[least]:,} ({least}) to {most:,} tokens: so that "
                f"all arms have as many, those of {names} are random parts of theirs",
            )
