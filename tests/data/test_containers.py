"""The values in a file of each format, against what was written."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlxprune.config.data import Data
from mlxprune.data.containers import values_of
from mlxprune.data.readers import read_rows
from mlxprune.data.rows import BadLine, Row, Skip
from mlxprune.data.sources import Source, find_sources
from mlxprune.errors import DataError

DRAW = random.Random()


def one(path: Path, **settings: Any) -> Source:
    (source,) = find_sources(Data.model_validate({"paths": [str(path)], **settings})).sources
    return source


def values(path: Path) -> list[Any]:
    found = [*values_of(one(path), whole=True)]
    assert [number for number, _, _ in found] == [*range(len(found))]
    return [value for _, _, value in found]


def some_rows(count: int) -> list[dict[str, Any]]:
    pieces = ('"', ",", "\n", "\t", ";", "é", "\u2028", "word", " ", "\\", "{}", "😀")
    return [
        {"id": str(i), "text": "t" + "".join(DRAW.choices(pieces, k=DRAW.randint(0, 30)))}
        for i in range(count)
    ]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("wrap", [None, "data", "rows"])
def test_json_of_every_shape(indent: int | None, wrap: str | None, tmp_path: Path) -> None:
    rows = some_rows(400)
    tree = rows if wrap is None else {"meta": {"x": [1]}, wrap: rows, "more": 1}
    for name, pack in (("a.json", bytes), ("a.json.gz", gzip.compress)):
        path = tmp_path / name
        path.write_bytes(pack(json.dumps(tree, indent=indent).encode()))
        assert values(path) == rows


def test_objects_over_several_lines_one_after_another(tmp_path: Path) -> None:
    rows = some_rows(50)
    path = tmp_path / "a.json"
    path.write_text("\n".join(json.dumps(row, indent=2) for row in rows))
    assert values(path) == rows


def test_json_that_breaks_off_is_an_error_that_says_where(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(some_rows(90), indent=2)[:-200])
    with pytest.raises(DataError, match=r"broken after \d+ rows"):
        values(path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_tables_as_the_library_writes_them(delimiter: str, tmp_path: Path) -> None:
    rows = some_rows(300)
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(["id", "text"])
    writer.writerows([row["id"], row["text"]] for row in rows)
    path = tmp_path / ("a.tsv" if delimiter == "\t" else "a.csv")
    path.write_bytes(b"\xef\xbb\xbf" + out.getvalue().encode())
    assert values(path) == rows


def test_short_rows_lack_fields_and_bad_bytes_cost_one_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,id\nfine,1\nalone\nbr\xffken,3\n\nlast,4,\nand, more,5\n")
    found = values(path)
    assert found[:2] == [{"text": "fine", "id": "1"}, {"text": "alone", "id": None}]
    assert isinstance(found[2], BadLine)
    assert found[2].reason == "invalid_utf8"
    assert found[3] == {"text": "last", "id": "4"}
    assert isinstance(found[4], BadLine)  # a text with the delimiter and without quotes
    assert found[4].reason == "too_many_fields"


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_files_and_streams(kind: str, tmp_path: Path) -> None:
    rows = some_rows(700)
    table = pa.Table.from_pylist(rows).append_column("source", pa.array(["a"] * 700))
    path = tmp_path / "data-00000-of-00001.arrow"
    new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with new(str(path), table.schema) as out:
        out.write_table(table, max_chunksize=301)
    assert values(path) == table.to_pylist()
    assert [r.text for r in read_rows(one(path)) if isinstance(r, Row)] == table["text"].to_pylist()


def test_a_saved_dataset_is_its_listed_files(tmp_path: Path) -> None:
    """Notes beside it and caches of transformations are no data."""
    for name in ("data-00000-of-00001.arrow", "cache-123.arrow"):
        with pa.ipc.new_stream(str(tmp_path / name), pa.schema([("text", pa.string())])) as out:
            out.write_table(pa.table({"text": [name]}))
    listed = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (tmp_path / "state.json").write_text(json.dumps(listed))
    (tmp_path / "dataset_info.json").write_text("{}")
    found = find_sources(Data.model_validate({"paths": [str(tmp_path)]}))
    assert [s.path.name for s in found.sources] == ["data-00000-of-00001.arrow"]
    assert len(found.left_out) == 3


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_rows_without_a_column_of_text_are_all_counted(form: str, tmp_path: Path) -> None:
    table = pa.table({"body": ["x" * 10] * 1000, "n": [*range(1000)]})
    path = tmp_path / f"a.{form}"
    if form == "parquet":
        pq.write_table(table, path, row_group_size=300)
    else:
        with pa.ipc.new_file(str(path), table.schema) as out:
            out.write_table(table, max_chunksize=300)
    found = [*read_rows(one(path))]
    assert len(found) == 1000
    assert {r.reason for r in found if isinstance(r, Skip)} == {"missing_text"}
    assert isinstance(found[0], Skip)
    assert dict(found[0].texts) == {"body": 10, "n": 0}


def test_texts_of_web_archives(tmp_path: Path) -> None:
    pytest.importorskip("warcio")
    path = tmp_path / "a.warc.wet.gz"
    records = b""
    for kind, text, media in (
        ("warcinfo", "software: none", "application/warc-fields"),
        ("conversion", "Ein Text\nmit Zeilen", "text/plain"),
        ("resource", "<html></html>", "text/html"),
    ):
        head = (
            f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: https://example.org/a\r\n"
            f"WARC-Record-ID: <urn:{kind}>\r\nContent-Type: {media}\r\n"
            f"Content-Length: {len(text)}\r\n\r\n"
        )
        records += gzip.compress(f"{head}{text}\r\n\r\n".encode())
    path.write_bytes(records)
    first, second = read_rows(one(path, domain_key={"host": "url"}))
    assert isinstance(first, Row)
    assert (first.text, first.domain) == ("Ein Text\nmit Zeilen", "example.org")
    assert isinstance(second, Skip)
    assert second.reason == "not_text"


def test_memory_does_not_grow_with_a_json_array(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "a.json"
    row = json.dumps({"text": "word " * 400})
    path.write_text("[" + ",\n".join([row] * 10_000) + "]")  # 20 MB
    source = one(path)
    tracemalloc.start()
    count = sum(isinstance(r, Row) for r in read_rows(source))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 10_000
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("\n\nid,text\n1,x\n", [{"id": "1", "text": "x"}]),
        ("sep=;\nid;text\n1;x, y\n", [{"id": "1", "text": "x, y"}]),
        ("id,text\r1,x\r2,y\r", [{"id": "1", "text": "x"}, {"id": "2", "text": "y"}]),
        ('"text, cleaned";id\nx;1\n', [{"text, cleaned": "x", "id": "1"}]),
        ("id,text,\n1,x,\n", [{"id": "1", "text": "x", "": ""}]),
    ],
)
def test_tables_as_people_have_them(text: str, rows: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    assert values(path) == rows


def test_a_table_with_broken_quotes_is_an_error_that_says_where(tmp_path: Path) -> None:
    """One open quote would swallow all rows after it."""
    path = tmp_path / "a.csv"
    lines = [f"{i},text {i}" for i in range(60)]
    lines[50] = '50,"text 50'
    for after in ("", '\n70,said "so"\n71,x'):
        path.write_text("id,text\n" + "\n".join(lines) + after)
        with pytest.raises(DataError, match="broken after 50 rows"):
            values(path)


def test_quotes_in_a_tsv_without_quoting_are_quotes(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('id\ttext\n1\t"Hi" he said\n2\tand "so"\n3\t"open\n')
    assert [row["text"] for row in values(path)] == ['"Hi" he said', 'and "so"', '"open']


def test_a_column_that_is_there_twice_is_refused_where_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text,text,n,n\n1,long,short,1,2\n")
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as out:
        out.write_table(table)
    pq.write_table(table, tmp_path / "a.parquet")
    for name in ("a.csv", "a.arrow", "a.parquet"):
        with pytest.raises(DataError, match="two columns are called 'text'"):
            values(tmp_path / name)
    assert len([*values_of(one(tmp_path / "a.csv", text_key="id"))]) == 1


def test_columns_without_values_in_python_cost_nobody_else(tmp_path: Path) -> None:
    far = pa.array([10**12, 5], pa.timestamp("s"))
    zone = pa.array([1, 2], pa.timestamp("s", tz="Mars/Olympus"))
    table = pa.table({"text": ["x", "y"], "far": far, "zone": zone})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [row["text"] for row in values(tmp_path / "a.parquet")] == ["x", "y"]


def test_files_and_groups_without_rows(tmp_path: Path) -> None:
    empty = pa.table({"text": pa.array([], pa.string())})
    pq.write_table(empty, tmp_path / "a.parquet")
    assert values(tmp_path / "a.parquet") == []
    with pq.ParquetWriter(tmp_path / "b.parquet", empty.schema) as out:
        for rows in ([], ["x"], [], ["y"]):
            out.write_table(pa.table({"text": pa.array(rows, pa.string())}))
    assert [r.text for r in read_rows(one(tmp_path / "b.parquet")) if isinstance(r, Row)] == [
        "x",
        "y",
    ]
    assert [*read_rows(one(tmp_path / "a.parquet"))] == []


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_a_web_archive_that_ends_early_is_an_error(pack: Any, tmp_path: Path) -> None:
    pytest.importorskip("warcio")
    records = b""
    for i in range(20):
        text = f"Text {i} " * 30
        head = "WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\n"
        head += f"Content-Length: {len(text)}"
        records += f"{head}\r\n\r\n{text}\r\n\r\n".encode()
    path = tmp_path / "a.wet"
    path.write_bytes(pack(records))
    assert len([*read_rows(one(path))]) == 20
    path.write_bytes(pack(records)[:-90])
    with pytest.raises(DataError, match="ends"):
        list(read_rows(one(path)))
