"""Samples: documents to read, at percentiles of the ranks, around the cuts and at both ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxprune.config.slices import Slice
from mlxprune.experiment.artifacts import RunArtifacts
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.near_duplicates import EndOfRanks, describe_ends
from mlxprune.selection.ranking import rank_order, ranked_values

PERCENTILES = (1, 25, 50, 75, 99)
CHARACTERS = 600


@dataclass(frozen=True)
class SampleDocument:
    perplexity: float
    tokens: int
    domain: str
    kept: bool
    near_duplicates: int
    text: str  # its beginning
    cut: bool  # whether there is more of it


@dataclass(frozen=True)
class Samples:
    """Documents to read by where they stand in the ranks, and figures on both ends."""

    groups: dict[str, list[SampleDocument]]
    ends: dict[str, EndOfRanks]


def sample_documents(
    held: RunArtifacts, choice: Slice, scores: Scores, kept: np.ndarray
) -> Samples:
    corpus, pool, seed = held.corpus, held.pool, held.config.seed
    values = ranked_values(scores, choice, seed)(slice(None))
    order = rank_order(values, scores.key, seed)
    count = held.config.report.samples
    ends = describe_ends(held.tokens(), pool, scores.num_bytes, order, count)
    low, high = (f"the {name} {end.documents:,}" for name, end in ends.items())
    chosen = [(low, row, near) for row, near in ends["lowest"].chosen]
    chosen += [(label, int(order[r]), 1) for label, r in _places(kept[order], count)]
    chosen += [(high, row, near) for row, near in ends["highest"].chosen]
    wanted = np.zeros(len(corpus), bool)
    wanted[pool[[row for _, row, _ in chosen]]] = True
    text_of = dict(corpus.texts(wanted))
    groups: dict[str, list[SampleDocument]] = {}
    for label, row, near in chosen:
        text = text_of[int(pool[row])]
        document = SampleDocument(
            perplexity=float(np.exp(scores.nll_sum[row] / scores.num_tokens[row])),
            tokens=int(scores.num_tokens[row]),
            domain=corpus.domains[int(corpus.index["domain"][pool[row]])],
            kept=bool(kept[row]),
            near_duplicates=near - 1,
            text=visible_text(text[:CHARACTERS]),
            cut=len(text) > CHARACTERS,
        )
        groups.setdefault(label, []).append(document)
    return Samples(groups, ends)


def _places(ordered: np.ndarray, count: int) -> list[tuple[str, int]]:
    """(label, rank) of the documents to show; ``ordered`` says by rank what is kept."""
    places = [
        (f"{p}th percentile".replace("1th", "1st"), round(p / 100 * (len(ordered) - 1)))
        for p in PERCENTILES
    ]
    cuts = (np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist()
    for at in cuts if len(cuts) <= 2 else []:  # a slice by group has no cut in the one rank order
        places.append(("just below a cut", at - 1 - count // 2))
        places.append(("just above a cut", at + count // 2))
    chosen = []
    for label, middle in places:
        first = max(0, min(middle - count // 2, len(ordered) - count))
        chosen += [(label, r) for r in range(first, min(first + count, len(ordered)))]
    return chosen


def visible_text(text: str) -> str:
    """Text with what cannot be seen, or reorders a line, written out as escapes."""
    return "".join(
        c if c in "\n\t" or c.isprintable() else ascii(c)[1:-1] for c in text.replace("\r\n", "\n")
    )
