"""What a study writes of itself: its arms, and what each of them came to on the test part."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mlxprune.checksums import read_sealed, write_sealed
from mlxprune.errors import DataError
from mlxprune.evaluation.bits_per_byte import ScoredText
from mlxprune.evaluation.task_metrics import SuiteResult
from mlxprune.records import Record, SparseRecord, read_record, record_of
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import is_current


class ArmRecord(SparseRecord):
    """One arm with one seed, as arms.json has it.

    ``unique_tokens`` is U, ``targets`` T; ``effective_tokens`` the fresh tokens that would teach as
    much. ``overlap`` is the share of its documents that its slice has, too, and what that would be
    by chance. ``branches``: the targets of its shorter ends, by name.
    """

    arm: str
    kind: str
    seed: int
    slice: str | None
    share: str | None
    rung: float | None
    plain: bool  # whether chance alone decides what its slice keeps of permuted scores
    documents: int
    unique_tokens: int
    targets: int
    passes: float
    effective_tokens: int
    branches: dict[str, int]
    overlap: float | None = None
    overlap_by_chance: float | None = None
    documents_sum: str | None = None  # a hash of their keys, as arms/<arm>.npy lists them
    screens: bool = False  # slices on the validation part, and is read nowhere else


class StudyArms(Record):
    """arms.json: every arm of a study, in the order of the configuration, and what is left out."""

    targets: int
    arms: dict[str, ArmRecord]
    left_out: dict[str, str]  # arm: why
    order: list[str]

    def firsts(self) -> dict[str, ArmRecord]:
        """Of the seeds of every arm the first."""
        records: dict[str, ArmRecord] = {}
        for record in self.arms.values():
            records.setdefault(record.arm, record)
        return records


NO_ARMS = StudyArms(targets=0, arms={}, left_out={}, order=[])


def read_arms(run: RunFolder) -> StudyArms:
    """arms.json of a run; without any arm before the stage ``final``. Raises DataError where it is
    damaged."""
    if not run.arms.exists():
        return NO_ARMS
    try:
        found = record_of(read_sealed(run.arms), StudyArms)
    except (OSError, ValueError) as error:
        fix = f"mlxprune run {run.config} --dir {run.path} writes them anew, and trains nothing"
        raise DataError(f"the arms cannot be read: {error}", str(run.arms), fix) from None
    arms = {name: found.arms[name] for name in found.order if name in found.arms}
    return msgspec.structs.replace(found, arms=arms)


def write_arms(run: RunFolder, arms: StudyArms) -> None:
    write_sealed(run.arms, arms)


class ArmEvaluation(ScoredText, kw_only=True):
    """eval/<arm>.json: one model on the test part, on the target text, and asked the tasks; on the
    validation part, where it is no shorter end of another."""

    deciles: list[float | None]  # bits per byte by tenth of the reference's scores, lowest first
    target: ScoredText | None = None
    validation: ScoredText | None = None
    tasks: SuiteResult | None = None


def read_evaluation(run: RunFolder, name: str) -> ArmEvaluation:
    return read_record(run.evaluation(name), ArmEvaluation)


class ContaminationRecord(Record):
    """eval/contamination.json: rows of the tasks' files that stand in documents, by task."""

    metric_version: int
    documents: int  # that were searched
    phrases: int  # runs of words that were too common to count
    common: dict[str, list[int]]  # rows that share only such
    arms: dict[str, dict[str, list[int]]]  # by model


class ScreenedSlice(Record):
    """A slice with the one seed of the screening: macro on the validation part, and that of its
    random control."""

    figure: float
    control: float

    @property
    def difference(self) -> float:
        return self.figure - self.control


class Screening(Record):
    """final/screening.json: all slices with one seed, and those that are confirmed with others."""

    seed: int
    slices: dict[str, ScreenedSlice]
    confirmed: list[str]  # the best first


def read_screening(run: RunFolder) -> Screening | None:
    """None where nothing is screened."""
    return read_record(run.screening, Screening) if is_current(run, run.screening) else None


class TestRead(Record):
    """One reading of the test part: the slices that were new, by what they keep. When it was is no
    part of it: a run that is stopped and resumed ends with the same bytes."""

    slices: dict[str, str]  # label: a hash of the documents


class TestReads(Record):
    """eval/test-reads.json: how often slices were held against the test part of this run."""

    reads: list[TestRead]

    @property
    def slices(self) -> list[str]:
        """Every slice that was ever read there."""
        return sorted({label for read in self.reads for label in read.slices})


def read_test_reads(run: RunFolder) -> TestReads:
    paths = _test_read_copies(run)
    for path in paths:
        try:
            return record_of(read_sealed(path), TestReads)
        except (OSError, ValueError):
            continue
    there = any(path.exists() for path in paths)  # and nobody knows: one reading at the least
    return TestReads(reads=[TestRead(slices={})] if there else [])


def _test_read_copies(run: RunFolder) -> list[Path]:
    """Two, since nothing else tells what it tells."""
    path = run.evaluation("test-reads")
    return [path, path.with_name(f".{path.name}")]


def note_test_read(run: RunFolder, slices: dict[str, str]) -> None:
    """Before the test part is read: ``slices`` by label and a hash of their documents. What was
    read before is no new reading."""
    before = read_test_reads(run)
    known = {item for read in before.reads for item in read.slices.items()}
    new = dict(sorted(set(slices.items()) - known))
    reads = TestReads(reads=[*before.reads, *([TestRead(slices=new)] if new else [])])
    for path in _test_read_copies(run):
        try:
            same = record_of(read_sealed(path), TestReads) == reads
        except (OSError, ValueError):
            same = False
        if reads.reads and not same:
            write_sealed(path, reads)
