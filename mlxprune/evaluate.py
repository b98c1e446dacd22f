"""Evaluation: bits per byte on the test part, and what the difference of two arms is worth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlxprune import runs, score
from mlxprune.corpus import Corpus
from mlxprune.keys import mix
from mlxprune.split import HELD_OUT_DOCUMENTS, HELD_OUT_TOKENS
from mlxprune.tokens import Tokens

if TYPE_CHECKING:
    import mlx.nn as nn

VERSION = 1
METRIC_VERSION = 1
LN2 = math.log(2.0)
BOOTSTRAPS = 1000
BOOTSTRAP_BLOCK = 50  # resamples drawn at once


def t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t, by halving."""
    low, high = 0.0, 16.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, degrees) > 0.05 else (low, middle)
    return (low + high) / 2


def two_sided(t: float, degrees: int) -> float:
    """P(|T| >= |t|) of Student's t with whole degrees of freedom, in closed form (Abramowitz and
    Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(abs(t) / math.sqrt(degrees))
    square = math.cos(angle) ** 2
    term, total = 1.0, 1.0
    first = 1 if degrees % 2 == 0 else 2
    for k in range(first, degrees - 2 if degrees % 2 else degrees - 1, 2):
        term *= square * k / (k + 1)
        total += term
    if degrees == 1:
        inside = 2 * angle / math.pi
    elif degrees % 2:
        inside = 2 / math.pi * (angle + math.sin(angle) * math.cos(angle) * total)
    else:
        inside = math.sin(angle) * total
    return max(0.0, 1.0 - inside)


def test_documents(corpus: Corpus, tokens: Tokens, members: np.ndarray, seed: int) -> np.ndarray:
    """The held-out documents that are read: of each domain, in seeded hash order, at least 50 and
    at least 200k tokens where there are so many; the rest of a large part stays unread.
    """
    lengths = tokens.lengths(members)
    members, lengths = members[lengths > 0], lengths[lengths > 0]
    order = np.argsort(mix(corpus.index["key"][members], f"test {seed}"), kind="stable")
    domains = corpus.index["domain"][members]
    chosen = []
    by_domain = order[np.argsort(domains[order], kind="stable")]
    for mine in np.split(by_domain, np.flatnonzero(np.diff(domains[by_domain])) + 1):
        before = np.cumsum(lengths[mine]) - lengths[mine]
        few = np.arange(len(mine)) < HELD_OUT_DOCUMENTS
        chosen.append(members[mine[few | (before < HELD_OUT_TOKENS)]])
    return np.sort(np.concatenate(chosen)) if chosen else members


def validation_documents(
    corpus: Corpus, tokens: Tokens, members: np.ndarray, seed: int, budget: int
) -> np.ndarray:
    """Documents for the curve during training, in seeded hash order up to a budget of tokens."""
    members = members[tokens.lengths(members) > 0]
    order = members[
        np.argsort(mix(corpus.index["key"][members], f"validation {seed}"), kind="stable")
    ]
    before = np.cumsum(tokens.lengths(order)) - tokens.lengths(order)
    return np.sort(order[before < budget])


def validator(
    corpus: Corpus,
    tokens: Tokens,
    documents: np.ndarray,
    config: dict[str, Any],
    context: int,
    memory_bytes: int | None = None,
) -> Callable[[nn.Module], np.ndarray] | None:
    """A function from a model to float64 [1 + documents]: its bits per byte on the documents, then
    the mean NLL of each; None without documents."""
    if len(documents) == 0:
        return None
    size = float(corpus.index["bytes"][documents].sum())
    policy = score.resolve_policy(
        tokens.lengths(documents), config, context, memory_bytes=memory_bytes
    )

    def measured(model: nn.Module) -> np.ndarray:
        part = score.score_documents(model, tokens, documents, policy)
        bits = part["nll_sum"].sum() / (LN2 * size)
        return np.concatenate([[bits], part["nll_sum"] / np.maximum(part["num_tokens"], 1)])

    return measured


def figures(
    nll: np.ndarray, sizes: np.ndarray, domains: np.ndarray, names: list[str]
) -> dict[str, Any]:
    """Bits per byte per domain, their plain mean (macro), and on the original mix."""
    count = len(names)
    bits = np.bincount(domains, weights=nll, minlength=count) / LN2
    size = np.bincount(domains, weights=sizes, minlength=count)
    present = size > 0
    per_domain = np.divide(bits, size, out=np.zeros(count), where=present)
    return {
        "macro": float(per_domain[present].mean()),
        "original_mix": float(bits.sum() / size.sum()),
        "domains": {n: float(b) for n, b, p in zip(names, per_domain, present, strict=True) if p},
        "metric_version": METRIC_VERSION,
    }


def losses_of(
    model_folder: Path,
    tokens: Tokens,
    documents: np.ndarray,
    context: int,
    between: Callable[[int, int, float], None] = lambda tokens, slots, waited: None,
    memory_bytes: int | None = None,
) -> np.ndarray:
    """PART rows of documents under a saved model."""
    from mlxprune import model as models

    loaded, config = models.load(model_folder)
    policy = score.resolve_policy(
        tokens.lengths(documents), config, context, memory_bytes=memory_bytes
    )
    return score.score_documents(loaded, tokens, documents, policy, between)


def score_model(
    model_folder: Path,
    names: Corpus,
    tokens: Tokens,
    documents: np.ndarray,
    context: int,
    array: Path,
    between: Callable[[int, int, float], None],
    memory_bytes: int | None = None,
) -> dict[str, Any]:
    """Score documents with one model: its figures; the NLL of each, float64, goes to ``array``."""
    part = losses_of(model_folder, tokens, documents, context, between, memory_bytes)
    index = names.index[documents]
    result = figures(part["nll_sum"], index["bytes"], index["domain"], names.domains)
    counts = np.bincount(index["domain"], minlength=len(names.domains))
    result["documents"] = {d: int(c) for d, c in zip(names.domains, counts, strict=True)}
    result["tokens"] = int(part["num_tokens"].sum())
    runs.write_array(array, part["nll_sum"])
    return result


def deciles_of(values: np.ndarray) -> np.ndarray:
    """int64 [documents]: the tenth of the ranks that each document's value is in, 0 the lowest."""
    place = np.empty(len(values), np.int64)
    place[np.argsort(values, kind="stable")] = np.arange(len(values))
    return place * 10 // max(len(values), 1)


def by_decile(nll: np.ndarray, sizes: np.ndarray, decile: np.ndarray) -> list[float | None]:
    """Bits per byte in each tenth; None in one without a document."""
    bits = np.bincount(decile, weights=nll, minlength=10) / LN2
    size = np.bincount(decile, weights=sizes, minlength=10)
    return [float(b / s) if s else None for b, s in zip(bits, size, strict=True)]


@dataclass(frozen=True)
class Parts:
    """What a mean over groups is made of: ``sizes`` and ``groups`` [units]; the mean of a group is
    the ratio of its units' values and sizes, ``weights`` [groups] add up to one."""

    sizes: np.ndarray
    groups: np.ndarray
    weights: np.ndarray

    def mean(self, values: np.ndarray) -> float:
        """``values`` float64 [units]."""
        count = len(self.weights)
        total = np.bincount(self.groups, weights=values, minlength=count)
        size = np.bincount(self.groups, weights=self.sizes, minlength=count)
        there = size > 0
        return float((self.weights[there] * total[there] / size[there]).sum())


def alike(sizes: np.ndarray, groups: np.ndarray) -> Parts:
    """Every group that has a unit counts alike."""
    counts = np.bincount(groups)
    return Parts(sizes, groups, (counts > 0) / max(1, (counts > 0).sum()))


def compare(
    arm: list[np.ndarray], control: list[np.ndarray], parts: Parts, seed: int, lower: bool = True
) -> dict[str, Any]:
    """Arm minus control in a mean over groups, paired by seed (DESIGN, Verdict).

    ``arm[s]`` and ``control[s]`` hold the values of every unit (document, item) for seed s: bits,
    say. The interval is mean +- t(S - 1) * sqrt(s_d^2 / S + v), v from the bootstrap over units
    inside groups; one seed gives their noise only and no verdict. ``lower`` values are better.
    """
    differences = [parts.mean(a) - parts.mean(c) for a, c in zip(arm, control, strict=True)]
    count = len(differences)
    mean_difference = np.mean([a - c for a, c in zip(arm, control, strict=True)], axis=0)
    noise = _bootstrap_variance(mean_difference, parts, seed)
    mean = float(np.mean(differences))
    probability = None
    if count == 1:
        half = 1.96 * math.sqrt(noise)
        verdict = "n=1, document noise only, no verdict"
    else:
        spread = float(np.var(differences, ddof=1))
        error = math.sqrt(spread / count + noise)
        half = t_quantile(count - 1) * error
        probability = two_sided(mean / error, count - 1) if error else float(mean == 0)
        sign = 1 if lower else -1
        verdict = "undecided"
        if abs(mean) > half:
            verdict = "better" if sign * mean < 0 else "worse"
    return {
        "difference": mean,
        "interval": [mean - half, mean + half],
        "by_seed": differences,
        "probability": probability,
        "verdict": verdict,
    }


def _bootstrap_variance(differences: np.ndarray, parts: Parts, seed: int) -> float:
    """Variance of the mean difference over resamples of the units of each group."""
    generator = np.random.default_rng(seed)
    totals = np.zeros(BOOTSTRAPS)
    for code, weight in enumerate(parts.weights):
        mine = np.flatnonzero(parts.groups == code)
        if len(mine) == 0:
            continue
        for first in range(0, BOOTSTRAPS, BOOTSTRAP_BLOCK):
            drawn = mine[generator.integers(0, len(mine), (BOOTSTRAP_BLOCK, len(mine)))]
            ratio = differences[drawn].sum(axis=1) / parts.sizes[drawn].sum(axis=1)
            totals[first : first + BOOTSTRAP_BLOCK] += weight * ratio
    return float(np.var(totals, ddof=1))
