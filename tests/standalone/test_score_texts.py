"""Texts scored in this process, against the scores of the run whose model it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import mlxprune
from mlxprune.errors import DataError, UsageError
from mlxprune.run.folder import RunFolder


def test_texts_score_as_in_the_study(tiny_run: RunFolder) -> None:
    scores = pq.read_table(tiny_run.scores()).to_pylist()[:40]
    source = json.loads((tiny_run.corpus / "sources.json").read_text())[0]["path"]
    rows = [
        json.loads(line)
        for path in sorted(Path(source).parent.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    by_id = {row["id"]: row["text"] for row in rows}
    found = mlxprune.score_texts([by_id[row["id"]] for row in scores], tiny_run.reference())
    assert found.nll_sum == pytest.approx([row["nll_sum"] for row in scores], rel=1e-5)
    assert found.num_tokens.tolist() == [row["num_tokens"] for row in scores]
    assert found.num_bytes.tolist() == [row["num_bytes"] for row in scores]
    assert found.perplexity == pytest.approx([row["perplexity"] for row in scores], rel=1e-5)
    bits = found.nll_sum / np.log(2) / found.num_bytes
    assert found.bits_per_byte == pytest.approx(bits)


def test_texts_that_are_none(tiny_run: RunFolder, tmp_path: Path) -> None:
    found = mlxprune.score_texts(["", "the of and"], tiny_run.reference())
    assert found.num_tokens[0] == 0
    assert np.isnan(found.perplexity[0])
    assert np.isfinite(found.perplexity[1])
    assert len(mlxprune.score_texts([], tiny_run.reference()).nll_sum) == 0
    assert np.isnan(mlxprune.score_texts([""], tiny_run.reference()).bits_per_byte).all()
    with pytest.raises(UsageError, match="list of str"):
        mlxprune.score_texts("one text", tiny_run.reference())
    with pytest.raises(DataError):
        mlxprune.score_texts(["a"], tmp_path)
