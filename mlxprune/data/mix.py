"""Mix: a corpus composed to shares of its domains or of its sources.

The largest corpus of those shares is taken: the group that is scarcest for its share stays whole,
and of the others the first documents in seeded hash order. No document is repeated.

More documents in one group change nothing inside the others but where they stop, and inside it they
only take their places in the order: what the order says of two documents stays as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxprune.config.data import Data
from mlxprune.data.hashing import mix
from mlxprune.data.index import Corpus
from mlxprune.errors import DataError, closest, one_line
from mlxprune.records import Record


class MixShare(Record):
    """A domain or source of a mix: its share, and what it has and gives."""

    name: str
    share: float
    documents: int
    bytes: int
    used_documents: int
    used_bytes: int


@dataclass(frozen=True)
class Groups:
    """What a mix weighs: ``names`` with their ``wanted`` shares, of the sum 1; 0 for domains that
    the mix does not name."""

    names: list[str]
    wanted: np.ndarray


def groups_of(data: Data, domains: list[str]) -> Groups:
    """Raises DataError: a domain of the mix that there is not."""
    if data.mix is None:
        wanted = np.array([entry.weight or 0.0 for entry in data.paths])
        return Groups([entry.path for entry in data.paths], wanted / wanted.sum())
    for name in data.mix:
        if name not in domains:
            fix = closest(name, domains)
            raise DataError(f"no domain is called {one_line(name)!r}", "data.mix", fix)
    wanted = np.array([float(data.mix.get(name, 0.0)) for name in domains])
    return Groups(domains, wanted / wanted.sum())


def used_bytes(groups: Groups, available: np.ndarray, most: float | None = None) -> np.ndarray:
    """Bytes to use of each group, float64, so that they are in the wanted shares: as many as there
    are, and together no more than ``most``. Raises DataError where a group has none."""
    some = groups.wanted > 0
    for i in np.flatnonzero(some & (available <= 0)).tolist():
        fix = "check its files, or leave it out of the mix"
        raise DataError(f"{one_line(groups.names[i])} has no document", "data.mix", fix)
    total = float((available[some] / groups.wanted[some]).min())
    return groups.wanted * min(total, total if most is None else most)


def group_codes(data: Data, corpus: Corpus) -> np.ndarray:
    """The group of every document, int64."""
    if data.mix is not None:
        return corpus.index["domain"].astype(np.int64)
    entries = np.array([source.entry for source in corpus.sources], np.int64)
    return entries[corpus.index["file"]]


def within_mix(
    data: Data, corpus: Corpus, seed: int, most: float | None = None
) -> tuple[np.ndarray, list[MixShare]]:
    """Which documents a mix takes, and what it takes of every group; all where there is no mix."""
    result = np.ones(len(corpus), bool)
    if not data.mixes:
        return result, []
    groups, codes = groups_of(data, corpus.domains), group_codes(data, corpus)
    size = corpus.index["bytes"].astype(np.float64)
    count = len(groups.names)
    available = np.bincount(codes, weights=size, minlength=count)
    target = used_bytes(groups, available, most)
    order = np.lexsort((corpus.index["key"], mix(corpus.index["side"], f"mix {seed}"), codes))
    starts = np.searchsorted(codes[order], np.arange(count + 1))
    shares = []
    for i, name in enumerate(groups.names):
        members = order[starts[i] : starts[i + 1]]
        ends = np.cumsum(size[members])
        taken = ends - size[members] / 2 < target[i] * (1 + 1e-12)
        result[members[~taken]] = False
        shares.append(
            MixShare(
                name=name,
                share=float(groups.wanted[i]),
                documents=len(members),
                bytes=int(available[i]),
                used_documents=int(taken.sum()),
                used_bytes=int(size[members[taken]].sum()),
            )
        )
    return result, shares


def mix_sentence(shares: list[MixShare]) -> str:
    """What a mix takes of every group, and what it leaves."""
    parts = [
        f"{one_line(s.name)} {s.share:.1%} ({s.used_bytes / 1e6:,.1f} of {s.bytes / 1e6:,.1f} MB)"
        for s in shares
        if s.share
    ]
    used, there = sum(s.used_documents for s in shares), sum(s.documents for s in shares)
    unnamed = sum(s.documents for s in shares if not s.share)
    words = f"the mix takes {used:,} of {there:,} documents: {', '.join(parts[:12])}"
    words += ", ..." if len(parts) > 12 else ""
    return f"{words}; {unnamed:,} are of domains that it does not name" if unnamed else words
