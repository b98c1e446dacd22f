"""Score file: one row a document, and the figures that documents are ranked by."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlxprune.data.hashing import hash_text
from mlxprune.data.index import Corpus
from mlxprune.errors import DataError, one_line
from mlxprune.files import PARTIAL, finish_file
from mlxprune.records import SparseRecord, record_of
from mlxprune.run.markers import read_marker
from mlxprune.stats import spearman
from mlxprune.units import LN2

SCORE_METRIC_VERSION = 1
SCORE_COLUMNS = ("key", "nll_sum", "num_tokens", "num_bytes")
GIVEN = "score"  # the column of a file made elsewhere


class ScoreSummary(SparseRecord):
    """What a scores file holds; the marker beside it says so."""

    documents: int
    tokens: int
    mean_nll: float | None  # nats a token; None is not a number
    truncated: int  # documents that were scored in part
    unscored: int = 0  # documents without a finite score, which are in the file beside it
    bits_per_byte: float | None = None  # of all the text
    rank_correlation: float | None = None  # of the unigram scores with the first reference's


def summary_of_scores(path: Path) -> ScoreSummary | None:
    """None where the file is not there or not finished."""
    marker = read_marker(path)
    if marker is None or marker.summary is None:
        return None
    return record_of(marker.summary, ScoreSummary)


def score_schema(with_fold: bool = False) -> pa.Schema:
    """The columns of a score file; ``fold`` where several models have scored the documents."""
    return pa.schema(
        [
            ("key", pa.uint64()),
            ("id", pa.string()),
            ("source", pa.dictionary(pa.int32(), pa.string())),
            ("row", pa.int64()),
            ("domain", pa.dictionary(pa.int32(), pa.string())),
            ("nll_sum", pa.float64()),
            ("num_tokens", pa.int64()),
            ("num_bytes", pa.int64()),
            ("perplexity", pa.float64()),
            ("truncated", pa.bool_()),
            *([("fold", pa.uint8())] if with_fold else []),
        ]
    )


def write_scores(
    path: Path,
    corpus: Corpus,
    documents: np.ndarray,
    scores: np.ndarray,
    positions: np.ndarray,
    metadata: dict[str, str],
    fold: np.ndarray | None = None,
    against: np.ndarray | None = None,
) -> ScoreSummary:
    """Write one Parquet of exactly the scored documents, in canonical order.

    ``scores`` PART [documents], ``positions`` float64 [2, context]: loss sums and counts;
    ``fold`` uint8 [documents] says which model scored each, where there are several; ``against``
    float64 [documents] is a figure whose rank correlation with these mean losses is told, NaN where
    it is not known.
    """
    schema = score_schema(fold is not None).with_metadata(
        {**metadata, **position_metadata(positions), "metric_version": str(SCORE_METRIC_VERSION)}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    at = size = 0
    with pq.ParquetWriter(partial, schema) as out:
        first = 0
        for batch in corpus.documents():
            stop = int(np.searchsorted(documents, first + batch.num_rows))
            rows = scores[at:stop]
            chosen = batch.take(pa.array(documents[at:stop] - first))
            out.write_batch(
                pa.record_batch(
                    [
                        *(chosen.column(n) for n in ("key", "id", "source", "row", "domain")),
                        pa.array(rows["nll_sum"]),
                        pa.array(rows["num_tokens"]),
                        chosen.column("num_bytes"),
                        pa.array(_perplexity(rows)),
                        pa.array(rows["truncated"]),
                        *([pa.array(fold[at:stop])] if fold is not None else []),
                    ],
                    schema=schema,
                )
            )
            size += int(pc.sum(chosen.column("num_bytes")).as_py() or 0)
            at = stop
            first += batch.num_rows
    finish_file(partial, path)
    total = int(scores["num_tokens"].sum())
    return ScoreSummary(
        documents=len(scores),
        tokens=total,
        mean_nll=float(scores["nll_sum"].sum() / max(total, 1)),
        truncated=int(scores["truncated"].sum()),
        bits_per_byte=None if not size else float(scores["nll_sum"].sum()) / (LN2 * size),
        rank_correlation=None if against is None else _correlation(against, scores),
    )


def _perplexity(rows: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        result: np.ndarray = np.exp(rows["nll_sum"] / rows["num_tokens"])
    return result


def _correlation(against: np.ndarray, scores: np.ndarray) -> float:
    known = np.isfinite(against)
    mean = scores["nll_sum"][known] / scores["num_tokens"][known]
    return spearman(against[known], mean)


def position_metadata(positions: np.ndarray) -> dict[str, str]:
    """The mean loss at each position of a window, and over how many targets; nothing is rounded."""
    sums, counts = positions
    mean = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    return {
        "mean_nll_by_position": json.dumps(mean.tolist()),
        "targets_by_position": json.dumps(counts.astype(np.int64).tolist()),
    }


def positions_of(path: Path) -> np.ndarray:
    """float64 [2, context] of a scores file: loss sums and counts."""
    import pyarrow.parquet as pq

    told = pq.read_schema(path).metadata
    mean, counts = (
        np.array(json.loads(told[name]), np.float64)
        for name in (b"mean_nll_by_position", b"targets_by_position")
    )
    return np.stack([mean * counts, counts])


def window_start_of(path: Path) -> str:
    """What later windows began with when a scores file was written."""
    told = (pq.read_schema(path).metadata or {}) if path.exists() else {}
    return str(told.get(b"policy.start", b"last").decode())


@dataclass(frozen=True)
class Scores:
    """Columns of a scores file, one row a document: uint64, float64, int64, int64.

    What is None is not known. ``domain`` and ``fold`` are codes; ``other`` is the summed NLL under
    the other model of a difference; ``given`` is a figure made elsewhere; ``curve`` the mean NLL at
    each position of a window, with ``overlap`` unscored positions in later windows.
    """

    key: np.ndarray
    nll_sum: np.ndarray
    num_tokens: np.ndarray
    num_bytes: np.ndarray
    truncated: np.ndarray | None = None  # which documents were scored in part
    domain: np.ndarray | None = None
    fold: np.ndarray | None = None
    other: np.ndarray | None = None
    given: np.ndarray | None = None
    domains: tuple[str, ...] = ()
    curve: np.ndarray | None = None
    overlap: int = 0
    has_tokens: bool = True  # whether num_tokens is known, or 1 for want of it
    has_bytes: bool = True  # the same of num_bytes

    def __len__(self) -> int:
        return len(self.key)

    def take(self, where: np.ndarray) -> Scores:
        """The rows of an index or mask."""
        rows: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray) and field.name != "curve":
                rows[field.name] = value[where]
        return replace(self, **rows)


def read_scores(path: Path, column: str | None = None) -> Scores:
    """A scores file of ours, or one made elsewhere: a Parquet with ``id`` and ``score``.

    ``column`` names the figure of the latter. Raises DataError: not a scores file, a NaN or
    infinite score, a document without tokens or bytes, an id twice in a file made elsewhere.
    """
    try:
        have = pq.read_schema(path).names
        ours = column is None and all(c in have for c in SCORE_COLUMNS)
        table = pq.read_table(
            path,
            columns=[
                c
                for c in dict.fromkeys(
                    (*SCORE_COLUMNS, "truncated", "domain", "fold", "id", column or GIVEN)
                )
                if c in have and (c != "id" or not ours)
            ],
        )
    except (pa.ArrowException, OSError, KeyError) as error:
        fix = "give a scores.parquet of mlxprune score, a run folder, or a Parquet of id and score"
        raise DataError(f"cannot read the scores: {one_line(error)}", str(path), fix) from None
    if table.num_rows == 0:
        raise DataError("no scored document", str(path), "give a file with rows")
    try:
        return _ours(path, table) if ours else _elsewhere(path, table, column or GIVEN)
    except (pa.ArrowException, TypeError, ValueError) as error:  # a column of the wrong kind
        fix = "ids are text or whole numbers, scores are numbers, num_tokens whole numbers"
        raise DataError(f"cannot read the scores: {one_line(error)}", str(path), fix) from None


def _ours(path: Path, table: pa.Table) -> Scores:
    key = table.column("key").to_numpy()
    nll_sum = table.column("nll_sum").cast(pa.float64()).to_numpy()
    num_tokens, num_bytes = (_whole(table, name) for name in ("num_tokens", "num_bytes"))
    assert num_tokens is not None
    assert num_bytes is not None
    bad = int((~np.isfinite(nll_sum) | (num_tokens <= 0) | (num_bytes <= 0)).sum())
    if bad:
        problem = f"{bad} scores are not finite or have no token or byte"
        fix = "score them anew: run with --force score, or give another --out"
        raise DataError(problem, str(path), fix)
    told = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    curve = told.get("mean_nll_by_position")
    domain, domains = _coded(table, "domain")
    return Scores(
        key,
        nll_sum,
        num_tokens,
        num_bytes,
        _column(table, "truncated"),
        domain,
        _column(table, "fold"),
        domains=domains,
        curve=np.array(orjson.loads(curve), np.float64) if curve else None,
        overlap=int(told.get("policy.overlap", 0)),
    )


def _elsewhere(path: Path, table: pa.Table, column: str) -> Scores:
    missing = [c for c in ("id", column) if c not in table.column_names]
    if missing:
        have = ", ".join(one_line(c) for c in pq.read_schema(path).names[:12])
        raise DataError(
            f"no column {', '.join(missing)}",
            str(path),
            f"columns {', '.join(SCORE_COLUMNS)}, or id and {column}, are needed; there are {have}",
        )
    try:
        given = table.column(column).cast(pa.float64()).to_numpy()
    except pa.ArrowException as error:
        fix = "give a column of numbers"
        raise DataError(f"{column}: {one_line(error)}", str(path), fix) from None
    ids = table.column("id")
    bad = np.flatnonzero(~np.isfinite(given))
    if len(bad):
        some = ", ".join(one_line(ids[int(i)].as_py()) for i in bad[:3])
        problem = f"{len(bad)} of {len(given)} scores are not finite: {some}"
        raise DataError(problem, str(path), "mend them, or leave these documents out")
    if ids.null_count:
        raise DataError(f"{ids.null_count} rows have no id", str(path), "give every row one")
    texts = ids.cast(pa.string()).to_pylist()
    keys = np.fromiter((hash_text(t) for t in texts), np.uint64, len(texts))
    if len(np.unique(keys)) < len(keys):
        twice = pc.value_counts(ids)
        named = [v["values"] for v in twice.to_pylist() if v["counts"] > 1][:3]
        problem = f"an id stands twice: {', '.join(map(one_line, named))}"
        raise DataError(problem, str(path), "one row a document")
    domain, domains = _coded(table, "domain")
    num_tokens, num_bytes = (_whole(table, n) for n in ("num_tokens", "num_bytes"))
    ones = np.ones(len(keys), np.int64)
    for name, counts in (("num_tokens", num_tokens), ("num_bytes", num_bytes)):
        if counts is not None and (counts <= 0).any():
            raise DataError(f"{name} is not above 0 everywhere", str(path), "mend it")
    return Scores(
        keys,
        given * ones,
        ones if num_tokens is None else num_tokens,
        ones if num_bytes is None else num_bytes,
        domain=domain,
        given=given,
        domains=domains,
        has_tokens=num_tokens is not None,
        has_bytes=num_bytes is not None,
    )


def has_column(path: Path, name: str) -> bool:
    return name in pq.read_schema(path).names


def _column(table: pa.Table, name: str) -> np.ndarray | None:
    if name not in table.column_names:
        return None
    column = table.column(name)
    if column.null_count:
        raise DataError(f"{column.null_count} rows have no {name}", "the scores", "mend them")
    result: np.ndarray = column.to_numpy()
    return result


def _whole(table: pa.Table, name: str) -> np.ndarray | None:
    """A column of whole numbers, int64; what is none is refused, never rounded."""
    if name not in table.column_names:
        return None
    plain = table.set_column(
        table.column_names.index(name), name, table.column(name).cast(pa.int64())
    )
    return _column(plain, name)


def _coded(table: pa.Table, name: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Codes in the order of the sorted names, so that no file order matters."""
    if name not in table.column_names:
        return None, ()
    column = table.column(name)
    plain = column.cast(pa.string()) if not pa.types.is_dictionary(column.type) else column
    coded = plain.combine_chunks().dictionary_encode() if plain is not column else column
    coded = coded.unify_dictionaries().combine_chunks() if plain is column else coded
    if isinstance(coded, pa.ChunkedArray):  # pyarrow keeps no chunk of an empty table
        coded = coded.chunk(0)
    names = ["(none)" if n is None else str(n) for n in coded.dictionary.to_pylist()]
    codes = coded.indices.cast(pa.int64()).fill_null(len(names)).to_numpy(zero_copy_only=False)
    if coded.null_count:
        names.append("(none)")
    place = {name: i for i, name in enumerate(sorted(set(names)))}
    recode = np.array([place[n] for n in names], np.int64)
    return recode[codes], tuple(place)


def places_of(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each wanted key stands among the keys, int64; -1 where it does not."""
    if len(keys) == 0:
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(keys)
    at = np.searchsorted(keys, wanted, sorter=order)
    nearest = order[np.minimum(at, len(keys) - 1)]
    result: np.ndarray = np.where(keys[nearest] == wanted, nearest, -1)
    return result
