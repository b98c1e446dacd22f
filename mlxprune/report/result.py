"""Result: what a run did and found so far, gathered from its folder."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from mlxprune.data.index import CorpusCounts
from mlxprune.evaluation.bits_per_byte import BITS_METRIC_VERSION, bits_by_domain
from mlxprune.experiment.arms import arms_of
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.comparisons import best_slice, compare_arms, first_verdict
from mlxprune.experiment.conclusion import conclude
from mlxprune.experiment.costs import net_saving, study_costs
from mlxprune.experiment.data_efficiency import budget_points
from mlxprune.experiment.document_account import document_account
from mlxprune.experiment.records import ArmEvaluation, ArmRecord, read_evaluation, read_screening
from mlxprune.experiment.study_result import (
    ArmResult,
    SeedResult,
    SelectionTotals,
    StageResult,
    StudyResult,
)
from mlxprune.experiment.task_results import task_standing
from mlxprune.experiment.trust import trust_facts
from mlxprune.records import read_record
from mlxprune.run.event_kinds import RunStatus
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import is_current, read_marker
from mlxprune.run.state import RunState, StageState
from mlxprune.selection.manifest import SliceManifest
from mlxprune.training.summary import TrainingSummary


def study_result(
    held: RunArtifacts,
    run_state: RunState,
    state: RunStatus | None = None,
    place: str | None = None,
) -> StudyResult:
    """What the run has found so far; ``state`` where it is about to have another, ``place`` what
    commands call its folder."""
    run, config = held.run, held.config
    study_arms = held.arms
    arms = _arms(held, study_arms.arms)
    budgets = budget_points(run, config.evaluation.primary, study_arms)
    comparisons = compare_arms(held)
    manifests = slice_manifests(held)
    counts = _corpus_counts(run)
    costs = study_costs(held, run_state)
    best = best_slice(comparisons)
    saving = None if best is None or costs is None else net_saving(best, costs, study_arms.targets)
    primary, screening = config.evaluation.primary, read_screening(run)
    trust = None if best is None else trust_facts(held, best, manifests)
    place = place or str(run.path)
    return StudyResult(
        run=place,
        state=state or run_state.state,
        stages={name: _of_stage(stage) for name, stage in run_state.stages.items()},
        arms=arms,
        left_out=study_arms.left_out if arms else {},
        comparisons=comparisons,
        budgets=budgets,
        tasks=task_standing(run, held.assessed_arms()),
        verdict=first_verdict(primary, comparisons),
        conclusion=conclude(place, primary, comparisons, manifests, saving, screening, trust),
        screening=screening,
        saving=saving,
        costs=costs,
        trust=trust,
        corpus=counts,
        account=None if counts is None else document_account(held, counts),
        selection=_selection(manifests),
        slices=manifests or None,
    )


def slice_manifests(held: RunArtifacts) -> dict[str, SliceManifest]:
    """Of every slice that is taken, by its label."""
    return {
        choice.label: held.manifest(choice)
        for choice in held.config.slices
        if is_current(held.run, held.run.selection(choice.label))
    }


def _of_stage(stage: StageState) -> StageResult:
    return StageResult(state=stage.state, seconds=stage.seconds, spent=float(stage.spent))


def _corpus_counts(run: RunFolder) -> CorpusCounts | None:
    if not is_current(run, run.corpus):
        return None
    return read_record(run.corpus / "summary.json", CorpusCounts)


def _selection(manifests: dict[str, SliceManifest]) -> SelectionTotals | None:
    for first in manifests.values():
        return SelectionTotals(
            kept_documents=first.kept_documents,
            kept_tokens=first.kept_tokens,
            pool_documents=first.pool_documents,
            pool_tokens=first.pool_tokens,
        )
    return None


def _arms(held: RunArtifacts, records: dict[str, ArmRecord]) -> dict[str, ArmResult]:
    """Every arm that is trained, with the seeds that are."""
    run = held.run
    seeds: dict[str, dict[str, SeedResult]] = {}
    first: dict[str, ArmRecord] = {}
    for name in (arm.name for arm in arms_of(held.config)):
        if name in records and not records[name].screens and is_current(run, run.final(name)):
            record = records[name]
            first.setdefault(record.arm, record)
            seeds.setdefault(record.arm, {})[str(record.seed)] = _of_seed(held, name, record)
    return {arm: _of_arm(record, seeds[arm]) for arm, record in first.items()}


def _refigured(held: RunArtifacts, name: str) -> ArmEvaluation:
    """With the figures of this version, from the stored losses."""
    run, told = held.run, read_evaluation(held.run, name)
    if told.metric_version == BITS_METRIC_VERSION:
        return told
    index = held.corpus.index[held.test_documents()]
    losses = np.load(run.evaluation(name).with_name(told.nll_file))
    figures = bits_by_domain(
        losses, index["bytes"], index["domain"], held.corpus.domains, held.pool_mix
    )
    return msgspec.structs.replace(told, **msgspec.structs.asdict(figures))


def _of_seed(held: RunArtifacts, name: str, record: ArmRecord) -> SeedResult:
    run = held.run
    training = read_record(run.final(name) / "training.json", TrainingSummary)
    marker = read_marker(run.final(name))
    test = None
    if is_current(run, run.evaluation(name)):
        test = msgspec.structs.replace(_refigured(held, name), tasks=None)
    return SeedResult(
        **msgspec.structs.asdict(training.totals),
        effective_tokens=record.effective_tokens,
        overlap=record.overlap,
        overlap_by_chance=record.overlap_by_chance,
        same_as=None if marker is None else marker.same_as,
        marks=training.marks,
        test=test,
    )


def _of_arm(record: ArmRecord, by_seed: dict[str, SeedResult]) -> ArmResult:
    seeds = list(by_seed.values())
    first, tests = seeds[0], [seed.test for seed in seeds if seed.test is not None]
    return ArmResult(
        tokens=first.tokens,
        unique_tokens=first.unique_tokens,
        documents=first.documents,
        passes=first.passes,
        validation_bpb=_mean(s.validation_bpb for s in seeds if s.validation_bpb),
        kind=record.kind,
        slice=record.slice,
        rung=record.rung,
        effective_tokens=record.effective_tokens,
        seeds=by_seed,
        test_macro=_mean(test.macro for test in tests),
        test_original_mix=_mean(test.original_mix for test in tests),
        test_target=_mean(test.target.macro for test in tests if test.target is not None),
        overlap=_mean(seed.overlap for seed in seeds),
        overlap_by_chance=_mean(seed.overlap_by_chance for seed in seeds),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
