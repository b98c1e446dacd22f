"""Own columns: rows of any files as one table, with the columns and types that they have.

Where files of different layouts are joined, a table has the columns of all of them. Types that
have no common one are written as JSON text, and that is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mlxprune.data.original_rows import RawRows, json_line

EXACT_IN_FLOAT = 2**53
MANY_FIELDS = 200  # of an object: its keys are data rather than names
ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError, UnicodeEncodeError)


@dataclass
class TableShape:
    """The columns of a table as they become known; ``as_json``: those that are JSON text."""

    fields: dict[str, pa.DataType] = field(default_factory=dict)
    as_json: set[str] = field(default_factory=set)
    exact: pa.Schema | None = None  # the one that all files have
    large: set[str] = field(default_factory=set)  # with integers that a float may not hold

    def add_schema(self, schema: pa.Schema) -> None:
        """The columns of a file of columns."""
        for one in schema:
            self._add(one.name, one.type)

    def add_values(self, values: Iterable[dict[str, Any]]) -> None:
        """The columns of rows that are objects."""
        columns: dict[str, list[Any]] = {}
        for value in values:
            for name, one in value.items():
                columns.setdefault(str(name), []).append(one)
        for name, cells in columns.items():
            if name in self.as_json:
                continue
            if any(type(c) is int and abs(c) > EXACT_IN_FLOAT for c in cells):
                self.large.add(name)
            try:
                self._add(name, pa.array(cells).type, is_row=True)
            except ERRORS:
                self.as_json.add(name)
                self.fields.setdefault(name, pa.null())

    def _add(self, name: str, kind: pa.DataType, is_row: bool = False) -> None:
        before = self.fields.get(name)
        if pa.types.is_integer(kind) and kind.bit_width == 64 and not is_row:
            self.large.add(name)  # a file of columns may hold any
        if before is not None and before != kind:
            pair = {before, kind}
            if pair == {pa.uint64(), pa.int64()}:
                self.as_json.add(name)
            try:
                joined = pa.unify_schemas(
                    [pa.schema([(name, before)]), pa.schema([(name, kind)])],
                    promote_options="permissive",
                )
                kind = joined.field(name).type
            except pa.ArrowException:
                self.as_json.add(name)
        if _is_hard(kind) or (pa.types.is_floating(kind) and name in self.large):
            self.as_json.add(name)
        self.fields[name] = kind

    def schema(self) -> pa.Schema:
        """What is written; where all files have one schema, that one."""
        if self.exact is not None:
            return self.exact
        columns = [
            (name, pa.large_string() if name in self.as_json else _written(kind))
            for name, kind in self.fields.items()
        ]
        return pa.schema(columns)

    def table(self, raw: RawRows) -> dict[str, pa.Array]:
        """Rows as the columns of the schema; null where a row has no such field."""
        schema, count = self.schema(), len(raw)
        if raw.table is not None:
            have = {name: raw.table.column(i) for i, name in enumerate(raw.table.schema.names)}
            return {
                one.name: self._cast(one, have[one.name])
                if one.name in have
                else pa.nulls(count, one.type)
                for one in schema
            }
        values = raw.all_values()
        return {
            one.name: self._of_cells(one, [value.get(one.name) for value in values])
            for one in schema
        }

    def _cast(self, wanted: pa.Field, column: pa.Array) -> pa.Array:
        if wanted.name in self.as_json:
            return _json_text(column.to_pylist())
        if column.type == wanted.type:
            return column
        try:
            return column.cast(wanted.type)
        except pa.ArrowException:  # objects with other fields
            return pa.array(column.to_pylist(), wanted.type)

    def _of_cells(self, wanted: pa.Field, cells: list[Any]) -> pa.Array:
        if wanted.name in self.as_json:
            return _json_text(cells)
        return pa.array(cells, wanted.type)


def _is_hard(kind: pa.DataType) -> bool:
    """Whether Parquet has no such type, or nobody wants it as columns."""
    if pa.types.is_struct(kind):
        inside = [kind.field(i).type for i in range(kind.num_fields)]
        return not inside or len(inside) > MANY_FIELDS or any(map(_is_hard, inside))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_hard(kind.value_type)
    return bool(pa.types.is_union(kind))


def _written(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_null(kind) else kind


def _json_text(cells: list[Any]) -> pa.Array:
    texts = [None if cell is None else json_line(cell).decode().rstrip("\n") for cell in cells]
    return pa.array(texts, pa.large_string())


def shape_of(tables: list[pa.Schema], rows: Iterable[RawRows]) -> TableShape:
    """The shape of what files of columns have and of the rows of others, which are read once."""
    shape = TableShape()
    for schema in tables:
        shape.add_schema(schema)
    is_one = bool(tables) and all(schema.equals(tables[0]) for schema in tables)
    for raw in rows:
        is_one = False
        shape.add_values(raw.all_values())
    shape.exact = tables[0] if is_one and not shape.as_json else None
    return shape
