"""Several processes and pieces of files give the same index as one process, file by file."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlxprune.config.data import Data
from mlxprune.data import scan
from mlxprune.data.indexing import build_index
from mlxprune.data.sources import find_sources
from mlxprune.errors import RunError
from mlxprune.files import read_json


def corpus(folder: Path) -> Path:
    """Large and small files, bad rows, copies, in several formats."""
    draw = random.Random(5)
    folder.mkdir()
    with (folder / "large.jsonl").open("w") as out:
        for i in range(4000):
            out.write("\n" if i % 97 == 0 else "")
            row = {"id": i % 3000, "text": f"text {i % 1500} " + "é" * draw.randint(0, 200)}
            out.write("{broken\n" if i % 500 == 499 else json.dumps(row) + "\n")
    rows = {
        "text": [f"row {i}" * 9 for i in range(3000)],
        "domain": ["ab"[i % 2] for i in range(3000)],
    }
    pq.write_table(pa.table(rows), folder / "table.parquet", row_group_size=200)
    for i in range(40):
        (folder / f"small-{i}.jsonl").write_text(json.dumps({"text": f"small {i}"}) + "\n")
    return folder


def index(data: Path, out: Path) -> dict[str, bytes]:
    settings = Data.model_validate({"paths": [str(data)]})
    out.mkdir()
    build_index(settings, find_sources(settings), out)
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


@pytest.mark.slow
def test_pieces_and_processes_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = corpus(tmp_path / "data")
    whole = index(data, tmp_path / "whole")
    assert {"index.npy", "documents.parquet", "bad-rows.jsonl", "files.json"} <= set(whole)
    assert not any(name.startswith(("spool", "ids")) for name in whole)
    for size in (7_000, 40_000):
        monkeypatch.setattr(scan, "PIECE_BYTES", size)
        assert index(data, tmp_path / f"pieces-{size}") == whole
    monkeypatch.setattr(scan, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(scan.machine, "cores", lambda: 3)
    assert index(data, tmp_path / "processes") == whole
    bad = [json.loads(line) for line in whole["bad-rows.jsonl"].splitlines()]
    assert [b["row"] for b in bad] == [499 + 500 * i for i in range(8)]
    rows = {f["name"]: f["rows"] for f in read_json(tmp_path / "whole" / "files.json")}
    assert (rows["large.jsonl"], rows["table.parquet"], rows["small-7.jsonl"]) == (4000, 3000, 1)


def test_pieces_cover_the_input_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "PIECE_BYTES", 4_000)
    found = find_sources(Data.model_validate({"paths": [str(corpus(tmp_path / "data"))]}))
    pieces = scan.pieces_of(found.sources)
    assert [p.number for p in pieces] == [*range(len(pieces))]
    whole = [p for p in pieces if p.part is None]
    assert sum(p.stop - p.first for p in whole) == len(found.sources) - 2
    assert max(p.stop - p.first for p in whole) > 10  # small files share one
    for code, source in enumerate(found.sources):
        parts = [p.part for p in pieces if p.part is not None and p.first == code]
        if parts:
            assert parts[0][0] == 0
            assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
            if source.form == "jsonl":
                assert parts[-1][1] == source.path.stat().st_size


def test_who_looks_meanwhile_can_stop_it_and_no_process_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(scan, "PIECE_BYTES", 7_000)
    monkeypatch.setattr(scan.machine, "cores", lambda: 2)
    started: list[scan.Worker] = []
    make = scan.Worker

    def kept(order: scan.ScanOrder) -> scan.Worker:
        started.append(make(order))
        return started[-1]

    monkeypatch.setattr(scan, "Worker", kept)
    found = find_sources(Data.model_validate({"paths": [str(corpus(tmp_path / "data"))]}))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan.scan_all(tmp_path, found.sources, scan.pieces_of(found.sources), stop)
    assert len(started) == 2
    assert all(worker.process.poll() is not None for worker in started)


def test_a_process_that_dies_is_an_error(tmp_path: Path) -> None:
    worker = scan.Worker(scan.ScanOrder(folder=str(tmp_path), sources=[]))
    worker.process.kill()
    with pytest.raises(RunError, match="indexes files ended"):
        worker.ask(scan.Piece(number=0, first=0, stop=0, size=0))
    worker.close()
