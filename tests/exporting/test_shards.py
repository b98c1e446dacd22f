"""The folder of an export: its order, its end after a kill, and what stands there already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import mlxprune
from mlxprune.data import original_rows, output_file
from mlxprune.errors import UsageError
from mlxprune.exporting import order
from mlxprune.run.folder import RunFolder
from mlxprune.testing.exported import lines_of


@pytest.mark.parametrize("to", ["jsonl", "parquet"])
def test_a_shuffle_is_a_permutation_that_the_seed_decides(
    to: str, tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much is sorted at once."""

    def ids(name: str, seed: int | None) -> list[str]:
        mlxprune.export(tiny_run.path, tmp_path / name, to=to, shuffle=seed, part="pool")
        if to == "parquet":
            return pq.read_table(tmp_path / name).column("id").to_pylist()  # type: ignore[no-any-return]
        return [json.loads(line)["id"] for line in lines_of(tmp_path / name)]

    plain, first = ids("plain", None), ids("first", 1)
    monkeypatch.setattr(order, "BUCKET_BYTES", 5_000)
    again, other = ids("again", 1), ids("other", 2)
    assert first == again
    assert sorted(plain) == sorted(first) == sorted(other)
    assert len({tuple(plain), tuple(first), tuple(other)}) == 3
    assert not [*tmp_path.glob("order-*")]


@pytest.mark.parametrize("shuffle", [None, 5])
def test_an_export_that_is_cut_short_goes_on_with_the_same_bytes(
    shuffle: int | None, tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "ROWS_TOGETHER", 8)
    monkeypatch.setattr(original_rows, "LINES_TOGETHER", 16)
    options: dict[str, Any] = {"shard_size": 1_000, "shuffle": shuffle, "part": "pool"}
    mlxprune.export(tiny_run.path, tmp_path / "whole", **options)
    whole = {p.name: p.read_bytes() for p in sorted((tmp_path / "whole").iterdir())}
    assert len(whole) > 4
    finish = output_file.finish_file
    left = 3

    def dies(partial: Path, path: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        finish(partial, path)

    monkeypatch.setattr(output_file, "finish_file", dies)
    with pytest.raises(KeyboardInterrupt):
        mlxprune.export(tiny_run.path, tmp_path / "cut", **options)
    assert not (tmp_path / "cut").exists()
    assert len([*(tmp_path / "cut.partial").glob("part-*.zst")]) == 3
    monkeypatch.setattr(output_file, "finish_file", finish)
    # A shard that was damaged since is written again, and those behind it.
    last = sorted((tmp_path / "cut.partial").glob("part-*.zst"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    begun = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cut.partial").glob("part-*.zst")}
    mlxprune.export(tiny_run.path, tmp_path / "cut", **options)
    found = {p.name: p.read_bytes() for p in sorted((tmp_path / "cut").iterdir())}
    assert found == whole
    del begun[last.name]
    for name, time in begun.items():  # what was finished is not written again
        assert (tmp_path / "cut" / name).stat().st_mtime_ns == time


def test_what_stands_there_is_not_touched(tiny_run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        mlxprune.export(tiny_run.path, tmp_path / "mine")
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="no unfinished export"):
        mlxprune.export(tiny_run.path, tmp_path / "other")
    assert [p.read_text() for p in sorted(tmp_path.rglob("notes.txt"))] == ["mine", "mine"]
    with pytest.raises(UsageError, match="nothing to export"):
        mlxprune.export(tmp_path, tmp_path / "new")
    for words, what in (
        ({"to": "csv"}, "unknown format"), ({"part": "half"}, "unknown part"),
        ({"slice_name": "low-9"}, "no slice"), ({"compress": "lzw"}, "lzw"),
        ({"shard_size": "big"}, "no size"), ({"to": "parquet", "compress": "gzip"}, "gzip"),
        ({"part": "arm:nobody"}, "no arm"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=what):
            mlxprune.export(tiny_run.path, tmp_path / "new", **words)  # type: ignore[arg-type]
        assert not (tmp_path / "new").exists()


def test_an_export_that_was_killed_before_its_record_goes_on(
    tiny_run: RunFolder, tmp_path: Path
) -> None:
    partial = tmp_path / "out.partial"
    partial.mkdir()
    (partial / ".export.json.partial").write_text("{")
    mlxprune.export(tiny_run.path, tmp_path / "out")
    assert (tmp_path / "out" / ".export.json").exists()
    (tmp_path / "again.partial").mkdir()
    (tmp_path / "again.partial" / "mine.txt").touch()
    with pytest.raises(UsageError, match="no unfinished export"):
        mlxprune.export(tiny_run.path, tmp_path / "again")
