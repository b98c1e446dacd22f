"""The manifest of a slice: what it is, how much it keeps, and what it does to the corpus."""

from __future__ import annotations

import numpy as np

from mlxprune.config.slices import Slice
from mlxprune.records import Json, SparseRecord
from mlxprune.scoring.score_file import Scores
from mlxprune.selection.composition import Agreement, DomainRow, LengthRow
from mlxprune.selection.metric import metric_values
from mlxprune.selection.ranking import Kept


class SliceManifest(SparseRecord):
    """manifest.json. Why a document was dropped follows from it and from the scores.

    Tokens are those of the final model's tokenizer; they and bytes are None where scores that were
    made elsewhere do not say. ``lowest`` and ``highest``: the ranked figure of what is kept.
    """

    name: str
    slice: Json  # as the configuration has it; of an absolute one with the share that it is
    seed: int
    kept_documents: int
    kept_tokens: int | None
    kept_bytes: int | None
    pool_documents: int
    pool_tokens: int | None
    pool_bytes: int | None
    lowest: float
    highest: float
    domains: list[DomainRow] | None = None
    lengths: list[LengthRow] | None = None
    agreement: Agreement | None = None  # of the references of cross-scoring
    missing: dict[str, int] | None = None  # documents on one side of a join only


def slice_manifest(
    scores: Scores,
    choice: Slice,
    kept: Kept,
    final_tokens: np.ndarray,
    seed: int,
    domains: list[DomainRow] | None = None,
    lengths: list[LengthRow] | None = None,
    agreement: Agreement | None = None,
    missing: dict[str, int] | None = None,
) -> SliceManifest:
    inside = metric_values(scores, choice, kept.mask)
    return SliceManifest(
        name=choice.label,
        slice=choice.model_dump(mode="json"),
        seed=seed,
        kept_documents=int(kept.mask.sum()),
        kept_tokens=int(final_tokens[kept.mask].sum()) if scores.has_tokens else None,
        kept_bytes=int(scores.num_bytes[kept.mask].sum()) if scores.has_bytes else None,
        pool_documents=len(scores),
        pool_tokens=int(final_tokens.sum()) if scores.has_tokens else None,
        pool_bytes=int(scores.num_bytes.sum()) if scores.has_bytes else None,
        lowest=float(inside.min()),
        highest=float(inside.max()),
        domains=domains,
        lengths=lengths,
        agreement=agreement,
        missing=missing,
    )
