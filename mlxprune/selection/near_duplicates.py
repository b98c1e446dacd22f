"""Near-duplicates: what lies at the two ends of the ranks.

The low end of perplexity holds near-duplicates and templates, the high end gibberish: this counts
how much of it, by shingles of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxprune.data.hashing import mix
from mlxprune.tokenization.token_file import Tokens

DOCUMENTS = 500  # looked at, from either end
SHINGLE = 8  # tokens
READ = 1024  # tokens of a document that are compared
HASHES, BAND = 32, 4  # MinHash values of a document, and how many must agree to call it close


def shingles(ids: np.ndarray) -> np.ndarray:
    """Hashes of every run of SHINGLE tokens, uint64; of a shorter text, one."""
    ids = ids[:READ].astype(np.uint64)
    width = min(SHINGLE, max(len(ids), 1))
    result = np.zeros(max(len(ids) - width + 1, 1), np.uint64)
    for offset in range(min(width, len(ids))):
        result = mix(result, 1) + ids[offset : offset + len(result)]
    return mix(result, 2)


def signature(hashes: np.ndarray) -> np.ndarray:
    """MinHash (Broder 1997): the smallest value under each of HASHES hash functions."""
    return np.array([mix(hashes, f"minhash {n}").min() for n in range(HASHES)])


def clusters(sets: list[np.ndarray]) -> np.ndarray:
    """A cluster number for every document: those that agree on a band of MinHash values are close,
    and so is what is close to them."""
    parent = list(range(len(sets)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    signatures = [signature(s) for s in sets]
    for first in range(0, HASHES, BAND):
        seen: dict[bytes, int] = {}
        for number, values in enumerate(signatures):
            other = seen.setdefault(values[first : first + BAND].tobytes(), number)
            parent[root(number)] = root(other)
    return np.array([root(i) for i in range(len(sets))])


@dataclass(frozen=True)
class EndOfRanks:
    """Figures on the documents at one end of the ranks. ``chosen``: (row, size of its cluster) of
    those to show, of near-duplicates one for all, the largest clusters first."""

    documents: int
    near_duplicates: int
    clusters: int
    largest_cluster: int
    repeated_shingles: float  # the mean share of a document's
    bytes_per_token: float
    chosen: list[tuple[int, int]]


def describe_ends(
    tokens: Tokens, documents: np.ndarray, sizes: np.ndarray, order: np.ndarray, samples: int
) -> dict[str, EndOfRanks]:
    """The ``lowest`` and the ``highest`` documents, with so many samples of each.

    ``order`` are rows of ``documents`` by rank; ``sizes`` bytes of their text.
    """
    count = min(DOCUMENTS, len(order) // 4 or len(order))
    ends = {"lowest": order[:count], "highest": order[::-1][:count]}
    return {name: _end(tokens, documents, sizes, rows, samples) for name, rows in ends.items()}


def _end(
    tokens: Tokens, documents: np.ndarray, sizes: np.ndarray, rows: np.ndarray, samples: int
) -> EndOfRanks:
    sets = [shingles(tokens.document(int(d))) for d in documents[rows]]
    repeated = [1 - len(np.unique(s)) / len(s) for s in sets]
    cluster = clusters(sets)
    found, members = np.unique(cluster, return_counts=True)
    size_of = dict(zip(found.tolist(), members.tolist(), strict=True))
    chosen: list[tuple[int, int]] = []
    seen = set()
    for at in sorted(range(len(rows)), key=lambda i: (-size_of[int(cluster[i])], i)):
        if int(cluster[at]) not in seen and len(chosen) < samples:
            seen.add(int(cluster[at]))
            chosen.append((int(rows[at]), size_of[int(cluster[at])]))
    read = max(int(tokens.lengths(documents[rows]).sum()), 1)
    return EndOfRanks(
        documents=len(rows),
        near_duplicates=int(members[members > 1].sum()),
        clusters=int((members > 1).sum()),
        largest_cluster=int(members.max()),
        repeated_shingles=float(np.mean(repeated)),
        bytes_per_token=float(sizes[rows].sum() / read),
        chosen=chosen,
    )
