"""Verdict: the arms of a study compared two by two, paired by seed, on the same test documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxprune import evaluate, runs, split, study
from mlxprune.config import Config
from mlxprune.runs import RunFolder

SURE = 0.05  # the error rate over all slices of a study

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


@dataclass(frozen=True)
class Pair:
    arm: str
    control: str
    about: str
    main: bool  # pruned against random: what the verdict is on


def planned_arms(run: RunFolder) -> dict[str, Any]:
    """arms.json of a run; empty before the stage ``final``."""
    try:
        found: dict[str, Any] = runs.read_json(run.arms)
    except (OSError, ValueError):
        return {"targets": 0, "arms": {}, "left_out": {}}
    found["arms"] = {name: found["arms"][name] for name in found["order"]}
    return found


def pairs(plan: dict[str, Any]) -> Iterator[Pair]:
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


def comparisons(run: RunFolder, config: Config) -> list[dict[str, Any]]:
    """Arm minus control in macro bits per byte of the test part, for every pair with a common seed.

    The verdicts on several slices are Holm's (1979): their probabilities are adjusted together.
    """
    plan = planned_arms(run)
    losses: dict[str, dict[int, np.ndarray]] = {}
    for name, facts in plan["arms"].items():
        path = run.evaluation(name)
        if runs.is_current(run, path):
            file = path.with_name(runs.read_json(path)["nll_file"])
            losses.setdefault(facts["arm"], {})[facts["seed"]] = np.load(file)
    if not losses:
        return []
    names = study.open_corpus(run, config)
    members = split.open_split(run.split).members(split.TEST)
    documents = evaluate.test_documents(names, study.open_tokens(run), members, config.seed)
    index = names.index[documents]
    found = []
    for pair in pairs(plan):
        arm, control = losses.get(pair.arm, {}), losses.get(pair.control, {})
        seeds = sorted(arm.keys() & control.keys())
        if not seeds:
            continue
        compared = evaluate.compare(
            [arm[s] for s in seeds],
            [control[s] for s in seeds],
            index["bytes"],
            index["domain"],
            names.domains,
            config.seed,
        )
        about = {"arm": pair.arm, "control": pair.control, "about": pair.about, "main": pair.main}
        found.append({**about, "seeds": seeds, **compared})
    _holm([c for c in found if c["main"] and len(c["seeds"]) > 1])
    return found


def _holm(family: list[dict[str, Any]]) -> None:
    """Adjust the probabilities of a family of comparisons, in place, and what they say."""
    lowest = 0.0
    for done, compared in enumerate(sorted(family, key=lambda c: float(c["probability"]))):
        lowest = max(lowest, min(1.0, (len(family) - done) * compared["probability"]))
        compared["adjusted_probability"] = lowest
        if lowest >= SURE:
            compared["verdict"] = "undecided"


def of_first_slice(config: Config, found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The verdict on the first slice that has one; None before it and its control exist."""
    chosen = next((c for c in found if c["main"]), None)
    if chosen is None:
        return None
    return {
        "primary": config.evaluation.primary,
        "unit": "bits per byte on the test part, lower is better",
        **{k: v for k, v in chosen.items() if k not in ("about", "main")},
    }


def sentence(found: dict[str, Any]) -> str:
    """What to do next, in one plain sentence."""
    main = [c for c in found.get("comparisons") or [] if c["main"]]
    if not main:
        return "Run it to the end to compare the slice with a random one of equal size."
    told = min(main, key=lambda c: (c["verdict"] != "better", float(c["difference"])))
    change = abs(told["difference"])
    side = "lower (better)" if told["difference"] < 0 else "higher (worse)"
    of = f"of {len(main)} slices, the best against its control: " if len(main) > 1 else ""
    if len(main) > 1 and told["difference"] >= 0:
        of = f"none of {len(main)} slices beat its control; the nearest: "
    seen = (
        f"{of}{told['arm']} ended {change:.4f} bits per byte {side} than {told['control']} "
        f"on the held-out domains (interval {told['interval'][0]:+.4f} to "
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
