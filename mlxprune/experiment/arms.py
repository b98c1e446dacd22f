"""Arms: what the final models train on. All carry the same unique tokens and the same targets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.config.slices import Slice
from mlxprune.data.hashing import mix
from mlxprune.experiment.controls import (
    EQUAL_TOKENS,
    draw_by_domain,
    draw_matched,
    draw_random,
    fit_to_budget,
)
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.ranking import rank_band, ranked_values
from mlxprune.selection.selector import apply_slice, preference

BLIND = ("random", "none", "all", "base")  # arms that no slice has a part in


@dataclass(frozen=True)
class Arm:
    """One final model to train: an arm of the study with one seed."""

    arm: str  # high-50, random-50, matched.high-50, base-x2
    kind: str  # one of the configuration's arms, or base
    seed: int
    slice: str | None = None  # the label of the slice that it is or controls
    share: str | None = None  # the share that it is as large as, for random
    rung: float | None = None  # passes over the unpruned base, on the ladder
    at: float | None = None  # the share of T after which it ends; None: all of it
    screens: bool = False  # slices, on the validation part: it is not read on the test part

    @property
    def name(self) -> str:
        short = "" if self.at is None else f".at-{100 * self.at:g}"
        return f"{self.arm}-s{self.seed}{short}"


def arms_of(config: Config) -> list[Arm]:
    """Every arm that the configuration asks for. The arms of a seed stand beside each other, so
    a stopped study has whole pairs."""
    arms = []
    screening = [config.final.screen_seed] if config.final.confirm else []
    for seed in [*screening, *config.final.seeds]:
        for kind in config.final.arms:
            if seed in screening and kind not in ("pruned", "random"):
                continue
            if kind == "random":
                shares = dict.fromkeys(c.share for c in config.slices)
                arms += [Arm(f"random-{s}", kind, seed, share=s) for s in shares]
            elif kind in BLIND:
                arms.append(Arm(kind, kind, seed))
            else:
                for choice in config.slices:
                    label = choice.label
                    name = label if kind == "pruned" else f"{kind}.{label}"
                    arms.append(Arm(name, kind, seed, slice=label, share=choice.share))
        if seed in screening:
            arms = [replace(arm, screens=True) for arm in arms]
        for rung in config.final.ladder:
            arms += _rung_arms(config, rung, seed)
    return arms


def _rung_arms(config: Config, rung: float, seed: int) -> list[Arm]:
    """The base of a rung and its slices, with random and matched where the study has them."""
    kinds, at = config.final.arms, f"-x{rung:g}"
    arms = [Arm(f"base{at}", "base", seed, rung=rung)]
    for choice in config.slices:
        label, share = choice.label, choice.share
        arms.append(Arm(f"{label}{at}", "pruned", seed, label, share, rung))
        if "random" in kinds:
            arms.append(Arm(f"random-{share}{at}", "random", seed, share=share, rung=rung))
        if "matched" in kinds:
            arms.append(Arm(f"matched.{label}{at}", "matched", seed, label, share, rung))
    return list(dict.fromkeys(arms))  # slices of one share have one random arm


def present_models(config: Config) -> list[str]:
    """Names of the final models that the configuration asks for, as the events have them. What else
    a log knows is of earlier configurations of the folder."""
    return [f"final/{arm.name}" for arm in arms_of(config)]


def confirmed_arms(config: Config, slices: list[str]) -> list[Arm]:
    """Of all arms those that are trained once ``slices`` are the ones to confirm: these, their
    controls, and what was screened."""
    shares = {choice.share for choice in config.slices if choice.label in slices}
    return [
        arm
        for arm in arms_of(config)
        if arm.screens
        or (arm.slice is None and (arm.share is None or arm.share in shares))
        or arm.slice in slices
    ]


def branches_of(arm: Arm, config: Config) -> list[Arm]:
    """The same arm ended earlier, shortest first; none on the ladder, and none that screens."""
    if arm.rung is not None or arm.screens:
        return []
    return [replace(arm, at=share) for share in sorted(config.final.branches)]


def ranks_slices(arm: Arm) -> bool:
    """Whether slices are ranked by this model on the validation part: a slice or its control at
    full length."""
    whole = arm.at is None and arm.rung is None and not arm.screens
    return whole and arm.kind in ("pruned", "random")


@dataclass(frozen=True)
class ArmPool:
    """What arms draw from: the pool's documents, one row each, and every slice of them.

    ``lengths`` int64 count the closing end-of-text, as it is trained on; ``tokens`` do not.
    """

    documents: np.ndarray
    keys: np.ndarray
    domain: np.ndarray
    lengths: np.ndarray
    spare: np.ndarray  # documents of the reference part, for the arm `all`
    kept: dict[str, np.ndarray]
    slices: dict[str, Slice]
    scores_of: Callable[[Slice], Scores]
    seed: int

    @property
    def tokens(self) -> np.ndarray:
        return self.lengths - 1

    def unique(self, share: str) -> int:
        """U of the slices of one share and their controls: that of the smallest."""
        sizes = [
            int(self.lengths[self.kept[label]].sum())
            for label, choice in self.slices.items()
            if choice.share == share
        ]
        return min(sizes)


def arm_documents(arm: Arm, pool: ArmPool, targets: int) -> np.ndarray:
    """The documents of an arm, ascending. Raises DataError: no slice on a rung of the ladder."""
    if arm.kind == "none":
        return pool.documents
    if arm.kind == "all":
        return np.union1d(pool.documents, pool.spare)
    return pool.documents[_rows(arm, pool, targets)]


def _rows(arm: Arm, pool: ArmPool, targets: int) -> np.ndarray:
    if arm.rung is not None:
        return _rung(arm, pool, targets)
    assert arm.share is not None
    unique = pool.unique(arm.share)
    if arm.kind == "random":
        return draw_random(pool.keys, pool.lengths, unique, f"random arm {arm.seed}")
    assert arm.slice is not None
    choice, kept = pool.slices[arm.slice], pool.kept[arm.slice]
    if arm.kind == "pruned":
        return _thinned(pool, kept, unique)
    if arm.kind == "matched":
        rows = np.zeros(len(kept), bool)
        rows[_thinned(pool, kept, unique)] = True
        return draw_matched(
            pool.keys, pool.domain, pool.lengths, rows, unique, f"matched {arm.slice} {arm.seed}"
        )
    # Drawn with a seed of its own: what a soft slice and its control share by luck is no control.
    seed = f"{arm.kind} {arm.seed if arm.kind == 'shuffled' else pool.seed}"
    scores = pool.scores_of(choice)
    able = np.flatnonzero(scores.num_tokens >= choice.min_tokens)
    if arm.kind == "by-domain":
        ranked = choice.model_copy(
            update={"by": "domain", "protect": [], "floor": None, "cap": None}
        )
    elif arm.kind == "shuffled":
        values = ranked_values(scores, choice, seed)(slice(None))
        shuffle = np.argsort(mix(pool.keys[able], f"shuffled {arm.seed}"), kind="stable")
        given = values.copy()
        given[able] = values[able][shuffle]
        scores = replace(scores, given=given, fold=None)
        ranked = choice.model_copy(update={"metric": "perplexity", "rule": "exact"})
    else:  # zlib, unigram
        metric = "bpb" if arm.kind == "zlib" else "perplexity"
        ranked = choice.model_copy(
            update={"reference": arm.kind, "metric": metric, "rule": "exact"}
        )
        scores = pool.scores_of(ranked)
    scores = _with_domain(pool, scores).take(able)
    lengths, tokens = pool.lengths[able], pool.tokens[able]
    order = preference(scores, ranked, seed, tokens)
    if arm.kind == "by-domain":
        return able[draw_by_domain(order, pool.domain[able], lengths, unique)]
    found = apply_slice(scores, ranked, seed, tokens).mask
    if choice.bounded:  # filled up from domains that have no cap to break
        capped = [i for i, name in enumerate(scores.domains) if choice.bounds_of(name)[1] < 1]
        order = order[found[order] | ~np.isin(pool.domain[able][order], capped)]
    return able[fit_to_budget(found, order, lengths, unique)]


def _with_domain(pool: ArmPool, scores: Scores) -> Scores:
    return scores if scores.domain is not None else replace(scores, domain=pool.domain)


def _thinned(pool: ArmPool, kept: np.ndarray, unique: int) -> np.ndarray:
    """The slice, or of a larger one than its share allows, a random part."""
    rows = np.flatnonzero(kept)
    if int(pool.lengths[rows].sum()) <= (1 + EQUAL_TOKENS) * unique:
        return rows
    # What is dropped is drawn, not what stays: of few, long documents that misses U by less.
    excess = int(pool.lengths[rows].sum()) - unique
    dropped = draw_random(pool.keys[rows], pool.lengths[rows], excess, f"thinned {pool.seed}")
    return np.delete(rows, dropped)


def _rung(arm: Arm, pool: ArmPool, targets: int) -> np.ndarray:
    """The base of a rung, targets / rung tokens of the pool, or what an arm has of that base."""
    assert arm.rung is not None
    base = draw_random(pool.keys, pool.lengths, targets / arm.rung, f"ladder {arm.seed}")
    if arm.kind == "base":
        return base
    sharing = (s for s in pool.slices.values() if s.share == arm.share)
    choice = pool.slices[arm.slice] if arm.slice else next(sharing)
    kept = _slice_of_base(choice, pool, base)
    if arm.kind == "pruned":
        return base[kept]
    keys, lengths = pool.keys[base], pool.lengths[base]
    unique = int(lengths[kept].sum())
    seed = f"{arm.kind} on the ladder {arm.slice or arm.share} {arm.seed}"
    if arm.kind == "random":
        return base[draw_random(keys, lengths, unique, seed)]
    mine = np.zeros(len(base), bool)
    mine[kept] = True
    return base[draw_matched(keys, pool.domain[base], lengths, mine, unique, seed)]


def _slice_of_base(choice: Slice, pool: ArmPool, base: np.ndarray) -> np.ndarray:
    """Which rows of a base its slice has."""
    scores = _with_domain(pool, pool.scores_of(choice)).take(base)
    tokens, lengths = pool.tokens[base], pool.lengths[base]
    found = apply_slice(scores, choice, pool.seed, tokens).mask
    order = preference(scores, choice, pool.seed, tokens)
    order = order[scores.num_tokens[order] >= choice.min_tokens]
    budget = int(lengths[found].sum())
    if choice.unit == "tokens":
        low, high = rank_band(choice)
        budget = round((high - low) * int(lengths.sum()))
    return fit_to_budget(found, order, lengths, budget)


def why_left_out(arm: Arm, pool: ArmPool, targets: int) -> str | None:
    """Why an arm cannot be, or would be another one."""
    tokens = int(pool.lengths.sum())
    if arm.kind == "none":
        least = min(pool.unique(choice.share) for choice in pool.slices.values())
        if targets <= least:
            return f"{targets:,} targets are no more than U, {least:,} tokens: it is random"
    if arm.rung is not None and targets / arm.rung > tokens:
        return f"a base of {targets / arm.rung:,.0f} tokens is more than the pool's {tokens:,}"
    return None


def documents_identity(documents: np.ndarray, keys: np.ndarray) -> str:
    """A hash of which documents an arm has: equal in every run over the same corpus."""
    return keys_identity(keys[documents])


def keys_identity(keys: np.ndarray) -> str:
    """The same of the keys of its documents."""
    return hashlib.blake2b(np.ascontiguousarray(keys).data, digest_size=12).hexdigest()
