"""Verdict: the arms of a study compared two by two, paired by seed, on the same test documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.data import split
from mlxprune.evaluation.bits_per_byte import documents_to_test
from mlxprune.evaluation.target_text import open_target
from mlxprune.experiment.artifacts import (
    assessed_arms,
    open_run_corpus,
    open_run_tokens,
    planned_arms,
)
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
from mlxprune.files import read_json
from mlxprune.run.folder import RunFolder
from mlxprune.stats import GroupedMean, adjust_by_holm, compare_paired, equal_groups
from mlxprune.units import LN2

# What an arm minus its control says.
ABOUT = {
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


def pairs_of(plan: dict[str, Any]) -> Iterator[Pair]:
    """Every comparison that the trained arms allow, by the names of the arms."""
    first: dict[str, dict[str, Any]] = {}
    for facts in plan["arms"].values():
        first.setdefault(facts["arm"], facts)
    for (kind, control_kind), about in ABOUT.items():
        for name, facts in first.items():
            if facts["kind"] != kind:
                continue
            for control, other in first.items():
                if other["kind"] == control_kind and _belong(facts, other):
                    main = (kind, control_kind) == ("pruned", "random")
                    plain = kind != "shuffled" or facts["plain"]
                    yield Pair(name, control, about if plain else "bounds alone", main)


def _belong(arm: dict[str, Any], control: dict[str, Any]) -> bool:
    if arm["rung"] != control["rung"]:
        return False
    if control["kind"] in ("none", "all", "base"):
        return True
    if control["slice"] is not None:
        return bool(control["slice"] == arm["slice"])
    return bool(control["share"] == arm["share"])


def compare_arms(run: RunFolder, config: Config) -> list[dict[str, Any]]:
    """Arm minus control in the primary figure, for every pair with a common seed; where the arms
    were asked tasks, in those too, item by item.

    The verdicts on several slices are Holm's (1979): their probabilities are adjusted together.
    """
    assessed = assessed_arms(run)
    if not assessed:
        return []
    measure = _measure(run, config)
    values = {
        arm: {seed: measure.of(name) for seed, name in seeds.items()}
        for arm, seeds in assessed.items()
    }
    found = []
    for pair in pairs_of(planned_arms(run)):
        arm, control = values.get(pair.arm, {}), values.get(pair.control, {})
        seeds = sorted(arm.keys() & control.keys())
        if not seeds:
            continue
        both = [arm[s] for s in seeds], [control[s] for s in seeds]
        compared = compare_paired(*both, measure.parts, config.seed)
        about = {"arm": pair.arm, "control": pair.control, "about": pair.about, "main": pair.main}
        found.append({**about, "seeds": seeds, **compared})
    adjust_by_holm([c for c in found if c["main"] and len(c["seeds"]) > 1])
    _beside(run, config, assessed, found)
    return found


@dataclass(frozen=True)
class Measure:
    """The primary figure: bits of every unit of an evaluation, and how they make a mean."""

    of: Callable[[str], np.ndarray]
    parts: GroupedMean


def _measure(run: RunFolder, config: Config) -> Measure:
    primary = config.evaluation.primary
    if primary == "tasks":
        first = next(iter(next(iter(assessed_arms(run).values())).values()))
        return Measure(
            lambda name: gold_bits_parts(_sheet(run, name))[0],
            gold_bits_parts(_sheet(run, first))[1],
        )
    if primary == "target":
        names, _, documents = open_target(run, config)
    else:
        names = open_run_corpus(run, config)
        members = split.open_split(run.split).members(split.TEST)
        documents = documents_to_test(names, open_run_tokens(run), members, config.seed)

    def of(name: str) -> np.ndarray:
        path = run.evaluation(name)
        told = read_json(path)
        told = told["target"] if primary == "target" else told
        nll: np.ndarray = np.load(path.with_name(told["nll_file"]))
        return nll / LN2

    index = names.index[documents]
    return Measure(of, equal_groups(index["bytes"], index["domain"].astype(np.int64)))


def _sheet(run: RunFolder, name: str) -> ItemAnswers:
    sheet = read_answers(run, name)
    assert sheet is not None
    return sheet


def _beside(
    run: RunFolder,
    config: Config,
    assessed: dict[str, dict[int, str]],
    found: list[dict[str, Any]],
) -> None:
    """The same pairs by the tasks' items: bits of the right answers, and the average accuracy."""
    if not config.evaluation.tasks:
        return
    rows = contaminated_rows(run)
    sheets = {name: read_answers(run, name) for s in assessed.values() for name in s.values()}
    for compared in found:
        pairs_of = [
            (sheets[assessed[compared["arm"]][s]], sheets[assessed[compared["control"]][s]])
            for s in compared["seeds"]
        ]
        both = [(a, c) for a, c in pairs_of if a and c and same_items(a, c)]
        if not both:
            continue
        if rows is not None:
            clean = clean_items(both[0][0], rows)
            if clean.any() and not clean.all():
                cleaned = [(only_items(a, clean), only_items(c, clean)) for a, c in both]
                compared["clean_gold_bpb"] = _by_items(cleaned, gold_bits_parts, config.seed, True)
        for key, of, lower in (
            ("gold_bpb", gold_bits_parts, True),
            ("accuracy", accuracy_parts, False),
        ):
            compared[key] = _by_items(both, of, config.seed, lower)


def _by_items(
    both: list[tuple[ItemAnswers, ItemAnswers]],
    of: Callable[[ItemAnswers], tuple[np.ndarray, GroupedMean]],
    seed: int,
    lower: bool,
) -> dict[str, Any]:
    arm, control = ([of(sheet)[0] for sheet in side] for side in zip(*both, strict=True))
    return compare_paired(arm, control, of(both[0][0])[1], seed, lower)


def first_verdict(config: Config, found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The verdict on the first slice that has one; None before it and its control exist."""
    chosen = next((c for c in found if c["main"]), None)
    if chosen is None:
        return None
    return {
        "primary": config.evaluation.primary,
        "unit": f"bits per byte {ON[config.evaluation.primary]}, lower is better",
        **{k: v for k, v in chosen.items() if k not in ("about", "main")},
    }


def verdict_sentence(found: dict[str, Any]) -> str:
    """What to do next, in one plain sentence."""
    main = [c for c in found.get("comparisons") or [] if c["main"]]
    if not main:
        return "Run it to the end to compare the slice with a random one of equal size."
    told = min(main, key=lambda c: (c["verdict"] != "better", float(c["difference"])))
    change = abs(told["difference"])
    on = ON[(found.get("verdict") or {}).get("primary", "macro")]
    side = "lower (better)" if told["difference"] < 0 else "higher (worse)"
    of = f"of {len(main)} slices, the best against its control: " if len(main) > 1 else ""
    if len(main) > 1 and told["difference"] >= 0:
        of = f"none of {len(main)} slices beat its control; the nearest: "
    seen = (
        f"{of}{told['arm']} ended {change:.4f} bits per byte {side} than {told['control']} "
        f"{on} (interval {told['interval'][0]:+.4f} to "
        f"{told['interval'][1]:+.4f})"
    )
    seen = seen[0].upper() + seen[1:] if of else seen
    if len(told["seeds"]) == 1:
        return f"{seen}; with one seed that is no verdict: add seeds (final.seeds: [0, 1, 2])."
    if told["verdict"] == "better":
        return f"{seen}: train your model on selection/{told['arm']}."
    if told["verdict"] == "worse":
        return f"{seen}: try another criterion or rate, the scores are reused."
    return f"{seen}: undecided; more seeds or more targets would tell, or try another slice."
