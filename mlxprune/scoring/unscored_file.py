"""Unscored file: the documents to which a model gave no finite score, beside its scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlxprune.data.index import Corpus
from mlxprune.files import PARTIAL, finish_file

NAMED = 5  # ids that a message gives
UNSCORED_SCHEMA = pa.schema(
    [("key", pa.uint64()), ("id", pa.string()), ("source", pa.string()), ("row", pa.int64())]
)


def unscored_path(scores: Path, fingerprint: str) -> Path:
    """Where the documents are listed to which a model gave no finite score: for people; the scores
    file knows their keys itself."""
    return scores.with_name(f"{scores.stem}.unscored-{fingerprint[:8]}.parquet")


def write_unscored(path: Path, corpus: Corpus, documents: np.ndarray) -> list[str]:
    """List documents in a file of its own; return some of their ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    named: list[str] = []
    first = at = 0
    with pq.ParquetWriter(partial, UNSCORED_SCHEMA) as out:
        for batch in corpus.documents():
            stop = int(np.searchsorted(documents, first + batch.num_rows))
            if stop > at:
                chosen = batch.take(pa.array(documents[at:stop] - first))
                columns = [chosen.column(n) for n in UNSCORED_SCHEMA.names]
                columns[2] = columns[2].cast(pa.string())
                out.write_batch(pa.record_batch(columns, schema=UNSCORED_SCHEMA))
                named += columns[1].to_pylist()[: max(0, NAMED - len(named))]
            at, first = stop, first + batch.num_rows
    finish_file(partial, path)
    return named


def unscored_metadata(keys: np.ndarray) -> dict[str, str]:
    """What a scores file says of documents that it lacks."""
    return {"unscored_keys": json.dumps(keys.tolist())} if len(keys) else {}


def unscored_keys(scores: Path) -> np.ndarray:
    """The keys of documents without a finite score, uint64, by the scores file itself."""
    told = (pq.read_schema(scores).metadata or {}) if scores.exists() else {}
    return np.array(json.loads(told.get(b"unscored_keys", b"[]")), np.uint64)
