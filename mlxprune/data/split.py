"""Split: reference / train (the pool) / validation / test, by hash against stored thresholds.

Equal texts have equal hashes, so they never stand on two sides; documents added later move none.
Test and validation are drawn by domain (``held_out``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from mlxprune.config.schema import Config
from mlxprune.data.hashing import mix
from mlxprune.data.held_out import (
    HELD_OUT_DOCUMENTS,
    HELD_OUT_TOKENS,
    Thresholds,
    choose_held_out,
    side_domains,
    side_positions,
    wanted_documents,
)
from mlxprune.data.index import Corpus
from mlxprune.data.mix import MixShare, within_mix
from mlxprune.records import Record, read_record, write_record

SPLIT_VERSION = 3
GLOBAL_THRESHOLDS = 2  # the version before, with one share for all domains: such runs keep theirs
TEST, VALIDATION, REFERENCE, TRAIN, LEFT_OUT = range(5)
PARTS = ("test", "validation", "reference", "train", "left_out")
REFERENCE_MARGIN = 1.1
REFERENCE_LIMIT = 0.5
POOL_WORTH = 2.0  # a pool of up to so many times the need stays whole


class PartSize(Record):
    """How large a part is."""

    documents: int
    bytes: int
    domains: dict[str, int]  # documents


class SplitSummary(Record):
    """split.json: the thresholds that were chosen, and what they made."""

    thresholds: Thresholds
    parts: dict[str, PartSize]
    beyond_need: int  # documents of the pool that split.pool: auto left out
    beyond_mix: int = 0  # documents that data.mix or weights left out
    beyond_limit: int = 0  # documents that data.limit left out
    mix: list[MixShare] = msgspec.field(default_factory=list)


@dataclass(frozen=True)
class CorpusSplit:
    part: np.ndarray  # uint8 per document of the corpus
    table: dict[str, PartSize]
    summary: SplitSummary

    def members(self, part: int) -> np.ndarray:
        return np.flatnonzero(self.part == part)


def bytes_per_token(config: Config) -> float:
    """An estimate for sizes before the tokenizer exists: larger vocabularies take longer bites.

    2.85 bytes at 4,096 pieces and 0.3 more with each doubling, as measured on a corpus of twelve
    English domains, code and mathematics among them; plain prose has more.
    """
    trained = config.tokenizer.train
    return bytes_of_vocabulary(trained.vocab_size if trained else 50_000)


def bytes_of_vocabulary(size: int) -> float:
    """Bytes a token, about, of a vocabulary of this size."""
    return min(4.6, max(1.5, 2.85 + 0.3 * (math.log2(size) - 12)))


@dataclass(frozen=True)
class DomainSizes:
    """Documents and bytes of text by domain: what shares are computed from."""

    documents: dict[str, float]
    bytes: dict[str, float]


def sizes_of(corpus: Corpus, within: np.ndarray) -> DomainSizes:
    """The sizes of the documents of a mask."""
    rows = corpus.index[within]
    count = len(corpus.domains)
    documents = np.bincount(rows["domain"], minlength=count)
    size = np.bincount(rows["domain"], weights=rows["bytes"], minlength=count)
    return DomainSizes(
        dict(zip(corpus.domains, documents.tolist(), strict=True)),
        dict(zip(corpus.domains, size.tolist(), strict=True)),
    )


def reference_share(config: Config, tokens: float) -> float:
    """The share of the hash's range that trains the reference, of a corpus of ``tokens``."""
    asked = config.split.reference
    if asked == "auto":
        trained = [r.tokens for r in config.scorers if not r.pretrained and not config.split.cross]
        need = max(trained, default=0) * REFERENCE_MARGIN / max(tokens, 1.0)
        return min(need, REFERENCE_LIMIT)
    return asked if isinstance(asked, float) else min(asked / max(tokens, 1.0), 0.9)


def expected_tokens(config: Config, sizes: DomainSizes) -> dict[str, float]:
    """Tokens of every part, from the sizes of the domains alone."""
    size = {name: n / bytes_per_token(config) for name, n in sizes.bytes.items()}
    total = sum(size.values())
    parts = {}
    for part in ("test", "validation"):
        asked = getattr(config.split, part)
        parts[part] = sum(
            size[name] * wanted_documents(asked, documents, size[name], total) / documents
            for name, documents in sizes.documents.items()
            if documents
        )
    parts["reference"] = reference_share(config, total) * total
    parts["train"] = total - sum(parts.values())
    return parts


def expected_read(config: Config, sizes: DomainSizes, part: str) -> float:
    """Tokens of the test or validation part that evaluation reads: 50 documents and 200k tokens of
    every domain, where there are so many."""
    size = {name: n / bytes_per_token(config) for name, n in sizes.bytes.items()}
    total, read = sum(size.values()), 0.0
    for name, documents in sizes.documents.items():
        if documents:
            each = size[name] / documents
            held = wanted_documents(getattr(config.split, part), documents, size[name], total)
            read += min(held * each, max(HELD_OUT_TOKENS, HELD_OUT_DOCUMENTS * each))
    return read


def tokens_taken(available: float, need: float | None) -> float:
    """Tokens of the pool that are taken of ``found``, where ``need`` are enough; None: all."""
    return available if need is None or available <= POOL_WORTH * need else need


def beyond_need(config: Config, corpus: Corpus, part: np.ndarray, need: float | None) -> np.ndarray:
    """The documents of the pool beyond ``need`` tokens: the last in seeded hash order."""
    members = np.flatnonzero(part == TRAIN)
    order = members[
        np.argsort(mix(corpus.index["side"][members], f"pool {config.seed}"), kind="stable")
    ]
    sums = np.cumsum(corpus.index["bytes"][order], dtype=np.int64) / bytes_per_token(config)
    found = float(sums[-1]) if len(sums) else 0.0
    wanted = tokens_taken(found, need)
    return order[:0] if wanted >= found else order[np.searchsorted(sums, wanted, side="right") :]


def folds(index: np.ndarray, seed: int, count: int) -> np.ndarray:
    """The fold of every document of cross-scoring, uint8: equal texts share one."""
    return (mix(index["side"], f"fold {seed}") % np.uint64(count)).astype(np.uint8)


def choose_thresholds(config: Config, corpus: Corpus, within: np.ndarray) -> Thresholds:
    """Where the parts end in the hash's range, by the documents of a mask."""
    index = corpus.index[within]
    each = bytes_per_token(config)
    deciding = side_domains(corpus.index)[within]
    test, validation = choose_held_out(config, index, deciding, corpus.domains, each)
    reference = reference_share(config, float(index["bytes"].sum()) / each)
    return Thresholds(test=test, validation=validation, reference=reference)


def assign(corpus: Corpus, seed: int, thresholds: Thresholds) -> np.ndarray:
    """The part of every document, uint8."""
    position = side_positions(corpus.index["side"], seed)
    by_domain = np.array([thresholds.of_domain(domain) for domain in corpus.domains])
    test, validation = by_domain[side_domains(corpus.index)].T
    part = np.full(len(position), TRAIN, np.uint8)
    part[position < validation + thresholds.reference] = REFERENCE
    part[position < validation] = VALIDATION
    part[position < test] = TEST
    return part


@dataclass(frozen=True)
class Taken:
    """What ``data.mix``, weights and ``data.limit`` leave in: ``within`` bool [documents]."""

    within: np.ndarray
    mix: list[MixShare]
    beyond_mix: int
    beyond_limit: int


def take_documents(config: Config, corpus: Corpus) -> Taken:
    """The mix first, of no more tokens than the limit; then the limit, in seeded hash order."""
    documents, tokens = config.data.limit_documents(), config.data.limit_tokens()
    most = None if tokens is None else tokens * bytes_per_token(config)
    within, shares = within_mix(config.data, corpus, config.seed, most)
    beyond_mix = len(corpus) - int(within.sum())
    if documents is None and tokens is None:
        return Taken(within, shares, beyond_mix, 0)
    order = np.argsort(mix(corpus.index["side"], f"limit {config.seed}"), kind="stable")
    order = order[within[order]]
    cut = len(order)
    if documents is not None:
        cut = min(cut, documents)
    if tokens is not None and not shares:
        sums = np.cumsum(corpus.index["bytes"][order], dtype=np.int64) / bytes_per_token(config)
        cut = min(cut, int(np.searchsorted(sums, tokens, side="right")))
    within[order[cut:]] = False
    return Taken(within, shares, beyond_mix, len(order) - cut)


def build(config: Config, corpus: Corpus, folder: Path, need: float | None) -> SplitSummary:
    """Write ``part.npy`` and ``split.json``; return the summary. ``need``: tokens of the pool that
    the budgets can use (``experiment.budgets.pool_need``); None: all of it."""
    taken = take_documents(config, corpus)
    thresholds = choose_thresholds(config, corpus, taken.within)
    part = assign(corpus, config.seed, thresholds)
    part[~taken.within] = LEFT_OUT
    spare = beyond_need(config, corpus, part, need)
    part[spare] = LEFT_OUT
    table = {}
    for code, name in enumerate(PARTS):
        rows = corpus.index[part == code]
        counts = np.bincount(rows["domain"], minlength=len(corpus.domains))
        table[name] = PartSize(
            documents=len(rows),
            bytes=int(rows["bytes"].sum()),
            domains={d: int(c) for d, c in zip(corpus.domains, counts, strict=True)},
        )
    np.save(folder / "part.npy", part)
    summary = SplitSummary(
        thresholds=thresholds,
        parts=table,
        beyond_need=len(spare),
        beyond_mix=taken.beyond_mix,
        beyond_limit=taken.beyond_limit,
        mix=taken.mix,
    )
    write_record(folder / "split.json", summary)
    return summary


def version_of(folder: Path) -> int:
    """Of the split that a run has, or of one that is made now."""
    try:
        summary = read_record(folder / "split.json", SplitSummary)
    except (OSError, ValueError):
        return SPLIT_VERSION
    return SPLIT_VERSION if isinstance(summary.thresholds.test, dict) else GLOBAL_THRESHOLDS


def open_split(folder: Path) -> CorpusSplit:
    summary = read_record(folder / "split.json", SplitSummary)
    part = np.load(folder / "part.npy", mmap_mode="r")
    return CorpusSplit(part, summary.parts, summary)


def too_few(table: dict[str, PartSize], part: str) -> list[str]:
    """Domains whose held-out part is too small to say much about them."""
    return [d for d, n in table[part].domains.items() if 0 < n < HELD_OUT_DOCUMENTS]


def without(table: dict[str, PartSize], part: str) -> list[str]:
    """Domains that have no document in a part."""
    return [d for d, n in table[part].domains.items() if not n]
