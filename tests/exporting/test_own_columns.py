"""Columns of rows whose fields do not agree: every value comes back, as what it was or as JSON."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxprune.data.original_rows import RawRows
from mlxprune.exporting.own_columns import shape_of

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
ROWS = st.lists(
    st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4), min_size=1, max_size=12
)


def same(found: Any, value: Any) -> bool:
    """Equal, but that missing fields are null and whole numbers may have become floats."""
    if isinstance(value, dict):
        keys = {*(found or {}), *value}
        return found is not None and all(same(found.get(k), value.get(k)) for k in keys)
    if isinstance(value, list):
        return len(found) == len(value) and all(map(same, found, value))
    if isinstance(value, float) and math.isinf(value):
        return found in (None, value)  # JSON has no word for it
    if isinstance(value, int | float) and not isinstance(value, bool):
        return not isinstance(found, bool) and float(found) == float(value)
    return bool(found == value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROWS, st.integers(1, 4))
def test_any_rows_come_back(rows: list[dict[str, Any]], size: int) -> None:
    raws = [RawRows(at, values=rows[at : at + size]) for at in range(0, len(rows), size)]
    shape = shape_of([], raws)
    schema = shape.schema()
    if not schema.names:
        return
    tables = []
    for raw in raws:
        columns = shape.table(raw)
        tables.append(pa.record_batch([columns[n] for n in schema.names], schema=schema))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_batches(tables), sink)
    found = pq.read_table(pa.BufferReader(sink.getvalue())).to_pylist()
    for row, original in zip(found, rows, strict=True):
        for name in schema.names:
            value = row[name]
            if name in shape.as_json and value is not None:
                value = json.loads(value)
            assert same(value, original.get(name)), (name, row[name], original)


def test_files_of_columns_that_do_not_agree() -> None:
    one = pa.schema([("id", pa.int64()), ("x", pa.int32()), ("at", pa.timestamp("ms"))])
    two = pa.schema([("id", pa.string()), ("x", pa.float32()), ("more", pa.list_(pa.int8()))])
    shape = shape_of([one, two], [])
    assert shape.as_json == {"id"}
    schema = shape.schema()
    assert (schema.field("x").type, schema.names) == (pa.float64(), ["id", "x", "at", "more"])
    first = pa.record_batch([[1], [2], [datetime(2020, 1, 1)]], schema=one)
    second = pa.record_batch([["a"], [0.5], [[1, 2]]], schema=two)
    rows = [
        {name: column.to_pylist()[0] for name, column in shape.table(RawRows(0, table=t)).items()}
        for t in (first, second)
    ]
    assert rows == [
        {"id": "1", "x": 2.0, "at": datetime(2020, 1, 1), "more": None},
        {"id": '"a"', "x": 0.5, "at": None, "more": [1, 2]},
    ]
