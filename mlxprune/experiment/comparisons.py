"""Comparisons: the arms of a study two by two, paired by seed, on the same test documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import numpy as np

from mlxprune.evaluation.target_text import open_target
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.data_efficiency import Rho
from mlxprune.experiment.records import ArmRecord, StudyArms, read_evaluation
from mlxprune.experiment.task_results import (
    ItemAnswers,
    accuracy_parts,
    clean_items,
    contaminated_rows,
    gold_bits_parts,
    only_items,
    read_answers,
    same_items,
)
from mlxprune.records import SparseRecord
from mlxprune.run.folder import RunFolder
from mlxprune.stats import (
    FAMILY_ERROR_RATE,
    GroupedMean,
    PairedDifference,
    Verdict,
    adjust_by_holm,
    compare_paired,
    equal_groups,
)
from mlxprune.units import LN2

# The kinds of arms that are compared, and what the first minus the second shows.
COMPARED = {
    ("pruned", "random"): "selection",
    ("matched", "random"): "mix alone",
    ("pruned", "matched"): "within domains",
    ("by-domain", "random"): "criterion, same mix",
    ("pruned", "by-domain"): "mix, given criterion",
    ("pruned", "zlib"): "reference over zlib",
    ("pruned", "unigram"): "reference over unigram",
    ("shuffled", "random"): "should be zero",
    ("pruned", "none"): "against no pruning",
    ("pruned", "all"): "against all text",
    ("pruned", "base"): "at this rung",
}
# Where the bits per byte of each primary figure are measured.
ON = {
    "macro": "on the held-out domains",
    "target": "on the target text",
    "tasks": "on the tasks' right answers",
}


@dataclass(frozen=True)
class Pair:
    arm: str
    control: str
    about: str
    main: bool  # pruned against random: what the verdict is on


class ComparedArms(SparseRecord):
    """An arm minus a control in the primary figure, over the seeds that both have; where the arms
    were asked tasks, in those too, item by item."""

    arm: str
    control: str
    seeds: list[int]
    difference: float
    interval: tuple[float, float]
    by_seed: list[float]
    probability: float | None
    verdict: Verdict
    adjusted_probability: float | None = None  # of the main ones, over all slices
    gold_bpb: PairedDifference | None = None
    accuracy: PairedDifference | None = None
    clean_gold_bpb: PairedDifference | None = None
    rho: Rho | None = None


class Comparison(ComparedArms, kw_only=True):
    about: str  # what it shows
    main: bool  # pruned against random


class MainVerdict(ComparedArms, kw_only=True):
    """The comparison that the study is for, in the figure that was named before training."""

    primary: str
    unit: str


def pairs_of(arms: StudyArms) -> Iterator[Pair]:
    """Every comparison that the trained arms allow, by the names of the arms."""
    first = arms.firsts()
    for (kind, control_kind), about in COMPARED.items():
        for name, record in first.items():
            if record.kind != kind:
                continue
            for control, other in first.items():
                if other.kind == control_kind and _belong(record, other):
                    main = (kind, control_kind) == ("pruned", "random")
                    plain = kind != "shuffled" or record.plain
                    yield Pair(name, control, about if plain else "bounds alone", main)


def _belong(arm: ArmRecord, control: ArmRecord) -> bool:
    if arm.rung != control.rung:
        return False
    if control.kind in ("none", "all", "base"):
        return True
    if control.slice is not None:
        return control.slice == arm.slice
    return control.share == arm.share


def compare_arms(held: RunArtifacts) -> list[Comparison]:
    """Every pair of arms with a common seed.

    The verdicts on several slices are Holm's (1979): their probabilities are adjusted together.
    """
    assessed = held.assessed_arms()
    if not assessed:
        return []
    measure = _measure(held, assessed)
    values = {
        arm: {seed: measure.of(name) for seed, name in seeds.items()}
        for arm, seeds in assessed.items()
    }
    comparisons = []
    for pair in pairs_of(held.arms):
        arm, control = values.get(pair.arm, {}), values.get(pair.control, {})
        seeds = sorted(arm.keys() & control.keys())
        if not seeds:
            continue
        both = [arm[s] for s in seeds], [control[s] for s in seeds]
        difference = compare_paired(*both, measure.parts, held.config.seed)
        comparisons.append(Comparison(**asdict(pair), seeds=seeds, **_fields(difference)))
    return _with_tasks(held, assessed, _adjusted(comparisons))


def _fields(difference: PairedDifference) -> Any:
    """The fields of a difference, for a record that has them beside its own."""
    return {name: getattr(difference, name) for name in difference.__dataclass_fields__}


@dataclass(frozen=True)
class Measure:
    """The primary figure: bits of every unit of an evaluation, and how they make a mean."""

    of: Callable[[str], np.ndarray]
    parts: GroupedMean


def _measure(held: RunArtifacts, assessed: dict[str, dict[int, str]]) -> Measure:
    run, primary = held.run, held.config.evaluation.primary
    if primary == "tasks":
        first = next(iter(next(iter(assessed.values())).values()))
        return Measure(
            lambda name: gold_bits_parts(_answers(run, name))[0],
            gold_bits_parts(_answers(run, first))[1],
        )
    if primary == "target":
        corpus, _, documents = open_target(run, held.config)
    else:
        corpus, documents = held.corpus, held.test_documents()

    def of(name: str) -> np.ndarray:
        evaluation = read_evaluation(run, name)
        text = evaluation.target if primary == "target" else evaluation
        assert text is not None
        nll: np.ndarray = np.load(run.evaluation(name).with_name(text.nll_file))
        return nll / LN2

    index = corpus.index[documents]
    return Measure(of, equal_groups(index["bytes"], index["domain"].astype(np.int64)))


def _answers(run: RunFolder, name: str) -> ItemAnswers:
    answers = read_answers(run, name)
    assert answers is not None
    return answers


def _adjusted(comparisons: list[Comparison]) -> list[Comparison]:
    """With the probabilities of the main ones adjusted, and what they then say."""
    family = [n for n, c in enumerate(comparisons) if c.main and c.probability is not None]
    adjusted = adjust_by_holm([comparisons[n].probability or 0.0 for n in family])
    result = list(comparisons)
    for n, probability in zip(family, adjusted, strict=True):
        undecided = probability >= FAMILY_ERROR_RATE
        verdict = Verdict.UNDECIDED if undecided else result[n].verdict
        result[n] = msgspec.structs.replace(
            result[n], adjusted_probability=probability, verdict=verdict
        )
    return result


def _with_tasks(
    held: RunArtifacts, assessed: dict[str, dict[int, str]], comparisons: list[Comparison]
) -> list[Comparison]:
    """The same pairs by the tasks' items: bits of the right answers, and the average accuracy."""
    if not held.config.evaluation.tasks:
        return comparisons
    seed, rows = held.config.seed, contaminated_rows(held.run)
    names = [name for seeds in assessed.values() for name in seeds.values()]
    answers = {name: read_answers(held.run, name) for name in names}
    result = []
    for compared in comparisons:
        pairs = [
            (answers[assessed[compared.arm][s]], answers[assessed[compared.control][s]])
            for s in compared.seeds
        ]
        both = [(a, c) for a, c in pairs if a and c and same_items(a, c)]
        if both:
            clean = None
            kept = None if rows is None else clean_items(both[0][0], rows)
            if kept is not None and kept.any() and not kept.all():
                some = [(only_items(a, kept), only_items(c, kept)) for a, c in both]
                clean = _by_items(some, gold_bits_parts, seed, True)
            compared = msgspec.structs.replace(
                compared,
                clean_gold_bpb=clean,
                gold_bpb=_by_items(both, gold_bits_parts, seed, True),
                accuracy=_by_items(both, accuracy_parts, seed, False),
            )
        result.append(compared)
    return result


def _by_items(
    both: list[tuple[ItemAnswers, ItemAnswers]],
    of: Callable[[ItemAnswers], tuple[np.ndarray, GroupedMean]],
    seed: int,
    lower: bool,
) -> PairedDifference:
    arm, control = ([of(answers)[0] for answers in side] for side in zip(*both, strict=True))
    return compare_paired(arm, control, of(both[0][0])[1], seed, lower)


def first_verdict(primary: str, comparisons: list[Comparison]) -> MainVerdict | None:
    """The verdict on the first slice that has one; None before it and its control exist."""
    chosen = next((c for c in comparisons if c.main), None)
    if chosen is None:
        return None
    kept = {name: getattr(chosen, name) for name in ComparedArms.__struct_fields__}
    unit = f"bits per byte {ON[primary]}, lower is better"
    return MainVerdict(primary=primary, unit=unit, **kept)


def verdict_sentence(comparisons: list[Comparison], primary: str) -> str:
    """What to do next, in one plain sentence."""
    main = [c for c in comparisons if c.main]
    if not main:
        return "Run it to the end to compare the slice with a random one of equal size."
    best = min(main, key=lambda c: (c.verdict != Verdict.BETTER, c.difference))
    change = abs(best.difference)
    side = "lower (better)" if best.difference < 0 else "higher (worse)"
    lead = f"of {len(main)} slices, the best against its control: " if len(main) > 1 else ""
    if len(main) > 1 and best.difference >= 0:
        lead = f"none of {len(main)} slices beat its control; the nearest: "
    seen = (
        f"{lead}{best.arm} ended {change:.4f} bits per byte {side} than {best.control} "
        f"{ON[primary]} (interval {best.interval[0]:+.4f} to "
        f"{best.interval[1]:+.4f})"
    )
    seen = seen[0].upper() + seen[1:] if lead else seen
    if len(best.seeds) == 1:
        return f"{seen}; with one seed that is no verdict: add seeds (final.seeds: [0, 1, 2])."
    if best.verdict == Verdict.BETTER:
        return f"{seen}: train your model on selection/{best.arm}."
    if best.verdict == Verdict.WORSE:
        return f"{seen}: try another criterion or rate, the scores are reused."
    return f"{seen}: undecided; more seeds or more targets would tell, or try another slice."
