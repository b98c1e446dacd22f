"""A sample sees more than the head of a file, and its count of rows is about right."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlxprune.data import sampling
from mlxprune.data.sampling import expansion, sample_file
from mlxprune.data.sources import Source


def source(path: Path, form: str) -> Source:
    return Source(path, path.name, form, path.name)


def lines(count: int) -> bytes:
    kinds = ("head", "middle", "end")
    return b"".join(
        json.dumps({"text": "word " * 40, "domain": kinds[3 * i // count], "n": i}).encode() + b"\n"
        for i in range(count)
    )


def test_rows_from_several_places_of_a_plain_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(9000))
    found = sample_file(source(path, "jsonl"), 80)
    assert {row["domain"] for row in found.values} == {"head", "middle", "end"}
    assert len(found.values) == 80
    assert found.rows == pytest.approx(9000, rel=0.02)
    assert not found.exact


def test_row_groups_of_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [json.loads(line) for line in lines(900).splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=90)
    found = sample_file(source(path, "parquet"), 40)
    assert {row["domain"] for row in found.values} == {"head", "middle", "end"}
    assert (found.rows, found.exact) == (900, True)


def test_small_and_packed_files_are_read_whole(tmp_path: Path) -> None:
    for name, form, data in (
        ("a.jsonl", "jsonl", lines(300)),
        ("a.jsonl.gz", "jsonl", gzip.compress(lines(9000))),
        ("a.csv", "csv", b"text\n" + b"x\n" * 500),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        found = sample_file(source(path, form), 50)
        assert found.exact
        assert 25 <= len(found.values) <= 50
    assert found.rows == 500


def test_the_rest_of_a_large_packed_file_is_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "HEAD", 200_000)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines(9000)))
    found = sample_file(source(path, "jsonl"), 50)
    assert not found.exact
    assert found.rows == pytest.approx(9000, rel=0.1)


def test_expansion_is_measured(tmp_path: Path) -> None:
    data = lines(2000)
    (tmp_path / "a").write_bytes(data)
    packed = gzip.compress(data)
    (tmp_path / "a.gz").write_bytes(packed)
    assert expansion(source(tmp_path / "a", "jsonl")) == 1
    assert expansion(source(tmp_path / "a.gz", "jsonl")) == pytest.approx(len(data) / len(packed))
