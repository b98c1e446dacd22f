"""Scores made elsewhere come in parts, under other names, and in other containers."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.errors import DataError
from mlxprune.run.folder import RunFolder
from mlxprune.scoring.score_file import read_scores
from mlxprune.scoring.score_parts import gather_scores, is_one_file, score_files
from mlxprune.standalone.slice import select_scores

DRAW = random.Random()
ROWS: list[dict[str, Any]] = [
    {"digest": f"d{i}", "perplexity": DRAW.uniform(1, 99), "num_tokens": DRAW.randint(1, 50)}
    for i in range(90)
]


def parts(folder: Path) -> Path:
    """One layout in four containers."""
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS[:30]), folder / "part-0.parquet")
    (folder / "part-1.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS[30:50]))
    with (folder / "part-2.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, ["digest", "perplexity", "num_tokens"])
        writer.writeheader()
        writer.writerows(ROWS[50:70])
    (folder / "part-3.json").write_text(json.dumps(ROWS[70:], indent=1))
    (folder / "_SUCCESS").touch()
    (folder / ".part.crc").touch()
    return folder


def config(**selection: Any) -> Any:
    tree = {"data": {"paths": ["-"]}, "selection": {"criterion": "low", "rate": 0.2, **selection}}
    return validate_config(tree, "test")


def test_parts_of_every_container_are_one_file(tmp_path: Path) -> None:
    folder = parts(tmp_path / "scores")
    for source in (str(folder), str(folder / "part-*")):
        files = score_files(source)
        assert [path.name for path in files] == [p.name for p in sorted(folder.glob("part*"))]
        assert not is_one_file(files, "digest")
        whole = gather_scores(files, tmp_path / "all.parquet", "perplexity", "digest")
        found = read_scores(whole, "perplexity")
        assert found.given is not None
        assert found.given.tolist() == [row["perplexity"] for row in ROWS]
        assert found.num_tokens.tolist() == [row["num_tokens"] for row in ROWS]


def test_a_slice_of_parts_is_the_slice_of_the_whole(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    named = [{"id": r["digest"], "score": r["perplexity"]} for r in ROWS]
    pq.write_table(pa.Table.from_pylist(named), whole)
    select_scores(whole, config(unit="documents"), tmp_path / "a")
    pattern = str(parts(tmp_path / "scores") / "*")
    select_scores(pattern, config(unit="documents"), tmp_path / "b", "perplexity", "digest")
    kept = [pq.read_table(tmp_path / n / "kept.parquet").to_pydict() for n in "ab"]
    assert kept[0]["id"] == kept[1]["id"]
    lowest = sorted(ROWS, key=lambda row: row["perplexity"])[:18]
    assert set(kept[0]["id"]) == {row["digest"] for row in lowest}


def test_a_control_of_equal_size(tmp_path: Path) -> None:
    folder = parts(tmp_path / "scores")
    chosen = config(unit="tokens")
    found = select_scores(folder, chosen, tmp_path / "out", "perplexity", "digest", random=True)
    slice_of, control = found
    assert (slice_of.name, control.name) == ("low-20", "random-20")
    longest = max(row["num_tokens"] for row in ROWS)
    assert abs(int(slice_of.kept_tokens or 0) - int(control.kept_tokens or 0)) <= longest
    ids = [
        set(pq.read_table(tmp_path / "out" / name / "kept.parquet").column("id").to_pylist())
        for name in ("low-20", "random-20")
    ]
    assert ids[0] != ids[1]


def test_parts_of_our_own_keep_all_that_slices_need(tmp_path: Path) -> None:
    rows = [
        {
            "key": i,
            "id": f"d{i}",
            "nll_sum": 2.0 * i,
            "num_tokens": 4,
            "num_bytes": 9,
            "domain": "x",
        }
        for i in range(20)
    ]
    kinds = pa.schema(
        [("key", pa.uint64()), ("id", pa.string()), ("nll_sum", pa.float64()),
         ("num_tokens", pa.int64()), ("num_bytes", pa.int64()), ("domain", pa.string())]
    )  # fmt: skip
    for n in range(2):
        table = pa.Table.from_pylist(rows[10 * n : 10 * n + 10], kinds)
        pq.write_table(table, tmp_path / f"{n}.parquet")
    whole = gather_scores(score_files(str(tmp_path)), tmp_path / "all.parquet", None, "id")
    found = read_scores(whole)
    assert found.nll_sum.tolist() == [row["nll_sum"] for row in rows]
    assert found.domains == ("x",)


def test_what_is_no_table_of_scores_is_named(tmp_path: Path) -> None:
    folder = parts(tmp_path / "scores")
    with pytest.raises(DataError, match="no column id, score") as caught:
        gather_scores(score_files(str(folder)), tmp_path / "x.parquet", None, "id")
    assert "digest, perplexity" in caught.value.fix
    with pytest.raises(DataError, match="no scores here"):
        score_files(str(tmp_path / "nothing*"))
    (folder / "part-4.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match="Git LFS pointer"):
        gather_scores(score_files(str(folder)), tmp_path / "x.parquet", "perplexity", "digest")


def test_a_document_that_stands_twice_is_refused(tiny_run: RunFolder, tmp_path: Path) -> None:
    """As in the folder of scores of a run, where several references scored the same pool."""
    with pytest.raises(DataError, match="stands twice"):
        files = score_files(str(tiny_run.scores().parent))
        gather_scores(files, tmp_path / "all.parquet", None, "id")


def test_ids_of_any_size(tmp_path: Path) -> None:
    rows = [{"id": 10**20 + i, "score": float(i)} for i in range(5)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = gather_scores([tmp_path / "a.jsonl"], tmp_path / "all.parquet", None, "id")
    assert pq.read_table(whole).column("id").to_pylist() == [str(10**20 + i) for i in range(5)]
