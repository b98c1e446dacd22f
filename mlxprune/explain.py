"""Explain: why a document was kept or dropped, wherever in the run it ended up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlxprune import runs, selection, split
from mlxprune.config import Config
from mlxprune.errors import UsageError, one_line

PART_REASONS = {
    split.TEST: "held out: it is in the test part, which only the verdict reads",
    split.VALIDATION: "held out: it is in the validation part, which the curves read",
    split.REFERENCE: "not in the pool: it is in the part that trained the reference",
    split.LEFT_OUT: "left out by data.limit",
    split.TRAIN: "not scored yet, or without a token",
}


def explain(run: runs.RunFolder, config: Config, document_id: str) -> list[dict[str, Any]]:
    """One row for every document with this id. Raises UsageError when there is none."""
    folder = run.selection(config.selection.name())
    if runs.is_current(run, folder) and runs.is_current(run, run.scores()):
        found = selection.explain(run.scores(), folder, document_id)
        if found:
            return found
    if not runs.is_current(run, run.corpus):
        raise UsageError("the run has no corpus index yet", str(run.path), "run it first")
    path = run.corpus / "documents.parquet"
    ids = pq.read_table(path, columns=["id"]).column("id")
    rows = np.flatnonzero(pc.equal(ids, document_id).to_numpy())
    if not len(rows):
        fix = "ids are as in the data; scores/main.parquet lists those of the pool"
        raise UsageError(f"no document has the id {one_line(document_id)!r}", str(run.path), fix)
    table = pq.read_table(path, columns=["source", "row", "domain"]).take(rows)
    part = split.open_split(run.split).part if runs.is_current(run, run.split) else None
    result = []
    for at, row in zip(rows.tolist(), table.to_pylist(), strict=True):
        reason = PART_REASONS[int(part[at])] if part is not None else "the run is not split yet"
        result.append({**row, "kept": False, "reason": reason})
    return result
