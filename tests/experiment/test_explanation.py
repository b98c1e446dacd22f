"""Why a document was kept or dropped, and what the model that scored it makes of every token."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from mlxprune.experiment.explanation import explain_document
from mlxprune.run.folder import RunFolder
from mlxprune.testing.runs import open_artifacts


def test_explain_tells_every_slice(several: RunFolder) -> None:
    held = open_artifacts(several)
    chosen = held.config
    table = pq.read_table(several.scores("long"), columns=["id", "num_tokens"]).to_pydict()
    for at, (identity, size) in enumerate(zip(table["id"], table["num_tokens"], strict=True)):
        found = explain_document(held, identity)
        assert [row.slice for row in found] == [c.label for c in chosen.slices]
        for row, choice in zip(found, chosen.slices, strict=True):
            kept = np.load(several.selection(choice.label) / "kept.npy")
            assert row.kept == bool(kept[at])
            assert row.reason.startswith("kept by" if kept[at] else "dropped by")
            inside = "inside" in row.reason
            if choice.name is None and size >= choice.min_tokens:
                assert inside == row.kept, row
        if at == 40:
            break
