"""What a study came to, as one record: report.json, and what ``run --json`` prints."""

from __future__ import annotations

import msgspec

from mlxprune.data.index import CorpusCounts
from mlxprune.experiment.comparisons import Comparison, MainVerdict
from mlxprune.experiment.conclusion import Conclusion
from mlxprune.experiment.costs import NetSaving, StudyCosts
from mlxprune.experiment.data_efficiency import BudgetPoint
from mlxprune.experiment.document_account import DocumentAccount
from mlxprune.experiment.records import ArmEvaluation, Screening
from mlxprune.experiment.task_results import TaskStanding
from mlxprune.experiment.trust import TrustFacts
from mlxprune.records import Record, SparseRecord
from mlxprune.run.event_kinds import RunStatus, StageStatus
from mlxprune.selection.manifest import SliceManifest
from mlxprune.training.summary import TrainingTotals

RESULT_VERSION = 2  # of report.json; 1 had no conclusion, costs, saving or trust


class StageResult(Record):
    """``seconds``: of its last attempt; ``spent``: of all."""

    state: StageStatus
    seconds: float | None
    spent: float = 0.0


class SelectionTotals(Record):
    """What the first slice keeps of the pool. Tokens are those of the final model's tokenizer."""

    kept_documents: int
    kept_tokens: int | None
    pool_documents: int
    pool_tokens: int | None


class SeedResult(TrainingTotals, kw_only=True, omit_defaults=True):
    """An arm with one seed: what it was trained on, and what it came to."""

    effective_tokens: int
    overlap: float | None = None  # as in arms.json, and the next
    overlap_by_chance: float | None = None
    same_as: str | None = None  # the name of an equal training, whose model this is
    marks: list[str] = msgspec.field(default_factory=list)  # went back, or diverged: in words
    test: ArmEvaluation | None = None  # without the tasks


class ArmResult(TrainingTotals, kw_only=True, omit_defaults=True):
    """An arm: the training of its first seed, and figures as means over its seeds."""

    kind: str
    slice: str | None
    rung: float | None
    effective_tokens: int
    seeds: dict[str, SeedResult]
    test_macro: float | None
    test_original_mix: float | None
    test_target: float | None
    overlap: float | None = None
    overlap_by_chance: float | None = None

    @property
    def marks(self) -> list[str]:
        """What a reader of its figures must know of the trainings of its seeds."""
        return [f"seed {seed}: {mark}" for seed, one in self.seeds.items() for mark in one.marks]

    @property
    def tests(self) -> list[ArmEvaluation]:
        """The evaluations of the seeds that have one."""
        return [seed.test for seed in self.seeds.values() if seed.test is not None]


class StudyResult(SparseRecord):
    """The object that ``run --json`` prints and report.json holds: whatever of it exists so far."""

    run: str
    state: RunStatus
    stages: dict[str, StageResult]
    arms: dict[str, ArmResult]
    left_out: dict[str, str]  # arm: why
    comparisons: list[Comparison]
    budgets: dict[str, list[BudgetPoint]]  # by arm, of those that end early, too
    tasks: TaskStanding | None
    verdict: MainVerdict | None
    schema_version: int = RESULT_VERSION
    conclusion: Conclusion | None = None
    saving: NetSaving | None = None  # of the slice that the verdict is on
    costs: StudyCosts | None = None
    trust: TrustFacts | None = None
    screening: Screening | None = None
    corpus: CorpusCounts | None = None
    account: DocumentAccount | None = None  # what became of every row
    selection: SelectionTotals | None = None
    slices: dict[str, SliceManifest] | None = None
