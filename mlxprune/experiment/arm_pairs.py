"""Arm pairs: which arms of a study are held against each other, and what that shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mlxprune.experiment.records import ArmRecord, StudyArms
from mlxprune.inference.verdict import ArmPair

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
    ("pruned", "pruned"): "slice against slice",
}


@dataclass(frozen=True)
class Pair:
    arm: str
    control: str
    about: str
    main: bool  # pruned against random: what the verdict is on


def pairs_of(arms: StudyArms) -> Iterator[Pair]:
    """Every comparison that the trained arms allow, by the names of the arms."""
    first = arms.firsts()
    for (kind, control_kind), about in COMPARED.items():
        for name, record in first.items():
            if record.kind != kind:
                continue
            for control, other in first.items():
                if other.kind == control_kind and _belong(record, other):
                    if kind == control_kind and not _earlier(first, name, control):
                        continue
                    main = (kind, control_kind) == ("pruned", "random") and record.rung is None
                    plain = kind != "shuffled" or record.plain
                    yield Pair(name, control, about if plain else "bounds alone", main)


def _earlier(first: dict[str, ArmRecord], one: str, other: str) -> bool:
    """Of two slices each pair once, off the ladder."""
    names = list(first)
    return first[one].rung is None and names.index(one) < names.index(other)


def _belong(arm: ArmRecord, control: ArmRecord) -> bool:
    if arm.rung != control.rung:
        return False
    if arm.kind == control.kind:
        return arm.share == control.share
    if control.kind in ("none", "all", "base"):
        return True
    if control.slice is not None:
        return control.slice == arm.slice
    return control.share == arm.share


def pair_values(
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
