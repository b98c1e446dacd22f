"""Scores: one row a document, read from a file, and the figures that documents are ranked by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlxprune.errors import DataError, UsageError, closest, one_line
from mlxprune.keys import hash_text, mix
from mlxprune.slices import Difference, Slice

LN2 = float(np.log(2.0))
COLUMNS = ("key", "nll_sum", "num_tokens", "num_bytes")
GIVEN = "score"  # the column of a file made elsewhere

Values = Callable[[slice], np.ndarray]


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
        ours = column is None and all(c in have for c in COLUMNS)
        table = pq.read_table(
            path,
            columns=[
                c
                for c in dict.fromkeys(
                    (*COLUMNS, "truncated", "domain", "fold", "id", column or GIVEN)
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
        raise DataError(problem, str(path), "score again")
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
            f"columns {', '.join(COLUMNS)}, or id and {column}, are needed; there are {have}",
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


def places(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each wanted key stands among the keys, int64; -1 where it does not."""
    if len(keys) == 0:
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(keys)
    at = np.searchsorted(keys, wanted, sorter=order)
    found = order[np.minimum(at, len(keys) - 1)]
    result: np.ndarray = np.where(keys[found] == wanted, found, -1)
    return result


def of_slice(file_of: Callable[[str], Path], choice: Slice, first: str, early: str) -> Scores:
    """The scores that a slice of a run ranks by.

    ``file_of`` gives the file of a named reference, ``first`` is the reference of slices that name
    none, ``early`` the snapshot that metric progress compares with.
    """
    names = [choice.reference or first]
    if isinstance(choice.metric, Difference):
        names = [*choice.metric.difference]
    elif choice.metric == "progress":
        names.append(early)
    for name in names:
        if not file_of(name).exists():
            fix = "run the stage score with this slice in the configuration, or choose another"
            what = "an early copy (reference.snapshots)" if name in ("", early) else repr(name)
            raise DataError(f"the run has no scores of {what}", f"slice {choice.label}", fix)
    if isinstance(choice.metric, Difference):
        a, b = (file_of(name) for name in choice.metric.difference)
        own = read_scores(a)
        other = _aligned(own, b)
        partly = [s.truncated for s in (own, other) if s.truncated is not None]
        return replace(
            own,
            other=other.nll_sum,
            truncated=np.logical_or.reduce(partly) if partly else None,
            fold=other.fold if own.fold is None else own.fold,
        )
    own = read_scores(file_of(choice.reference or first))
    if choice.metric == "progress":
        return replace(own, other=_aligned(own, file_of(early)).nll_sum)
    return own


def _aligned(own: Scores, path: Path) -> Scores:
    other = read_scores(path)
    if not np.array_equal(other.key, own.key):
        raise DataError("its documents are other ones", str(path), "score the same pool with both")
    return other


def metric(
    scores: Scores, choice: Slice | str, where: slice | np.ndarray = slice(None)
) -> np.ndarray:
    """The figure that documents are ranked by, float64 (DESIGN, Score).

    perplexity: mean NLL in nats. bpb: bits per byte. adjusted: mean NLL minus its expectation at
    that length and window policy. difference: bits per byte under a minus under b. progress: mean
    NLL of the early checkpoint minus the final one's.
    """
    name = choice if isinstance(choice, str) else choice.metric
    if scores.given is not None:
        return scores.given[where]
    if isinstance(name, Difference):
        assert scores.other is not None
        return (scores.nll_sum[where] - scores.other[where]) / (LN2 * scores.num_bytes[where])
    if name == "progress":
        assert scores.other is not None
        return (scores.other[where] - scores.nll_sum[where]) / scores.num_tokens[where]
    if name == "bpb":
        return scores.nll_sum[where] / (LN2 * scores.num_bytes[where])
    mean = scores.nll_sum[where] / scores.num_tokens[where]
    if name == "adjusted":
        assert scores.curve is not None
        mean -= expected_nll(scores.num_tokens[where], scores.curve, scores.overlap)
    return mean


def expected_nll(num_tokens: np.ndarray, curve: np.ndarray, overlap: int) -> np.ndarray:
    """Mean NLL that documents of these lengths have if every position has the corpus' mean.

    ``curve`` float64 [context] is the mean NLL at each position of a window; windows after the
    first score positions ``overlap`` to the last.
    """
    context = len(curve)
    sums = np.concatenate([[0.0], np.cumsum(curve)])
    later, rest = np.divmod(np.maximum(num_tokens - context, 0), context - overlap)
    total = sums[np.minimum(num_tokens, context)]
    total = total + later * (sums[context] - sums[overlap])
    total += sums[overlap + rest] - sums[overlap]
    result: np.ndarray = total / num_tokens
    return result


def refuse_unknown(scores: Scores, choice: Slice) -> None:
    """Raises DataError: a metric that these scores cannot give, a domain that is not there."""
    where = f"slice {choice.label}"
    in_part = int(scores.truncated.sum()) if scores.truncated is not None else 0
    in_bytes = choice.metric == "bpb" or isinstance(choice.metric, Difference)
    if in_bytes and in_part:
        raise DataError(
            f"{in_part} documents were scored in part: their bits per byte are not known",
            f"{where}, metric bpb",
            "rank by perplexity, or score whole documents (score.long_documents: windows)",
        )
    if scores.given is not None and choice.metric != "perplexity":
        fix = "leave --metric away: these scores were made elsewhere and are ranked as they are"
        name = choice.metric if isinstance(choice.metric, str) else "difference"
        raise DataError(f"these scores have no {name}", where, fix)
    if choice.metric == "adjusted" and scores.curve is None:
        fix = "score again with this version; or rank by perplexity"
        raise DataError("these scores have no mean loss by position", where, fix)
    if choice.metric == "progress" and scores.other is None:
        fix = "give the run folder, with reference.snapshots"
        raise DataError("progress needs the scores of an early checkpoint", where, fix)
    if isinstance(choice.metric, Difference) and scores.other is None:
        raise DataError("a difference needs two references", where, "give the run folder")
    if not scores.has_tokens and (choice.min_tokens > 1 or choice.by == ("domain", "length")):
        fix = "add the column, or leave lengths out of the slice"
        raise DataError("these scores have no num_tokens", where, fix)
    needs_domain = choice.by != "corpus" or choice.named_domains() or choice.bounded
    if needs_domain and scores.domain is None:
        raise DataError("these scores name no domain", where, "give --data, or by: corpus")
    refuse_unknown_domains(choice, scores.domains)


def refuse_unknown_domains(choice: Slice, known: tuple[str, ...]) -> None:
    for name in sorted(choice.named_domains() - set(known)):
        where = f"slice {choice.label}: protect, floor, cap"
        raise UsageError(f"no domain is called {one_line(name)!r}", where, closest(name, known))


def values_of(scores: Scores, choice: Slice, seed: int | str) -> Values:
    """The ranked figure of any stretch of the documents. Of folds: the percentile in the fold,
    because different models scored them."""
    if scores.fold is None:
        return lambda part: metric(scores, choice, part)
    figures = metric(scores, choice)
    percentile = np.empty(len(scores))
    for fold in np.unique(scores.fold):
        mine = np.flatnonzero(scores.fold == fold)
        order = ranking(figures[mine], scores.key[mine], seed)
        percentile[mine[order]] = (np.arange(len(mine)) + 0.5) / len(mine)
    return lambda part: percentile[part]


def ranking(values: np.ndarray, keys: np.ndarray, seed: int | str) -> np.ndarray:
    """Documents from the lowest value to the highest; ties in seeded order."""
    return np.lexsort((keys, mix(keys, f"ties {seed}"), values))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two float64 arrays; equal values share their mean rank."""
    x, y = (_mean_ranks(v) for v in (a, b))
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / scale) if scale else float("nan")


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    result: np.ndarray = (ends - (counts + 1) / 2)[inverse]
    return result
