"""Held out: how much of every domain goes to the test and to the validation part.

Drawn by domain, in seeded hash order inside it, so that every domain has documents where it can. A
text that stands in two domains follows the first of them.
"""

from __future__ import annotations

import numpy as np

from mlxprune.config.schema import Config
from mlxprune.data.hashing import mix
from mlxprune.records import Record

HELD_OUT_LIMIT = 0.05  # of any domain, for validation and for test
HELD_OUT_DOCUMENTS = 50  # that a domain aims at, and so many tokens
HELD_OUT_TOKENS = 200_000
LEAST_DOCUMENTS = 5  # of a domain that has HELD_OUT_DOCUMENTS; fewer do not stand alone in macro


class Thresholds(Record):
    """What stands in split.json: of every domain the positions in the hash's range, 0 to 1, below
    which a document is for test, and between which for validation; then the share of the range that
    trains the reference. Splits of version 2 have one share of all domains for each part."""

    test: dict[str, float] | float
    validation: dict[str, float] | float
    reference: float

    def of_domain(self, name: str) -> tuple[float, float]:
        """(end of test, end of validation) for the documents of a domain."""
        if isinstance(self.test, dict) and isinstance(self.validation, dict):
            return self.test.get(name, 0.0), self.validation.get(name, 0.0)
        assert isinstance(self.test, float)
        assert isinstance(self.validation, float)
        return self.test, self.test + self.validation


def wanted_documents(asked: object, documents: float, tokens: float, total: float) -> float:
    """Documents of a domain for one of the parts: ``asked`` as the configuration has it, of so many
    ``documents`` and ``tokens`` of the domain; ``total``: tokens of the corpus."""
    if documents <= 0:
        return 0.0
    if isinstance(asked, float):
        return documents * asked
    if isinstance(asked, int):
        return documents * min(asked / max(total, 1.0), 0.9)
    aim = max(HELD_OUT_DOCUMENTS, HELD_OUT_TOKENS * documents / max(tokens, 1.0))
    least = LEAST_DOCUMENTS if documents >= HELD_OUT_DOCUMENTS else 0
    return min(aim, max(HELD_OUT_LIMIT * documents, least))


def choose_held_out(
    config: Config,
    index: np.ndarray,
    deciding: np.ndarray,
    domains: list[str],
    bytes_per_token: float,
) -> tuple[dict[str, float], dict[str, float]]:
    """The thresholds (test, validation) of every domain of an index of documents; ``deciding``
    [documents] is the domain that decides on each (``side_domains``)."""
    sides, first, inverse, counts = np.unique(
        index["side"], return_index=True, return_inverse=True, return_counts=True
    )
    size = np.bincount(inverse, weights=index["bytes"], minlength=len(sides))
    codes = deciding[first]
    position = side_positions(sides, config.seed)
    total = float(size.sum()) / bytes_per_token
    test: dict[str, float] = {}
    validation: dict[str, float] = {}
    for code, name in enumerate(domains):
        mine = np.flatnonzero(codes == code)
        mine = mine[np.argsort(position[mine], kind="stable")]
        documents, tokens = float(counts[mine].sum()), float(size[mine].sum()) / bytes_per_token
        sums, edges, owed = np.cumsum(counts[mine]), np.append(position[mine], 1.0), 0.0
        for part, chosen in (("test", test), ("validation", validation)):
            owed += wanted_documents(getattr(config.split, part), documents, tokens, total)
            # The edge is the first document that is not taken: which of both is nearer.
            taken = int(np.searchsorted(sums, int(owed + 0.5), side="left") + 1) if sums.size else 0
            taken = taken if owed >= 0.5 else 0
            chosen[name] = float(edges[min(taken, len(mine))])
    return test, validation


def side_positions(sides: np.ndarray, seed: int) -> np.ndarray:
    """float64 in [0, 1): where the seed puts what shares a side of the split."""
    result: np.ndarray = mix(sides, f"split {seed}").astype(np.float64) / 2.0**64
    return result


def side_domains(index: np.ndarray) -> np.ndarray:
    """int64 [documents]: the domain that decides on each, that of the first with its text."""
    _, first, inverse = np.unique(index["side"], return_index=True, return_inverse=True)
    result: np.ndarray = index["domain"][first][inverse].astype(np.int64)
    return result
