"""Formats: what an export writes of each document, and into which files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlxprune.data.original_rows import (
    LINES_TOGETHER,
    DocumentRows,
    document_rows,
    json_line,
    keys_for,
    raw_rows,
)
from mlxprune.data.output_file import SUFFIXES, CsvFile, LinesFiles, OutputFile, ParquetFile
from mlxprune.data.rows import MISSING, value_at
from mlxprune.data.tables import BATCH_ROWS
from mlxprune.errors import UsageError, closest, one_line
from mlxprune.exporting.documents import KEPT, POOL, ExportSource
from mlxprune.exporting.known_columns import (
    KNOWN,
    RANK_COLUMNS,
    KnownColumns,
    refuse_unknown,
)
from mlxprune.exporting.own_columns import TableShape, shape_of

COMPUTED = ("perplexity", "bits_per_byte", "num_tokens", *RANK_COLUMNS)  # beside rows: `scores`
COLUMNAR = ("parquet", "arrow")
DEFAULT_CODEC = {"jsonl": "zstd", "dolma": "gzip", "data-juicer": "none", "mlx-lm": "none"}
# Parts that a format is of where nobody says which: attributes are those of all documents.
DEFAULT_PART = {"scores": POOL, "dolma": POOL, "data-juicer": POOL, "bundle": POOL}
TABLES = ("parquet", "hf", "scores")
FORMATS = ("jsonl", *TABLES[:2], "mlx-lm", "dolma", "data-juicer", "ids", "scores", "bundle")
RENAMED = "row_"  # before a field of a row whose name a column of ours has
KINDS = {
    "text": pa.large_string(), "id": pa.string(), "domain": pa.string(), "source": pa.string(),
    "row": pa.int64(), "num_bytes": pa.int64(), "num_tokens": pa.int64(), "rank": pa.int64(),
    "kept": pa.bool_(),
}  # fmt: skip
NAMING = ("id", "text", "domain")  # what every document has, whatever fields its row has
TAGGER = "mlxprune"  # the name of the attributes


@dataclass(frozen=True)
class Format:
    """``make`` turns rows into a batch, ``opened`` begins the files of a shard, ``names`` theirs
    with ``{shard}`` for its number."""

    names: tuple[str, ...]
    make: Callable[[DocumentRows], pa.RecordBatch]
    opened: Callable[[list[Path]], OutputFile]
    columns: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows_together: int = LINES_TOGETHER  # of files of lines, in one batch


def usual_part(name: str) -> str:
    """The part that a format exports where none is named. Raises UsageError: no such format."""
    if name not in FORMATS:
        raise UsageError(f"unknown format {one_line(name)!r}", "--to", closest(name, FORMATS))
    return DEFAULT_PART.get(name, KEPT)


def format_for(
    name: str,
    source: ExportSource,
    documents: np.ndarray,
    codec: str | None,
    columns: list[str] | None,
) -> Format:
    """The format of this name for these documents. Raises UsageError: columns that there are not, a
    codec where files have their own."""
    if codec is not None and (name in TABLES or codec not in SUFFIXES):
        fix = "give zstd, gzip or none"
        if name in TABLES:
            fix = "leave --compress away: Parquet has its own"
        raise UsageError(f"{name} cannot be packed by {one_line(codec)}", "--compress", fix)
    if columns is not None and name not in (*TABLES, "jsonl", "ids"):
        fix = "export jsonl or parquet to choose columns"
        raise UsageError(f"{name} has columns of its own", "--columns", fix)
    packed = codec or DEFAULT_CODEC.get(name, "none")
    suffix = f".jsonl{SUFFIXES[packed]}"

    def lines(paths: list[Path]) -> OutputFile:
        return LinesFiles(paths, packed)

    if name == "jsonl" and columns is None:
        return Format((f"part-{{shard}}{suffix}",), _own_lines, lines)
    if name == "jsonl":
        return _chosen_lines(source, documents, columns or [], lines, suffix)
    if name == "mlx-lm":
        return Format((f"{{portion}}{suffix}",), _text_lines, lines, ["text"])
    if name == "dolma":
        return _dolma(source, documents, lines, suffix)
    if name == "data-juicer":
        return _data_juicer(source, documents, lines, suffix)
    if name == "ids":
        return _ids(source, documents, columns or ["id", "source", "row"], packed)
    return _table(name, source, documents, columns)


def _line_batch(*columns: Sequence[Any]) -> pa.RecordBatch:
    names = [str(number) for number in range(len(columns))]
    return pa.record_batch([pa.array(c, pa.large_binary()) for c in columns], names=names)


def _own_lines(rows: DocumentRows) -> pa.RecordBatch:
    lines: list[Any] = rows.raw.bare_lines()  # all are documents, so none is bad
    offsets = np.zeros(len(lines) + 1, np.int64)
    np.cumsum([len(line) + 1 for line in lines], out=offsets[1:])
    data = [None, pa.py_buffer(offsets), pa.py_buffer(b"\n".join([*lines, b""]))]
    column = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(lines), data)
    return pa.record_batch([column], names=["0"])


def _text_lines(rows: DocumentRows) -> pa.RecordBatch:
    return _line_batch([json_line({"text": text}) for text in rows.texts])


def _chosen_lines(
    source: ExportSource,
    documents: np.ndarray,
    columns: list[str],
    lines: Callable[[list[Path]], OutputFile],
    suffix: str,
) -> Format:
    """Objects of the chosen columns: the row's own field of that name, else what is known."""
    known = KnownColumns(source, documents, [name for name in columns if name in KNOWN])

    def make(rows: DocumentRows) -> pa.RecordBatch:
        values = rows.raw.all_values()
        beside = {name: known.of(name, rows).to_pylist() for name in columns if name in KNOWN}
        made = []
        for i, value in enumerate(values):
            row = {}
            for name in columns:
                own = value_at(value, name)
                if own is not MISSING:
                    row[name] = own
                elif name in beside:
                    row[name] = beside[name][i]
            made.append(json_line(row))
        return _line_batch(made)

    refuse_unknown(columns, _own_names(source, documents))
    return Format((f"part-{{shard}}{suffix}",), make, lines, columns)


def _own_names(source: ExportSource, documents: np.ndarray) -> set[str]:
    """The fields of the first rows of every file, dotted ones among them."""
    names: set[str] = set()
    for one in _files_of(source, documents):
        for raw in raw_rows(one):
            for value in raw.all_values():
                if isinstance(value, dict):
                    names |= {str(key) for key in value}
                    names |= {
                        f"{k}.{j}" for k, v in value.items() if isinstance(v, dict) for j in v
                    }
            break
    return names


def _files_of(source: ExportSource, documents: np.ndarray) -> list[Any]:
    return [source.corpus.sources[i] for i in np.unique(source.corpus.index["file"][documents])]


def _dolma(
    source: ExportSource,
    documents: np.ndarray,
    lines: Callable[[list[Path]], OutputFile],
    suffix: str,
) -> Format:
    """Documents, and attributes of them in a file of the same name: a span over the whole text in
    characters, and a figure."""
    figures = ("perplexity", "bits_per_byte")
    ranked = ("position",) if source.manifest is not None else ()
    names = [*figures, *ranked]
    known = KnownColumns(source, documents, ["id", "domain", *names])

    def make(rows: DocumentRows) -> pa.RecordBatch:
        columns = {n: known.of(n, rows).to_pylist() for n in ("id", "domain", *names)}
        values = rows.raw.all_values()
        texts, attributes = [], []
        for i, (text, value) in enumerate(zip(rows.texts, values, strict=True)):
            kept = {k: v for k, v in value.items() if v != text and k not in ("id", "text")}
            row = {"id": columns["id"][i], "text": text, "source": columns["domain"][i]}
            texts.append(json_line({**row, "metadata": kept}))
            spans = {
                f"{TAGGER}__{TAGGER}__{name}": [[0, len(text), columns[name][i]]] for name in names
            }
            attributes.append(json_line({"id": columns["id"][i], "attributes": spans}))
        return _line_batch(texts, attributes)

    places = (f"documents/part-{{shard}}{suffix}", f"attributes/{TAGGER}/part-{{shard}}{suffix}")
    return Format(places, make, lines, names)


def _data_juicer(
    source: ExportSource,
    documents: np.ndarray,
    lines: Callable[[list[Path]], OutputFile],
    suffix: str,
) -> Format:
    """Rows with a text under ``text`` and their stats beside it, where Data-Juicer's operators look
    for them: a file of stats of its own would be read as documents."""
    names = ["id", "perplexity", "num_tokens"]
    known = KnownColumns(source, documents, names)

    def make(rows: DocumentRows) -> pa.RecordBatch:
        columns = {n: known.of(n, rows).to_pylist() for n in names}
        made = []
        for i, (text, value) in enumerate(zip(rows.texts, rows.raw.all_values(), strict=True)):
            stats = {
                "perplexity": columns["perplexity"][i],
                "num_token": columns["num_tokens"][i],
                "text_len": len(text),
            }
            named = {"id": columns["id"][i], **value, "text": text, "__dj__stats__": stats}
            made.append(json_line(named))
        return _line_batch(made)

    return Format((f"part-{{shard}}{suffix}",), make, lines, names)


def _ids(source: ExportSource, documents: np.ndarray, columns: list[str], codec: str) -> Format:
    refuse_unknown(columns, set())
    known = KnownColumns(source, documents, columns)

    def make(rows: DocumentRows) -> pa.RecordBatch:
        return pa.record_batch([known.of(name, rows) for name in columns], names=columns)

    def opened(paths: list[Path]) -> OutputFile:
        return CsvFile(paths[0], columns, codec)

    return Format((f"ids-{{shard}}.csv{SUFFIXES[codec]}",), make, opened, columns)


# --- tables -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    """A column of a table that is written: a field of the rows, or what is ``known`` of them."""

    name: str  # of the field, or of what is known
    known: bool
    written: str
    filled: bool = False  # a field that some files lack: what is known takes its place there
    as_json: bool = False  # values of several types

    def kind(self, shape: TableShape) -> pa.DataType:
        if self.known:
            return KINDS.get(self.name, pa.float64())
        own = shape.schema().field(self.name).type
        return pa.large_string() if self.filled and not _is_text_type(own) else own

    def of(self, own: dict[str, pa.Array], known: KnownColumns, rows: DocumentRows) -> pa.Array:
        if self.known:
            return known.of(self.name, rows)
        mine = own[self.name]
        if self.filled and self.as_json:  # a name is told plain
            mine = pa.array([_plain_text(cell) for cell in mine.to_pylist()], pa.large_string())
        if not self.filled or not mine.null_count:
            return mine
        kind = mine.type if _is_text_type(mine.type) else pa.large_string()
        return pc.coalesce(mine.cast(kind), known.of(self.name, rows).cast(kind))


def _plain_text(cell: str | None) -> str | None:
    """A JSON text that is a string as the string; others as they are."""
    return str(json.loads(cell)) if cell is not None and cell.startswith('"') else cell


def _table(
    name: str, source: ExportSource, documents: np.ndarray, chosen: list[str] | None
) -> Format:
    """Rows as Parquet: with the columns of the files; for ``hf`` with id, text and domain under
    these names, for ``scores`` with figures beside them."""
    shape = _shape(source, documents)
    columns = _columns_of(name, source, documents, shape, chosen)
    notes = [f"{n}: values of several types, written as JSON text" for n in sorted(shape.as_json)]
    notes += [
        f"{c.written}: the field {c.name} of the rows" for c in columns if c.written != c.name
    ]
    ours = [column.name for column in columns if column.known or column.filled]
    known = KnownColumns(source, documents, ours)
    schema = pa.schema([(column.written, column.kind(shape)) for column in columns])
    if shape.exact is not None and schema.names == shape.exact.names and not ours:
        schema = shape.exact

    def make(rows: DocumentRows) -> pa.RecordBatch:
        own = shape.table(rows.raw)
        arrays = [c.of(own, known, rows).cast(schema.field(c.written).type) for c in columns]
        return pa.record_batch(arrays, schema=schema)

    def opened(paths: list[Path]) -> OutputFile:
        return ParquetFile(paths[0], schema)

    file = "data/train-{shard}.parquet" if name == "hf" else "part-{shard}.parquet"
    return Format((file,), make, opened, schema.names, notes, BATCH_ROWS)


def _columns_of(
    name: str,
    source: ExportSource,
    documents: np.ndarray,
    shape: TableShape,
    chosen: list[str] | None,
) -> list[_Column]:
    own = [*shape.fields]
    mixed = shape.exact is None
    if chosen is not None:
        refuse_unknown(chosen, set(own))
        return [
            _Column(n, n not in own, n, mixed and n in own and n in NAMING, n in shape.as_json)
            for n in chosen
        ]
    beside: tuple[str, ...] = ()
    if name == "hf":
        beside = ("id", "text", "domain")
        told = _told_by_ours(source, documents, shape)
        own = [n for n in own if n not in told]
    elif name == "scores":
        beside = COMPUTED if source.manifest is not None else COMPUTED[:3]
    ours = [_Column(n, True, n) for n in beside]
    taken = {*beside, *own}
    mine = []
    for n in own:
        written = n
        if n in beside:
            written = RENAMED + n
            while written in taken:
                written = RENAMED + written
            taken.add(written)
        filled = name == "scores" and mixed and n in NAMING
        mine.append(_Column(n, False, written, filled, n in shape.as_json))
    if name == "scores" and "id" not in own:
        ours.insert(0, _Column("id", True, "id"))
    return [*ours, *mine] if name == "hf" else [*mine, *ours]


def _shape(source: ExportSource, documents: np.ndarray) -> TableShape:
    """The columns of the files that the documents are in. Files of rows are read for it."""
    files = _files_of(source, documents)
    tables = []
    for one in files:
        if one.form in COLUMNAR:
            first = next(iter(raw_rows(one)))
            assert first.table is not None
            tables.append(first.table.schema)
    has_columns = np.array([one.form in COLUMNAR for one in source.corpus.sources])
    others = documents[~has_columns[source.corpus.index["file"][documents]]]
    return shape_of(tables, (rows.raw for rows in document_rows(source.corpus, others)))


def _told_by_ours(source: ExportSource, documents: np.ndarray, shape: TableShape) -> set[str]:
    """Fields that say nothing beside id, text and domain: in every row that has them they are the
    key of one of these, and its value as it stands. All rows are read for it."""
    corpus = source.corpus
    able = {"domain"} & {*shape.fields}
    for one in _files_of(source, documents):
        keys = keys_for(one)
        able |= {keys.id, *(keys.text if _is_text(shape, keys.text[0]) else ())}
    able &= {*shape.fields}
    for rows in document_rows(corpus, documents) if able else ():
        keys = keys_for(rows.source)
        domains = corpus.index["domain"][rows.documents].tolist()
        values = rows.raw.all_values()
        for value, text, domain in zip(values, rows.texts, domains, strict=True):
            for name in [*able]:
                own = value.get(name)
                same = own is None or (
                    (name == keys.id and type(own) in (str, int))
                    or (name in keys.text and own == text)
                    or (name == "domain" and own == corpus.domains[domain])
                )
                if not same:
                    able.discard(name)
    return able


def _is_text(shape: TableShape, name: str) -> bool:
    kind = shape.fields.get(name)
    return kind is not None and _is_text_type(kind)


def _is_text_type(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
