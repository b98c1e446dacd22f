"""Comparisons: the arms of a study two by two, paired by seed, on the same test documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import numpy as np

from mlxprune.data.held_out import LEAST_DOCUMENTS
from mlxprune.evaluation.bits_per_byte import LEAST_OF_TARGET, SMALL_DOMAINS, macro_domains
from mlxprune.evaluation.target_text import open_target
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.data_efficiency import ArmEnds, Rho, ends_of, rho_of
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
from mlxprune.inference.power import seeds_needed, smallest_difference
from mlxprune.inference.verdict import (
    ArmPair,
    PairedDifference,
    Verdict,
    compare_paired,
    standard_error,
)
from mlxprune.records import SparseRecord
from mlxprune.run.folder import RunFolder
from mlxprune.stats import GroupedMean
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


class DomainShare(SparseRecord):
    """What a domain adds to a difference of two arms in macro, which is the sum of these."""

    domain: str
    documents: int
    arm: float  # bits per byte, as the next
    control: float
    adds: float


class ComparedArms(SparseRecord):
    """An arm minus a control in the primary figure, over the seeds that both have; where the arms
    were asked tasks, in those too, item by item."""

    arm: str
    control: str
    seeds: list[int]
    difference: float
    interval: tuple[float, float]
    by_seed: list[float]
    probability: float | None  # of the main ones, over all slices
    verdict: Verdict
    seed_sd: float | None
    pooled: int
    document_sd: float
    document_degrees: float
    degrees: float
    standard_errors: float
    control_figure: float  # the control's mean
    on_validation: float | None = None  # the difference there, by which slices are ranked
    smallest: float | None = None  # the difference that would be decided four times out of five
    seeds_needed: int | None = None  # to decide the difference that was seen; None: no number is
    domains: list[DomainShare] | None = None
    gold_bpb: PairedDifference | None = None
    accuracy: PairedDifference | None = None
    clean_gold_bpb: PairedDifference | None = None
    rho: Rho | None = None
    rho_accuracy: Rho | None = None

    @property
    def standard_error(self) -> float:
        """Of the mean difference."""
        return standard_error(self)


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
                    main = (kind, control_kind) == ("pruned", "random") and record.rung is None
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
    """Every pair of arms with a common seed. Slices against random are decided together."""
    assessed = held.assessed_arms()
    if not assessed:
        return []
    measure = primary_measure(held, assessed)
    values = {
        arm: {seed: measure.of(name) for seed, name in seeds.items()}
        for arm, seeds in assessed.items()
    }
    found: list[tuple[Pair, ArmPair]] = []
    first = held.arms.firsts()
    for pair in pairs_of(held.arms):
        arm, control = values.get(pair.arm, {}), values.get(pair.control, {})
        seeds = sorted(arm.keys() & control.keys())
        if seeds:
            both = _arm_pair(pair, first, arm, control, seeds)
            if np.isfinite(both.arm).all() and np.isfinite(both.control).all():
                found.append((pair, both))
    decided = compare_paired([both for _, both in found], measure.parts, held.config.seed)
    validation = _validation_figures(held, assessed)
    slices = sum(pair.main for pair, _ in found)
    comparisons = []
    for (pair, both), difference in zip(found, decided, strict=True):
        ranked = [
            validation[assessed[pair.arm][s]] - validation[assessed[pair.control][s]]
            for s in both.seeds
            if assessed[pair.arm][s] in validation and assessed[pair.control][s] in validation
        ]
        comparisons.append(
            Comparison(
                **asdict(pair),
                seeds=both.seeds,
                **_fields(difference),
                control_figure=float(np.mean([measure.parts.mean(v) for v in both.control])),
                on_validation=float(np.mean(ranked)) if ranked else None,
                smallest=smallest_difference(difference),
                seeds_needed=seeds_needed(difference, slices if pair.main else 1),
                domains=measure.domains(both),
            )
        )
    found_rho = [_with_rho(held, compared, measure) for compared in comparisons]
    return _with_tasks(held, assessed, found_rho)


def _with_rho(held: RunArtifacts, compared: Comparison, measure: Measure) -> Comparison:
    """With the share of targets at which the arm is as good as its control, if it has branches."""
    rho = _rho_in(held, compared, compared, measure.of, measure.parts)
    return compared if rho is None else msgspec.structs.replace(compared, rho=rho)


def _rho_in(
    held: RunArtifacts,
    compared: Comparison,
    difference: ComparedArms | PairedDifference,
    of: Callable[[str], np.ndarray],
    parts: GroupedMean,
    lower: bool = True,
) -> Rho | None:
    ends = ends_of(held.run, held.arms, compared.arm, compared.seeds)
    control = ends_of(held.run, held.arms, compared.control, compared.seeds)
    if len(ends) < 2 or not control or max(ends) != max(control):
        return None
    values = [[of(name) for name in names] for names in ends.values()]
    last = [of(name) for name in control[max(control)]]
    arm_ends = ArmEnds(np.array(list(ends), np.float64), values, last)
    return rho_of(arm_ends, parts, difference, held.config.seed, lower)


def _arm_pair(
    pair: Pair,
    first: dict[str, ArmRecord],
    arm: dict[int, np.ndarray],
    control: dict[int, np.ndarray],
    seeds: list[int],
) -> ArmPair:
    return ArmPair(
        [arm[s] for s in seeds],
        [control[s] for s in seeds],
        seeds,
        f"{first[pair.arm].kind} - {first[pair.control].kind}",
        pair.control,
        pair.main,
    )


def _validation_figures(
    held: RunArtifacts, assessed: dict[str, dict[int, str]]
) -> dict[str, float]:
    """Macro on the validation part, of the models that were measured there."""
    names = [name for seeds in assessed.values() for name in seeds.values()]
    told = {name: read_evaluation(held.run, name).validation for name in names}
    return {name: text.macro for name, text in told.items() if text is not None}


def _fields(difference: PairedDifference) -> Any:
    """The fields of a difference, for a record that has them beside its own."""
    return {name: getattr(difference, name) for name in difference.__dataclass_fields__}


@dataclass(frozen=True)
class Measure:
    """The primary figure: bits of every unit of an evaluation, and how they make a mean; the name
    of each group of units."""

    of: Callable[[str], np.ndarray]
    parts: GroupedMean
    names: list[str]

    def domains(self, both: ArmPair) -> list[DomainShare]:
        """What each group adds to the difference of two arms."""
        parts, count = self.parts, len(self.parts.weights)
        size = np.bincount(parts.groups, weights=parts.sizes, minlength=count)
        units = np.bincount(parts.groups, minlength=count)
        arm, control = (
            np.bincount(parts.groups, weights=np.mean(side, axis=0), minlength=count)
            / np.maximum(size, 1)
            for side in (both.arm, both.control)
        )
        return [
            DomainShare(
                domain=name,
                documents=int(units[n]),
                arm=float(arm[n]),
                control=float(control[n]),
                adds=float(parts.weights[n] * (arm[n] - control[n])),
            )
            for n, name in enumerate(self.names)
            if units[n]
        ]


def primary_measure(held: RunArtifacts, assessed: dict[str, dict[int, str]]) -> Measure:
    run, primary = held.run, held.config.evaluation.primary
    if primary == "tasks":
        first = _answers(run, next(iter(next(iter(assessed.values())).values())))
        return Measure(
            lambda name: gold_bits_parts(_answers(run, name))[0],
            gold_bits_parts(first)[1],
            first.labels,
        )
    if primary == "target":
        corpus, _, documents = open_target(run, held.config)
        least = LEAST_OF_TARGET
    else:
        corpus, documents, least = held.corpus, held.test_documents(), LEAST_DOCUMENTS
    index = corpus.index[documents]
    domains = macro_domains(index["domain"].astype(np.int64), corpus.domains, least)
    inside, parts = domains.mean_of(index["bytes"])

    def of(name: str) -> np.ndarray:
        evaluation = read_evaluation(run, name)
        text = evaluation.target if primary == "target" else evaluation
        assert text is not None
        nll: np.ndarray = np.load(run.evaluation(name).with_name(text.nll_file))
        return nll[inside] / LN2

    return Measure(of, parts, [*domains.alone, *([SMALL_DOMAINS] if domains.pooled else [])])


def _answers(run: RunFolder, name: str) -> ItemAnswers:
    answers = read_answers(run, name)
    assert answers is not None
    return answers


def _with_tasks(
    held: RunArtifacts, assessed: dict[str, dict[int, str]], comparisons: list[Comparison]
) -> list[Comparison]:
    """The same pairs by the tasks' items: bits of the right answers, and the average accuracy."""
    if not held.config.evaluation.tasks:
        return comparisons
    rows = contaminated_rows(held.run)
    names = [name for seeds in assessed.values() for name in seeds.values()]
    answers = {name: read_answers(held.run, name) for name in names}
    both: dict[int, list[tuple[ItemAnswers, ItemAnswers]]] = {}
    for number, compared in enumerate(comparisons):
        pairs = [
            (answers[assessed[compared.arm][s]], answers[assessed[compared.control][s]])
            for s in compared.seeds
        ]
        same = [(a, c) for a, c in pairs if a and c and same_items(a, c)]
        if len(same) == len(pairs):
            both[number] = same
    if not both:
        return comparisons
    first = next(iter(both.values()))[0][0]
    kept = None if rows is None else clean_items(first, rows)
    found: dict[str, dict[int, PairedDifference]] = {
        "gold_bpb": _by_items(held, comparisons, both, gold_bits_parts, True),
        "accuracy": _by_items(held, comparisons, both, accuracy_parts, False),
    }
    if kept is not None and kept.any() and not kept.all():
        some = {
            number: [(only_items(a, kept), only_items(c, kept)) for a, c in pairs]
            for number, pairs in both.items()
        }
        found["clean_gold_bpb"] = _by_items(held, comparisons, some, gold_bits_parts, True)
    result = []
    for number, compared in enumerate(comparisons):
        more: dict[str, Any] = {n: told[number] for n, told in found.items() if number in told}
        if "accuracy" in more:
            more["rho_accuracy"] = _rho_in(
                held,
                compared,
                more["accuracy"],
                lambda name: accuracy_parts(_answers(held.run, name))[0],
                accuracy_parts(first)[1],
                False,
            )
        result.append(msgspec.structs.replace(compared, **more))
    return result


def _by_items(
    held: RunArtifacts,
    comparisons: list[Comparison],
    both: dict[int, list[tuple[ItemAnswers, ItemAnswers]]],
    of: Callable[[ItemAnswers], tuple[np.ndarray, GroupedMean]],
    lower: bool,
) -> dict[int, PairedDifference]:
    """By the number of the comparison; those whose first items are asked in one order."""
    first, pairs, numbers = held.arms.firsts(), [], []
    usual = next(iter(both.values()))[0][0]
    for number, answers in both.items():
        compared = comparisons[number]
        if not same_items(usual, answers[0][0]):
            continue
        arm, control = (
            {s: of(a)[0] for s, a in zip(compared.seeds, side, strict=True)}
            for side in zip(*answers, strict=True)
        )
        pair = Pair(compared.arm, compared.control, compared.about, compared.main)
        pairs.append(_arm_pair(pair, first, arm, control, compared.seeds))
        numbers.append(number)
    decided = compare_paired(pairs, of(usual)[1], held.config.seed, lower)
    return dict(zip(numbers, decided, strict=True))


def best_slice(comparisons: list[Comparison]) -> Comparison | None:
    """Of the slices against random, the one that is ranked first: on the validation part, where it
    was read."""
    main = [c for c in comparisons if c.main]
    if not main:
        return None
    if all(c.on_validation is not None for c in main):
        return min(main, key=lambda c: c.on_validation or 0.0)
    return min(main, key=lambda c: (c.verdict != Verdict.BETTER, c.difference))


def mix_alone(comparisons: list[Comparison], of: Comparison) -> Comparison | None:
    """The slice's matched arm, the same mix drawn blind, against the same control."""
    matched = f"matched.{of.arm}"
    found = (c for c in comparisons if c.arm == matched and c.control == of.control)
    return next(found, None)


def first_verdict(primary: str, comparisons: list[Comparison]) -> MainVerdict | None:
    """The verdict on the best slice; None before it and its control exist."""
    chosen = best_slice(comparisons)
    if chosen is None:
        return None
    kept = {name: getattr(chosen, name) for name in ComparedArms.__struct_fields__}
    unit = f"bits per byte {ON[primary]}, lower is better"
    return MainVerdict(primary=primary, unit=unit, **kept)
