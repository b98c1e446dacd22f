"""Finals: the stages that train a final model for every arm and seed, and that evaluate them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import accounting, arms, runs, selection, split, study, train
from mlxprune import model as models
from mlxprune.arms import Arm, Pool
from mlxprune.config import Config
from mlxprune.errors import DataError
from mlxprune.meter import Place
from mlxprune.scores import Scores
from mlxprune.slices import Slice
from mlxprune.work import Piece, Work, run_stage

MANY_PASSES = 4


def open_pool(work: Work) -> Pool:
    """The pool and its slices, as arms draw from them."""
    run, config = work.run, work.config
    documents = study.pool_documents(run, config)
    names, tokens = study.open_corpus(run, config), study.open_tokens(run)
    spare = split.open_split(run.split).members(split.REFERENCE)
    spare = study.without_cleaned(run, config, spare)
    index = names.index[documents]
    read: dict[str, Scores] = {}  # the last, since arms of one slice ask in a row

    def scores_of(choice: Slice) -> Scores:
        what = repr((choice.reference, choice.metric))
        if what not in read:
            read.clear()
            read[what] = study.slice_scores(run, config, choice)
        return read[what]

    return Pool(
        documents,
        np.array(index["key"]),
        index["domain"].astype(np.int64),
        tokens.lengths(documents) + 1,
        spare[tokens.lengths(spare) > 0],
        {c.label: np.load(run.selection(c.label) / "kept.npy") for c in config.slices},
        {c.label: c for c in config.slices},
        scores_of,
        config.seed,
    )


def train_arms(work: Work) -> None:
    """The stage ``final``: what every arm is goes to arms.json; equal arms are trained once."""
    config, run = work.config, work.run
    tokens, pool = study.open_tokens(run), open_pool(work)
    keys = study.open_corpus(run, config).index["key"]
    shape = models.shape_of(config.final.model)
    vocabulary = (tokens.vocab_size, tokens.prefix, tokens.end)
    first = config.slices[0]
    targets = arms.final_targets(
        config, shape, tokens.vocab_size, int(pool.lengths[pool.kept[first.label]].sum())
    )
    shared = {
        "version": [train.VERSION, models.VERSION],
        "tokens": work.fingerprint("tokens"),
        "primary": config.evaluation.primary,
    }
    plan: dict[str, Any] = {"targets": targets, "arms": {}, "left_out": {}}
    described: dict[str, Any] = {}
    pieces: list[Piece] = []
    forced = "final" in work.forced
    finished = {} if forced else runs.finished_under(run.path.parent, "final")
    asked = [(arm, arms.left_out(arm, pool, targets)) for arm in arms.arms_of(config)]
    plan["left_out"] = {arm.arm: why for arm, why in asked if why is not None}
    wanted = [arm for arm, why in asked if why is None]
    jobs_of = {
        arm.name: _jobs(
            arm, config, arms.recipe_of(config.final, shape, vocabulary, targets, arm.seed)
        )
        for arm in wanted
    }
    count, before = sum(map(len, jobs_of.values())), 0
    total = sum(job.new_targets for jobs in jobs_of.values() for job in jobs)
    for arm in wanted:
        documents = arms.documents_of(arm, pool, targets)
        jobs = jobs_of[arm.name]
        whole = jobs[-1].recipe
        chosen = arms.identity_of(documents, keys)
        facts = _facts(arm, pool, tokens.lengths(documents) + 1, documents, whole)
        plan["arms"][arm.name] = facts
        facts["branches"] = {job.arm.name: job.recipe.targets for job in jobs[:-1]}
        for number, job in enumerate(jobs):
            described[job.arm.name] = {
                **shared, "recipe": train.identity(job.recipe), "documents": chosen,
            }  # fmt: skip
            fingerprint = runs.fingerprint(described[job.arm.name])
            start = job.recipe.targets - job.new_targets
            place = Place(len(pieces) + 1, count, before - start, total)
            before += job.new_targets
            earlier = tuple(work.run.final(j.arm.name) for j in jobs[:number])
            pieces.append(_piece(work, job, pool, targets, fingerprint, finished, earlier, place))
    if not pieces:
        name, why = next(iter(plan["left_out"].items()))
        fix = "add pruned and random to final.arms, or raise final.tokens"
        raise DataError(f"no arm is left to train: {name}: {why}", "final.arms", fix)
    work.inputs["final"] = described
    runs.write_json(run.arms, {**plan, "order": [*plan["arms"]]})
    _tell(work, plan, pool)
    run_stage(work, "final", pieces)


@dataclass(frozen=True)
class Job:
    """One training: an arm ended somewhere, the step at which a longer one leaves it, and the
    targets that no shorter one has seen to."""

    arm: Arm
    recipe: train.Recipe
    stem: int
    new_targets: int


def _jobs(arm: Arm, config: Config, whole: train.Recipe) -> list[Job]:
    """The branches of an arm, shortest first, and the arm itself, each going on from the last."""
    ends = [
        (branch, *train.branch_of(whole, branch.at or 1.0))
        for branch in arms.branches_of(arm, config)
    ]
    found, start = [], 0
    for end, recipe, stem in [*ends, (arm, whole, 0)]:
        new = recipe.targets - start * recipe.targets_per_step
        found.append(Job(end, recipe, stem, new))
        start = stem
    return found


def _piece(
    work: Work,
    job: Job,
    pool: Pool,
    targets: int,
    fingerprint: str,
    finished: dict[str, Path],
    earlier: tuple[Path, ...],
    place: Place,
) -> Piece:
    arm, recipe = job.arm, job.recipe
    folder = work.run.final(arm.name)

    def build() -> dict[str, Any]:
        equal = finished.get(fingerprint)
        if equal is not None and equal != folder and runs.is_done(equal, fingerprint):
            runs.forget(folder)
            runs.link_folder(equal, folder)
            same = (
                equal.name
                if equal.parents[1] == work.run.path
                else f"{equal.parents[1].name}/{equal.name}"
            )
            runs.mark(folder, "final", fingerprint, same_as=same)
            found = arms.summary_of(runs.read_json(folder / "training.json"))
            return {**found, "same_as": same}
        documents = arms.documents_of(arm, pool, targets)
        settings = work.config.final
        made = study.train_model(
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
        return arms.summary_of(made)

    return Piece(folder, fingerprint, build)


def _facts(
    arm: Arm, pool: Pool, lengths: np.ndarray, documents: np.ndarray, recipe: train.Recipe
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
        "effective_tokens": round(arms.effective_data(unique, recipe.targets)),
    }
    if arm.slice is not None and arm.kind != "pruned":
        kept = pool.kept[arm.slice]
        mine = np.isin(pool.documents, documents)
        facts["overlap"] = accounting.overlap(mine, kept)
        facts["overlap_by_chance"] = accounting.overlap_by_chance(
            mine, kept, selection.cells(pool.domain, pool.lengths)
        )
    return facts


def _plain(choice: Slice) -> bool:
    """Whether chance alone decides what is kept of permuted scores."""
    return not choice.bounded and choice.min_tokens == 1


def _tell(work: Work, plan: dict[str, Any], pool: Pool) -> None:
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
