"""Score parts: scores made elsewhere, in folders or patterns of files, as one Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlxprune.data.containers import values_of
from mlxprune.data.formats import DATA_SUFFIXES, format_of, suffix_of
from mlxprune.data.sources import Source
from mlxprune.errors import DataError, one_line
from mlxprune.scoring.score_file import GIVEN, SCORE_COLUMNS

BATCH = 65_536
KINDS = {
    "id": pa.string(), "num_tokens": pa.int64(), "num_bytes": pa.int64(), "domain": pa.string(),
}  # fmt: skip
FIX = "give a scores.parquet, a run that has been scored, or files of scores with ids"


def score_files(source: str) -> list[Path]:
    """The files that a path, folder or pattern of scores means, in order of name. Raises DataError
    where there is none."""
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        single = path / "scores.parquet"
        if single.exists():
            return [single]
        below = (p for p in path.rglob("*") if p.is_file() and _is_part(p))
        found = sorted(p for p in below if not _is_hidden(p.relative_to(path)))
    else:
        found = sorted(Path(p) for p in glob(source, recursive=True)) if has_magic(source) else []  # noqa: PTH207
        found = [p for p in found if p.is_file() and _is_part(p)]
    if not found:
        raise DataError("no scores here", source, FIX)
    return found


def _is_part(path: Path) -> bool:
    own = path.name.startswith((".", "_")) or ".unscored-" in path.name
    return suffix_of(path.name) in DATA_SUFFIXES and not own


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def is_one_file(files: list[Path], id_column: str) -> bool:
    """Whether the files can be read as they are."""
    return len(files) == 1 and id_column == "id" and format_of(files[0]).form == "parquet"


def gather_scores(files: list[Path], target: Path, column: str | None, id_column: str) -> Path:
    """All of the files as one Parquet: ``id``, the figure, and of ``num_tokens``, ``num_bytes`` and
    ``domain`` what every file has; of parts of our own all columns that are needed.

    Raises DataError: a file that is no table, a column that one of them lacks.
    """
    tables = [_table_in(path) for path in files]
    names = [_columns(table) for table in tables]
    ours = column is None and all(set(SCORE_COLUMNS) <= set(found) for found in names)
    figure = column or GIVEN
    if ours:
        wanted = [*SCORE_COLUMNS, "id", "domain", "truncated"]
        kinds = {**KINDS, "key": pa.uint64(), "nll_sum": pa.float64(), "truncated": pa.bool_()}
    else:
        for path, found in zip(files, names, strict=True):
            missing = [c for c in (id_column, figure) if c not in found]
            if missing:
                have = ", ".join(one_line(c) for c in found[:12])
                problem = f"no column {', '.join(missing)}"
                raise DataError(problem, str(path), f"name it with --id or --score; it has: {have}")
        wanted = [id_column, figure, "num_tokens", "num_bytes", "domain"]
        kinds = {**KINDS, id_column: pa.string(), figure: pa.float64()}
    wanted = [c for c in dict.fromkeys(wanted) if all(c in found for found in names)]
    renamed = {id_column: "id"} if not ours else {}
    schema = pa.schema([(renamed.get(c, c), kinds[c]) for c in wanted])
    with pq.ParquetWriter(target, schema) as out:
        for table in tables:
            try:
                for batch in _batches(table, wanted):
                    columns = [batch.column(c).cast(kinds[c]) for c in wanted]
                    out.write_table(pa.Table.from_arrays(columns, schema=schema))
            except (pa.ArrowException, TypeError, ValueError) as error:
                fix = "ids are text or whole numbers, scores are numbers, num_tokens whole numbers"
                problem = f"cannot read the scores: {one_line(error)}"
                raise DataError(problem, str(table.path), fix) from None
    if ours:
        keys = pq.read_table(target, columns=["key"]).column("key").to_numpy()
        if len(np.unique(keys)) < len(keys):
            fix = "give the scores of one reference, each part once"
            raise DataError("a document stands twice in these scores", str(files[0].parent), fix)
    return target


def _table_in(path: Path) -> Source:
    form = format_of(path)
    if form.form in ("", "text", "warc"):
        raise DataError(f"it is {form.what or 'no table of scores'}", str(path), form.fix or FIX)
    return Source(path, path.name, form.form, path.name, inside=form.inside)


def _columns(table: Source) -> list[str]:
    if table.form == "parquet":
        try:
            return list(pq.read_schema(table.path).names)
        except (pa.ArrowException, OSError) as error:
            problem = f"cannot read the scores: {one_line(error)}"
            raise DataError(problem, str(table.path), FIX) from None
    for _, _, value in values_of(table, whole=True):
        return [*value] if isinstance(value, dict) else []
    return []


def _batches(table: Source, wanted: list[str]) -> Iterator[pa.Table]:
    if table.form == "parquet":
        for batch in pq.ParquetFile(table.path).iter_batches(batch_size=BATCH, columns=wanted):
            yield pa.Table.from_batches([batch])
        return
    rows: list[list[Any]] = []
    for number, _, value in values_of(table, whole=True):
        if not isinstance(value, dict) or any(c not in value for c in wanted):
            raise ValueError(f"row {number} lacks {', '.join(wanted)}")
        rows.append([value[c] if value[c] != "" else None for c in wanted])
        if len(rows) == BATCH:
            yield _arrow(rows, wanted)
            rows = []
    if rows:
        yield _arrow(rows, wanted)


def _arrow(rows: list[list[Any]], wanted: list[str]) -> pa.Table:
    """Numbers that stand as text, as in CSV, are cast with the others."""
    columns = []
    for i in range(len(wanted)):
        values = [row[i] for row in rows]
        mixed = len({type(v) for v in values if v is not None}) > 1
        mixed |= any(type(v) is int and abs(v) >= 2**63 for v in values)
        columns.append(
            pa.array([None if v is None else str(v) for v in values] if mixed else values)
        )
    return pa.Table.from_arrays(columns, names=wanted)
