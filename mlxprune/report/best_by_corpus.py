"""Best by corpus: which slice each of several corpora ranks first, and whether that flips.

The paper finds that the best criterion is another one on the Pile and on Dolma. To say so, two
differences must hold: on one corpus its best slice beats the other's best, and on the other the
reverse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from mlxprune.errors import one_line
from mlxprune.experiment.comparisons import Comparison, best_slice
from mlxprune.experiment.study_result import StudyResult
from mlxprune.inference.replicates import student_quantile
from mlxprune.inference.verdict import Verdict
from mlxprune.records import Record, SparseRecord

TOO_LITTLE = ", too few test documents or seeds for a verdict"
MOST_DEGREES = 10_000  # from there on Student's t is the normal distribution


class SliceAgainstSlice(Record):
    """On one corpus: its best slice minus the one that the other corpus ranks first."""

    run: str
    best: str
    other: str
    difference: float
    interval: tuple[float, float]  # 95 %
    enough: bool  # test documents, and seeds, for a verdict

    @property
    def decided(self) -> bool:
        return self.enough and self.interval[1] < 0


class CorpusFlip(SparseRecord):
    """Two corpora whose best slices differ. ``together``: the sum of both differences, with its 95
    % interval: how far the order of the two slices turns from one corpus to the other.

    ``decided``: both differences hold, which happens by chance in at most 5 % of such pairs
    (intersection-union). ``turns``: each corpus' best slice is the better one there, and their sum
    is sure: how the two compare changes, which one is better on each corpus is not sure.
    """

    each: list[SliceAgainstSlice]
    together: float
    interval: tuple[float, float]
    decided: bool
    turns: bool


class BestByCorpus(Record):
    """``best``: the slice that every run ranks first; ``sentences`` say what that amounts to."""

    best: dict[str, str]
    flips: list[CorpusFlip]
    sentences: list[str]


@dataclass(frozen=True)
class CorpusStudy:
    """A run over a corpus of its own."""

    name: str
    result: StudyResult


def best_by_corpus(studies: list[CorpusStudy]) -> BestByCorpus:
    """Of runs over different corpora; each has a comparison of slices with random."""
    best = {study.name: _best(study).arm for study in studies}
    flips, sentences = [], []
    for number, first in enumerate(studies):
        for second in studies[number + 1 :]:
            said, flip = _hold(first, second, best)
            sentences.append(said)
            if flip is not None:
                flips.append(flip)
    return BestByCorpus(best=best, flips=flips, sentences=sentences)


def _best(study: CorpusStudy) -> Comparison:
    found = best_slice(study.result.comparisons)
    assert found is not None
    return found


def _hold(
    first: CorpusStudy, second: CorpusStudy, best: dict[str, str]
) -> tuple[str, CorpusFlip | None]:
    """What is said of two corpora, and the flip where their best slices differ."""
    one, other = best[first.name], best[second.name]
    names = f"{one_line(first.name)} and {one_line(second.name)}"
    if one == other:
        return f"{names} both rank {one} first: the best criterion does not flip.", None
    pairs = [_against(first, one, other), _against(second, other, one)]
    known = [pair for pair in pairs if pair is not None]
    if len(known) < 2:
        return (
            f"{names} rank {one} and {other} first; whether that is chance is not known: both runs "
            "need both slices at one share of the text, and a report of this version (mlxprune "
            "report RUN).",
            None,
        )
    each = [
        SliceAgainstSlice(
            run=study.name, best=best[study.name], other=unlike,
            difference=found.difference, interval=found.interval,
            enough=found.verdict not in (Verdict.TOO_FEW, Verdict.ONE_SEED),
        )
        for study, unlike, found in zip((first, second), (other, one), known, strict=True)
    ]  # fmt: skip
    flip = _flip(each, known)
    told = "; ".join(
        f"on {one_line(e.run)} {e.best} is {abs(e.difference):.4f} bits per byte "
        f"{'better' if e.difference < 0 else 'worse'} than {e.other} "
        f"({e.interval[0]:+.4f} to {e.interval[1]:+.4f}{'' if e.enough else TOO_LITTLE})"
        for e in each
    )
    return f"{_word(flip)}: {told}.", flip


def _word(flip: CorpusFlip) -> str:
    if flip.decided:
        return "The best criterion flips"
    if flip.turns:
        return "The order of the two slices turns, though not on each corpus for sure"
    ahead = [e.best for e in flip.each if e.difference < 0]
    if len(ahead) == 1:  # what is ranked first on a validation part need not be on the test part
        return f"No flip is seen: on the test parts {ahead[0]} is the better one of the two on both"
    return "Not decided whether the best criterion flips"


def _flip(each: list[SliceAgainstSlice], known: list[Comparison]) -> CorpusFlip:
    """Two studies are independent: their variances add up."""
    errors = [found.standard_error for found in known]
    error = math.hypot(*errors)
    spread = sum(e**4 / max(f.degrees, 1.0) for e, f in zip(errors, known, strict=True))
    degrees = MOST_DEGREES if not spread else min(MOST_DEGREES, max(1, int(error**4 / spread)))
    together = sum(e.difference for e in each)
    half = student_quantile(degrees) * error
    interval = (together - half, together + half)
    enough = all(e.enough for e in each)
    return CorpusFlip(
        each=each,
        together=together,
        interval=interval,
        decided=all(e.decided for e in each),
        turns=enough and interval[1] < 0 and all(e.difference < 0 for e in each),
    )


def _against(study: CorpusStudy, slice_name: str, other: str) -> Comparison | None:
    """The slice minus the other, whichever way round the run compared them."""
    for row in study.result.comparisons:
        if (row.arm, row.control) == (slice_name, other):
            return row
        if (row.arm, row.control) == (other, slice_name):
            low, high = row.interval
            return msgspec.structs.replace(
                row, arm=slice_name, control=other, difference=-row.difference,
                interval=(-high, -low), by_seed=[-value for value in row.by_seed],
            )  # fmt: skip
    return None
