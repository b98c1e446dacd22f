"""Why a document was kept or dropped, and what the model that scored it makes of every token."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from mlxprune.experiment.artifacts import open_run
from mlxprune.experiment.document_explanation import document_token_losses, explain_document
from mlxprune.run.folder import RunFolder
from mlxprune.scoring.score_file import read_scores


def test_explain_tells_every_slice(several: RunFolder) -> None:
    held = open_run(several.path)
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


@pytest.mark.parametrize("name", ["several", pytest.param("crossed", marks=pytest.mark.slow)])
def test_token_losses_are_of_the_model_that_scored_the_document(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Of several references the first, of cross-scoring the document's own fold: their sum is what
    stands in the scores that the slice ranks by."""
    run: RunFolder = request.getfixturevalue(name)
    held = open_run(run.path)
    primary = held.config.primary_reference.name
    scores = read_scores(run.scores(primary))
    for row in range(0, len(scores), len(scores) // 4):  # each loads the model
        losses = document_token_losses(held, f"#{int(held.pool[row])}")
        known = [loss for loss in losses.nll if loss is not None]
        assert sum(known) == pytest.approx(float(scores.nll_sum[row]), rel=1e-4)
        fold = None if scores.fold is None else int(scores.fold[row])
        assert losses.reference == (primary if fold is None else f"fold-{fold}")
