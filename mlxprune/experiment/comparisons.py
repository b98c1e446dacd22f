"""Comparisons: the arms of a study two by two, paired by seed, on the same test documents."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np

from mlxprune.experiment.arm_pairs import Pair, pair_values, pairs_of
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.experiment.data_efficiency import (
    ArmEnds,
    FewerTargets,
    Rho,
    ends_of,
    fewer_targets,
    rho_of,
)
from mlxprune.experiment.measure import (
    DomainShare,
    Measure,
    answers_of,
    original_mix_measure,
    primary_measure,
)
from mlxprune.experiment.records import read_evaluation
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
from mlxprune.model.architecture import parameter_counts, preset_of
from mlxprune.records import SparseRecord
from mlxprune.stats import GroupedMean

# Where the bits per byte of each primary figure are measured.
ON = {
    "macro": "on the held-out domains",
    "target": "on the target text",
    "tasks": "on the tasks' right answers",
}


class ShorterEnd(SparseRecord):
    """The same comparison where both arms ended earlier, decayed."""

    targets: int
    a_parameter: float  # the targets over the parameters, embeddings not counted
    difference: PairedDifference


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
    rho_gold_bpb: Rho | None = None
    fewer_targets: FewerTargets | None = None
    original_mix: PairedDifference | None = None  # bits per byte of the text before pruning
    shorter: list[ShorterEnd] | None = None  # the shortest first

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
            both = pair_values(pair, first, arm, control, seeds)
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
    mixed = original_mix_measure(held)
    names = [(assessed[c.arm], assessed[c.control]) for c in comparisons]
    on_mix = _by_measure(held, comparisons, names, mixed)
    shorter = _shorter_ends(held, comparisons, measure)
    beside = [
        msgspec.structs.replace(
            compared,
            rho=_rho_in(held, compared, compared, measure.of, measure.parts),
            original_mix=on_mix[number],
            shorter=shorter.get(number),
        )
        for number, compared in enumerate(comparisons)
    ]
    return _with_tasks(held, assessed, beside)


def _by_measure(
    held: RunArtifacts,
    comparisons: list[Comparison],
    evaluations: list[tuple[dict[int, str], dict[int, str]]],
    measure: Measure,
) -> list[PairedDifference]:
    """The same pairs by another measure, or of other ``evaluations``: of each pair the names by
    seed, of the arm and of the control."""
    first = held.arms.firsts()
    pairs = []
    of = functools.cache(measure.of)  # a control stands in many pairs
    for compared, names in zip(comparisons, evaluations, strict=True):
        pair = Pair(compared.arm, compared.control, compared.about, compared.main)
        values = [{s: of(side[s]) for s in compared.seeds} for side in names]
        pairs.append(pair_values(pair, first, values[0], values[1], compared.seeds))
    return compare_paired(pairs, measure.parts, held.config.seed)


def _shorter_ends(
    held: RunArtifacts, comparisons: list[Comparison], measure: Measure
) -> dict[int, list[ShorterEnd]]:
    """By the number of the comparison, at every budget at which both arms end in all seeds. Those
    of one budget are decided as those of the whole length are."""
    ends = [
        [ends_of(held.run, held.arms, name, c.seeds) for name in (c.arm, c.control)]
        for c in comparisons
    ]
    preset = preset_of(held.config.final.model)
    parameters = parameter_counts({"vocab_size": 1, **preset.config})[0]
    found: dict[int, list[ShorterEnd]] = {}
    for targets in sorted({targets for arm, _ in ends for targets in arm}):
        able = [
            number
            for number, (arm, control) in enumerate(ends)
            if targets in arm and targets in control and targets < max(arm)
        ]
        some = [comparisons[n] for n in able]
        arms, controls = (
            [dict(zip(comparisons[n].seeds, ends[n][side][targets], strict=True)) for n in able]
            for side in (0, 1)
        )
        names = list(zip(arms, controls, strict=True))
        decided = _by_measure(held, some, names, measure)
        for number, difference in zip(able, decided, strict=True):
            end = ShorterEnd(
                targets=targets, a_parameter=targets / parameters, difference=difference
            )
            found.setdefault(number, []).append(end)
    return found


def _rho_in(
    held: RunArtifacts,
    compared: Comparison,
    difference: ComparedArms | PairedDifference,
    of: Callable[[str], np.ndarray],
    parts: GroupedMean,
    lower: bool = True,
) -> Rho | None:
    """The share of targets at which the arm is as good as its control, if it has branches."""
    ends = ends_of(held.run, held.arms, compared.arm, compared.seeds)
    control = ends_of(held.run, held.arms, compared.control, compared.seeds)
    if len(ends) < 2 or not control or max(ends) != max(control):
        return None
    values = [[of(name) for name in names] for names in ends.values()]
    last = [of(name) for name in control[max(control)]]
    arm_ends = ArmEnds(np.array(list(ends), np.float64), values, last)
    return rho_of(arm_ends, parts, difference, held.config.seed, lower)


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
            more |= _task_savings(held, compared, first, more)
        result.append(msgspec.structs.replace(compared, **more))
    return result


def _task_savings(
    held: RunArtifacts, compared: Comparison, first: ItemAnswers, found: dict[str, Any]
) -> dict[str, Any]:
    """What the arm saves in average accuracy, and in bits per byte of right answers."""

    def accuracy(name: str) -> np.ndarray:
        return accuracy_parts(answers_of(held.run, name))[0]

    def bits(name: str) -> np.ndarray:
        return gold_bits_parts(answers_of(held.run, name))[0]

    parts = accuracy_parts(first)[1], gold_bits_parts(first)[1]
    ends = ends_of(held.run, held.arms, compared.arm, compared.seeds)
    control = ends_of(held.run, held.arms, compared.control, compared.seeds)
    fewer = None
    if len(ends) > 1 and control and max(ends) == max(control):
        last = control[max(control)]
        curves = [
            ([sign * _mean(names, of, on) for names in ends.values()], sign * _mean(last, of, on))
            for of, on, sign in ((accuracy, parts[0], 1.0), (bits, parts[1], -1.0))
        ]
        fewer = fewer_targets(list(ends), *curves)
    return {
        "rho_accuracy": _rho_in(held, compared, found["accuracy"], accuracy, parts[0], False),
        "rho_gold_bpb": _rho_in(held, compared, found["gold_bpb"], bits, parts[1]),
        "fewer_targets": fewer,
    }


def _mean(names: list[str], of: Callable[[str], np.ndarray], parts: GroupedMean) -> float:
    return float(np.mean([parts.mean(of(name)) for name in names]))


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
        pairs.append(pair_values(pair, first, arm, control, compared.seeds))
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
