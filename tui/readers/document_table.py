"""The documents of a run as columns of numbers, filtered and sorted without their text.

Text, ids and sources are read for the rows that are looked at, never for all of them.
"""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mlxprune.config.schema import Config
from mlxprune.data import split
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.run.folder import RunFolder
from mlxprune.run.markers import is_current
from mlxprune.scoring.score_file import read_scores
from mlxprune_tui.readers.document_text import Texts

GROUPS_HELD = 8
SEARCH_SECONDS = 20.0
SEARCH_TOKENS = 2000
SORTS = ("corpus", "score", "tokens")


@dataclass(frozen=True)
class DocumentTable:
    """One row a document of the pool: ``nll`` mean in nats, NaN where it is not scored;
    ``kept`` by slice; ``numbers`` in the corpus."""

    nll: np.ndarray
    tokens: np.ndarray
    domain: np.ndarray
    domains: tuple[str, ...]
    numbers: np.ndarray
    kept: dict[str, np.ndarray]
    texts: Texts
    facts: Facts
    orders: dict[str, np.ndarray]  # rows by score and by length; without a score at the end

    @property
    def scored(self) -> bool:
        return bool(len(self.nll)) and bool(np.isfinite(self.nll[self.orders["score"][0]]))

    def __len__(self) -> int:
        return len(self.nll)


@dataclass(frozen=True)
class DocumentFacts:
    id: str
    source: str
    row: int


class Facts:
    """Id, source and row of documents, from the row groups that hold those asked for."""

    def __init__(self, run: RunFolder) -> None:
        self.file = pq.ParquetFile(run.corpus / "documents.parquet", memory_map=True)
        sizes = [
            self.file.metadata.row_group(i).num_rows
            for i in range(self.file.metadata.num_row_groups)
        ]
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        self.held: OrderedDict[int, Any] = OrderedDict()

    def of(self, document: int) -> DocumentFacts:
        group = int(np.searchsorted(self.starts, document, side="right")) - 1
        if group not in self.held:
            columns = ["id", "source", "row"]
            self.held[group] = self.file.read_row_group(group, columns=columns)
            if len(self.held) > GROUPS_HELD:
                self.held.popitem(last=False)
        table, at = self.held[group], document - int(self.starts[group])
        return DocumentFacts(*(table.column(name)[at].as_py() for name in ("id", "source", "row")))


def open_document_table(run: RunFolder, config: Config) -> DocumentTable:
    """The scored pool, or before it is scored the train part. Raises OSError and others where the
    run has no tokens yet."""
    texts = Texts(run)
    name = config.primary_reference.name
    if run.scores(name).exists():
        found = read_scores(run.scores(name))
        numbers = texts.numbers(found.key)
        domain = found.domain if found.domain is not None else np.zeros(len(found), np.int64)
        nll, tokens, domains = found.nll_sum / found.num_tokens, found.num_tokens, found.domains
    else:
        held = RunArtifacts(run, config)
        numbers, corpus = held.split.members(split.TRAIN), held.corpus
        domain = corpus.index["domain"][numbers].astype(np.int64)
        domains = tuple(corpus.domains)
        tokens = texts.tokens.lengths(numbers)
        nll = np.full(len(numbers), np.nan)
    kept = {}
    for choice in config.slices:
        place = run.selection(choice.label)
        if is_current(run, place):
            mask = np.load(place / "kept.npy", mmap_mode="r")
            if len(mask) == len(nll):
                kept[choice.label] = np.asarray(mask)
            else:  # another model could not score some of these
                pool = RunArtifacts(run, config).pool
                kept[choice.label] = np.isin(numbers, pool[np.asarray(mask)])
    codes, names = domain.astype(np.int64), domains or ("",)
    orders = {
        "score": np.argsort(nll, kind="stable"),
        "tokens": np.argsort(tokens, kind="stable"),
    }
    return DocumentTable(nll, tokens, codes, names, numbers, kept, texts, Facts(run), orders)


@dataclass(frozen=True)
class Query:
    """What is looked for. ``words`` are searched in the text, without regard to case."""

    domain: str | None = None
    low: float | None = None
    high: float | None = None
    least: int | None = None
    most: int | None = None
    kept: bool | None = None
    words: str = ""
    without: tuple[str, ...] = ()


CLAUSE = re.compile(r"(domain:\S+|nll[<>]=?-?[\d.]+|ppl[<>]=?[\d.]+|tokens[<>]=?\d+|kept|dropped)$")


def parse(text: str) -> Query:
    """``domain:code nll>4 nll<5 ppl<100 tokens>100 kept dropped``; other words are the text's.

    Raises ValueError with what is wrong.
    """
    query = Query()
    words: list[str] = []
    without: list[str] = []
    for word in text.split():
        if not CLAUSE.match(word):
            if re.fullmatch(r"[<>]=?|nll|ppl", word):
                raise ValueError("a condition has no spaces: write nll>4 or tokens<100")
            if re.match(r"(nll|ppl|tokens|kept|dropped|domain|id)[<>=:]", word):
                known = "domain:NAME nll>4 ppl<90 tokens>100 kept dropped"
                raise ValueError(f"{word!r} is no condition; known: {known}")
            if word.startswith("!") and len(word) > 1:
                without.append(word[1:].lower())
            else:
                words.append(word)
            continue
        if word.startswith("domain:"):
            query = replace(query, domain=word[7:])
        elif word in ("kept", "dropped"):
            query = replace(query, kept=word == "kept")
        else:
            figure, side, number = re.split(r"([<>])=?", word)
            try:
                value = float(number)
            except ValueError:
                raise ValueError(f"{number!r} is no number") from None
            if figure == "ppl":
                value = float(np.log(max(value, 1e-300)))
            if not math.isfinite(value):
                raise ValueError(f"{number[:20]} is too large")
            strict = "=" not in word
            if figure == "tokens":
                step = (1 if side == ">" else -1) if strict else 0
                limit = int(value) + step
                query = replace(query, least=limit) if side == ">" else replace(query, most=limit)
            else:
                value = (
                    float(np.nextafter(value, np.inf if side == ">" else -np.inf))
                    if strict
                    else value
                )
                query = replace(query, low=value) if side == ">" else replace(query, high=value)
    return replace(query, words=" ".join(words), without=tuple(without))


def mask_of(library: DocumentTable, query: Query, slice_name: str | None) -> np.ndarray:
    """The rows that a query leaves, bool, by figures alone; ``kept`` is by a slice.

    Raises ValueError: no domain begins with that name.
    """
    mask = np.ones(len(library), bool)
    if query.domain is not None:
        names = library.domains
        wanted = [i for i, d in enumerate(names) if d == query.domain]
        wanted = wanted or [i for i, d in enumerate(names) if d.startswith(query.domain)]
        if not wanted:
            raise ValueError(f"no domain begins with {query.domain!r}")
        mask &= np.isin(library.domain, wanted)
    if query.low is not None:
        mask &= library.nll >= query.low
    if query.high is not None:
        mask &= library.nll <= query.high
    if query.least is not None:
        mask &= library.tokens >= query.least
    if query.most is not None:
        mask &= library.tokens <= query.most
    if query.kept is not None and slice_name in library.kept:
        mask &= library.kept[slice_name] == query.kept
    return mask


def ordered(library: DocumentTable, mask: np.ndarray, sort: str, reverse: bool) -> np.ndarray:
    """The rows of a mask by score or length, equal ones as in the corpus; those without a score
    stand at the end, whichever way around."""
    if sort == "corpus":
        rows = np.flatnonzero(mask)
        return rows[::-1] if reverse else rows
    order = library.orders[sort]
    if reverse and sort == "score":
        known = int(np.isfinite(library.nll).sum())
        order = np.concatenate([order[:known][::-1], order[known:]])
    elif reverse:
        order = order[::-1]
    result: np.ndarray = order if mask.all() else order[mask[order]]
    return result


def search(
    library: DocumentTable, rows: np.ndarray, query: Query, wanted_still: Callable[[], bool]
) -> tuple[np.ndarray, str]:
    """The rows whose text holds the words as they stand, and none of those without, in order; and
    how much was searched: it ends after a while, or when nobody wants it."""
    wanted = " ".join(query.words.lower().split())
    until = time.monotonic() + SEARCH_SECONDS
    found: list[int] = []
    for at, row in enumerate(rows.tolist()):
        if time.monotonic() > until or not wanted_still():
            share = f"{100 * at / len(rows):.0f} % of"
            return np.array(found, np.int64), f"searched {share} {len(rows):,}"
        document = int(library.numbers[row])
        if document >= 0:
            text = library.texts.text(document, 0, SEARCH_TOKENS)
            plain = " ".join(text.lower().split())
            if wanted in plain and not any(word in plain for word in query.without):
                found.append(row)
    return np.array(found, np.int64), f"searched {len(rows):,}"
