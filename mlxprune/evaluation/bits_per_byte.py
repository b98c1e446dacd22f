"""Evaluation: bits per byte on the test part, and what the difference of two arms is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mlxprune.data.hashing import mix as hashed
from mlxprune.data.held_out import HELD_OUT_DOCUMENTS, HELD_OUT_TOKENS, LEAST_DOCUMENTS
from mlxprune.data.index import Corpus
from mlxprune.evaluation.model_answers import losses_in_child
from mlxprune.execution.context import Execution
from mlxprune.files import write_array
from mlxprune.records import SparseRecord
from mlxprune.scoring.nll import score_documents
from mlxprune.scoring.windows import resolve_policy
from mlxprune.stats import GroupedMean, equal_groups
from mlxprune.tokenization.token_file import Tokens
from mlxprune.units import LN2

if TYPE_CHECKING:
    import mlx.nn as nn

EVALUATION_VERSION = 1
BITS_METRIC_VERSION = 2
# Figures follow from the stored losses: a model that was scored before is not scored again, and
# what another version made of its losses is made anew where it is read.
LOSSES_VERSION = 1
LEAST_OF_TARGET = 2  # documents: whoever names a text means each domain of it
SMALL_DOMAINS = "(small domains)"  # those that are too small to stand alone, together


def documents_to_test(corpus: Corpus, tokens: Tokens, members: np.ndarray, seed: int) -> np.ndarray:
    """The held-out documents that are read: of each domain, in seeded hash order, at least 50 and
    at least 200k tokens where there are so many; the rest of a large part stays unread.
    """
    lengths = tokens.lengths(members)
    members, lengths = members[lengths > 0], lengths[lengths > 0]
    order = np.argsort(hashed(corpus.index["key"][members], f"test {seed}"), kind="stable")
    domains = corpus.index["domain"][members]
    chosen = []
    by_domain = order[np.argsort(domains[order], kind="stable")]
    for mine in np.split(by_domain, np.flatnonzero(np.diff(domains[by_domain])) + 1):
        before = np.cumsum(lengths[mine]) - lengths[mine]
        few = np.arange(len(mine)) < HELD_OUT_DOCUMENTS
        chosen.append(members[mine[few | (before < HELD_OUT_TOKENS)]])
    return np.sort(np.concatenate(chosen)) if chosen else members


def documents_for_curves(
    corpus: Corpus, tokens: Tokens, members: np.ndarray, seed: int, budget: int
) -> np.ndarray:
    """Documents for the curve during training, in seeded hash order up to a budget of tokens."""
    members = members[tokens.lengths(members) > 0]
    order = members[
        np.argsort(hashed(corpus.index["key"][members], f"validation {seed}"), kind="stable")
    ]
    before = np.cumsum(tokens.lengths(order)) - tokens.lengths(order)
    return np.sort(order[before < budget])


def validator(
    tokens: Tokens,
    documents: np.ndarray,
    size: int,
    config: dict[str, Any],
    context: int,
    memory_bytes: int | None = None,
) -> Callable[[nn.Module], np.ndarray] | None:
    """A function from a model to float64 [1 + documents]: its bits per byte on the documents, of
    ``size`` bytes together, then the mean NLL of each; None without documents."""
    if len(documents) == 0:
        return None
    policy = resolve_policy(tokens.lengths(documents), config, context, memory_bytes=memory_bytes)

    def measured(model: nn.Module) -> np.ndarray:
        part = score_documents(model, tokens, documents, policy)
        bits = part["nll_sum"].sum() / (LN2 * size)
        return np.concatenate([[bits], part["nll_sum"] / np.maximum(part["num_tokens"], 1)])

    return measured


class TextBits(SparseRecord):
    """Bits per byte of a text: of each domain, the plain mean over those that are large enough, and
    on a mix: of the target that of its own bytes, of the test part that of the pool's."""

    macro: float
    original_mix: float
    domains: dict[str, float]
    metric_version: int = 0


class ScoredText(TextBits, kw_only=True):
    """The same of documents that one model scored; ``nll_file`` beside it has the loss of each."""

    documents: dict[str, int]  # by domain
    tokens: int
    nll_file: str


@dataclass(frozen=True)
class MacroDomains:
    """Which domains macro is the mean over. A domain of fewer than five documents does not stand
    alone: such domains count as one together, or where even that has fewer, not at all."""

    alone: list[str]
    pooled: list[str]
    left_out: list[str]  # too few together, or without a document
    groups: np.ndarray  # int64 [documents]; -1: left out

    def mean_of(self, sizes: np.ndarray) -> tuple[np.ndarray, GroupedMean]:
        """(bool [documents]: which count, their mean a byte), domains alike."""
        inside = self.groups >= 0
        return inside, equal_groups(sizes[inside], self.groups[inside])


def macro_domains(
    domains: np.ndarray, names: list[str], least: int = LEAST_DOCUMENTS
) -> MacroDomains:
    """By the domain codes of documents, [documents]; ``least`` of them let a domain stand alone.
    Of a text in which no domain is large enough, every domain stands alone."""
    counts = np.bincount(domains, minlength=len(names))
    large = counts >= least
    if not large.any():
        large = counts > 0
    small = (counts > 0) & ~large
    together = int(counts[small].sum()) >= least
    group = np.full(len(names), -1)
    group[large] = np.arange(large.sum())
    if together:
        group[small] = large.sum()
    named = np.array(names, dtype=object)
    left = (counts == 0) | (small & (not together))
    return MacroDomains(
        named[large].tolist(),
        named[small].tolist() if together else [],
        named[left].tolist(),
        group[domains],
    )


def bits_by_domain(
    nll: np.ndarray,
    sizes: np.ndarray,
    domains: np.ndarray,
    names: list[str],
    mix: np.ndarray | None = None,
    least: int = LEAST_DOCUMENTS,
) -> TextBits:
    """Bits per byte from the losses in nats, bytes and domain codes of documents, [documents].

    ``mix`` float64 [domains] are the bytes that weigh the domains in the original mix, those of the
    pool; by default those of these documents. ``least`` as in ``macro_domains``.
    """
    count = len(names)
    bits = np.bincount(domains, weights=nll, minlength=count) / LN2
    size = np.bincount(domains, weights=sizes, minlength=count)
    present = size > 0
    per_domain = np.divide(bits, size, out=np.zeros(count), where=present)
    inside, macro = macro_domains(domains, names, least).mean_of(sizes)
    weights = np.where(present, size if mix is None or not mix[present].any() else mix, 0.0)
    return TextBits(
        macro=macro.mean(nll[inside] / LN2),
        original_mix=float(weights @ per_domain / weights.sum()),
        domains={n: float(b) for n, b, p in zip(names, per_domain, present, strict=True) if p},
        metric_version=BITS_METRIC_VERSION,
    )


def score_model(
    execution: Execution,
    model_folder: Path,
    corpus: Corpus,
    tokens: Tokens,
    documents: np.ndarray,
    context: int,
    array: Path,
    between: Callable[[int, int, float], None] = lambda tokens, slots, waited: None,
    mix: np.ndarray | None = None,
    least: int = LEAST_DOCUMENTS,
) -> ScoredText:
    """Score documents with one model: its figures; the NLL of each, float64, goes to ``array``.
    ``mix`` and ``least`` as in ``bits_by_domain``."""
    part = losses_in_child(execution, model_folder, tokens, documents, context, between)
    index = corpus.index[documents]
    bits = bits_by_domain(
        part["nll_sum"], index["bytes"], index["domain"], corpus.domains, mix, least
    )
    counts = np.bincount(index["domain"], minlength=len(corpus.domains))
    write_array(array, part["nll_sum"])
    return ScoredText(
        **msgspec.structs.asdict(bits),
        documents={d: int(c) for d, c in zip(corpus.domains, counts, strict=True)},
        tokens=int(part["num_tokens"].sum()),
        nll_file=array.name,
    )


def by_decile(nll: np.ndarray, sizes: np.ndarray, decile: np.ndarray) -> list[float | None]:
    """Bits per byte in each tenth; None in one without a document."""
    bits = np.bincount(decile, weights=nll, minlength=10) / LN2
    size = np.bincount(decile, weights=sizes, minlength=10)
    return [float(b / s) if s else None for b, s in zip(bits, size, strict=True)]
