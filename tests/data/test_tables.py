"""Tables: rows of Parquet and Arrow files come by bytes, not by count."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlxprune.config.data import Data
from mlxprune.data import tables
from mlxprune.data.readers import read_rows
from mlxprune.data.sources import find_sources
from mlxprune.data.tables import batch_values, column_batches

LARGE = 20_000_000
READ = """
import resource, sys
from mlxprune.config.data import Data
from mlxprune.data.readers import read_rows
from mlxprune.data.sources import find_sources
source = find_sources(Data(paths=[sys.argv[1]])).sources[0]
rows = sum(len(row.text) == 20_000_000 for row in read_rows(source))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.parametrize(
    "kind", ["dictionary", pytest.param("plain", marks=pytest.mark.slow), "arrow"]
)
def test_rows_of_one_large_value_are_made_one_by_one(kind: str, tmp_path: Path) -> None:
    """60 rows of 20 MB in a file of a kilobyte: 1.2 GB at once, were they taken by count."""
    value = pa.array(["A" * LARGE])
    path = tmp_path / ("x.arrow" if kind == "arrow" else "x.parquet")
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 60, pa.int32()), value)
    if kind == "arrow":
        batch = pa.record_batch([rows], names=["text"])
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(str(path), batch.schema, options=options) as out:
            out.write_batch(batch)
    else:
        dense = pa.chunked_array([value] * 60)
        table = pa.table({"text": rows if kind == "dictionary" else dense})
        pq.write_table(table, path, compression="zstd", use_dictionary=kind == "dictionary")
    assert path.stat().st_size < 200_000
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True
    )
    found, megabytes = map(int, done.stdout.split())
    assert found == 60
    assert megabytes < 900, "a small multiple of a value, and of what is held at a time"


def test_row_groups_of_any_size_give_every_row_once(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    texts = [f"text {n} " * (n % 7 + 1) for n in range(1000)]
    pq.write_table(pa.table({"text": texts, "other": [1] * 1000}), path, row_group_size=300)
    (source,) = find_sources(Data(paths=[str(path)])).sources
    assert [row.text for row in read_rows(source)] == texts
    part = [row.text for row in read_rows(source, (1, 3))]
    assert part == texts[300:900]
    assert all(batch.num_rows <= tables.BATCH_ROWS for batch in column_batches(source))


def test_a_broken_dictionary_page_is_an_error_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    value = pa.DictionaryArray.from_arrays(
        pa.array([0] * 9, pa.int32()), pa.array(["A" * 3_000_000])
    )
    pq.write_table(pa.table({"text": value}), path)
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(0)
    data = bytearray(path.read_bytes())
    data[chunk.dictionary_page_offset] ^= 0xFF
    path.write_bytes(data)
    (source,) = find_sources(Data(paths=[str(path)])).sources
    with pytest.raises(Exception, match="cannot read it"):
        [*read_rows(source)]


def test_a_large_batch_is_halved_and_its_rows_stay_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "HELD_BYTES", 100)
    batch = pa.record_batch([pa.array([f"{n:040d}" for n in range(33)])], names=["a"])
    assert [row["a"] for row in batch_values(batch)] == [f"{n:040d}" for n in range(33)]
