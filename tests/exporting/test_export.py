"""Exports are checked by a reader that shares no code with what writes them: the standard library
and the tools that read them."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mlxprune
from mlxprune.config.loading import validate_config
from mlxprune.errors import DataError
from mlxprune.pipeline.runner import run_study
from mlxprune.run.folder import RunFolder
from mlxprune.testing import tiny
from mlxprune.testing.exported import exported, kept_rows, lines_of, tiny_run_corpus, unpacked


def rows_in(path: Path) -> list[Any]:
    """The rows of a file of the layouts: lines as bytes, others as objects."""
    name = path.name
    if ".jsonl" in name or ".ndjson" in name:
        return unpacked(path).splitlines(keepends=True)
    if name.endswith(".json"):
        return list(json.loads(path.read_text()))
    if ".csv" in name or ".tsv" in name:
        text = io.StringIO(unpacked(path).decode(), newline="")
        return list(csv.DictReader(text, delimiter="\t" if ".tsv" in name else ","))
    if name.endswith(".parquet"):
        return pq.read_table(path).to_pylist()  # type: ignore[no-any-return]
    with pa.ipc.open_stream(path) as stream:
        return stream.read_all().to_pylist()  # type: ignore[no-any-return]


def test_rows_of_nine_layouts_come_out_as_they_stand(
    nine: tuple[RunFolder, list[Path]], tmp_path: Path
) -> None:
    run, paths = nine
    folder = paths[0].parent
    mlxprune.export(run.path, tmp_path / "out", shard_size=20_000)
    found = lines_of(tmp_path / "out")
    known = {p.relative_to(folder).as_posix(): rows_in(p) for p in data_files(paths)}
    expected = [known[source][row] for source, row in kept_rows(run)]
    assert len(found) == len(expected) >= 80
    assert len([*(tmp_path / "out").glob("part-*")]) > 2
    for line, row in zip(found, expected, strict=True):
        if isinstance(row, bytes):
            assert line == row
        else:
            assert json.loads(line) == row


def data_files(paths: list[Path]) -> list[Path]:
    return [p for path in paths for p in ([path] if path.is_file() else path.glob("*.arrow"))]


def test_the_parts_of_a_run_are_what_they_are_called(tiny_run: RunFolder, tmp_path: Path) -> None:
    ids: dict[str, list[str]] = {}
    for part in ("kept", "dropped", "pool", "reference", "validation", "test", "arm:random-50"):
        mlxprune.export(tiny_run.path, tmp_path / part.replace(":", "-"), part=part)
        ids[part] = [json.loads(line)["id"] for line in lines_of(tmp_path / part.replace(":", "-"))]
        assert len(set(ids[part])) == len(ids[part]) > 0
    assert sorted(ids["kept"] + ids["dropped"]) == sorted(ids["pool"])
    whole = [ids[p] for p in ("pool", "reference", "validation", "test")]
    assert len(set().union(*whole)) == sum(map(len, whole)) == 240
    kept = pq.read_table(tiny_run.selection("high-50") / "kept.parquet").column("id").to_pylist()
    assert ids["kept"] == kept
    stored = np.load(tiny_run.path / "arms" / "random-50-s0.npy")
    assert len(stored) == len(ids["arm:random-50"])
    assert set(ids["arm:random-50"]) <= set(ids["pool"])


@pytest.mark.slow
def test_parquet_keeps_columns_and_types(tmp_path: Path) -> None:
    """Also those that JSON does not have, and what the file tells of itself."""
    count = 200
    texts = [f"{' '.join(tiny.WORDS[i % 7 : i % 7 + 20])} {i}" for i in range(count)]
    schema = pa.schema(
        [
            pa.field("text", pa.large_string(), nullable=False, metadata={b"about": b"the text"}),
            ("when", pa.timestamp("us", "UTC")),
            ("price", pa.decimal128(9, 2)),
            ("tags", pa.list_(pa.string())),
            ("inside", pa.struct([("a", pa.int16()), ("b", pa.binary())])),
            ("kind", pa.dictionary(pa.int8(), pa.string())),
            ("lone", pa.float32()),
        ],
        metadata={b"huggingface": b'{"info": {}}'},
    )
    columns = [
        texts, [1_000_000 * i for i in range(count)], [Decimal(i) / 100 for i in range(count)],
        [["x"] * (i % 3) for i in range(count)],
        [{"a": i % 9, "b": bytes([i])} for i in range(count)],
        pa.array(["p" if i % 2 else "q" for i in range(count)]).dictionary_encode(),
        [None if i % 5 else 0.5 for i in range(count)],
    ]  # fmt: skip
    arrays = [
        c.cast(f.type) if isinstance(c, pa.DictionaryArray) else pa.array(c, f.type)
        for c, f in zip(columns, schema, strict=True)
    ]
    table = pa.Table.from_arrays(arrays, schema=schema)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=50)
    tree = tiny.tiny_config(tmp_path / "a.parquet")
    tree["data"] = {"paths": [str(tmp_path / "a.parquet")]}
    run = RunFolder(tmp_path / "run")
    run_study(validate_config(tree, "test"), run, until="selection")
    mlxprune.export(run.path, tmp_path / "out", to="parquet")
    found = pq.read_table(tmp_path / "out")
    assert found.schema.equals(pq.read_table(tmp_path / "a.parquet").schema, check_metadata=True)
    assert found.to_pylist() == [table.to_pylist()[row] for _, row in kept_rows(run)]


def test_rows_of_several_layouts_become_one_table(
    nine: tuple[RunFolder, list[Path]], tmp_path: Path
) -> None:
    """With the columns of all of them, and what has no common type as JSON text, which is told."""
    import pandas as pd

    run, paths = nine
    record = mlxprune.export(run.path, tmp_path / "out", to="parquet")
    frame = pd.read_parquet(tmp_path / "out")
    assert len(frame) == len(kept_rows(run)) == record.documents
    assert {"messages", "body", "url", "transcript", "number"} <= set(frame.columns)
    folder = paths[0].parent
    known = {p.relative_to(folder).as_posix(): rows_in(p) for p in data_files(paths)}
    for (source, row), found in zip(kept_rows(run), frame.to_dict("records"), strict=True):
        original = known[source][row]
        fields = json.loads(original) if isinstance(original, bytes) else original
        for name in ("body", "transcript", "content", "source_text", "message"):
            assert (found[name] if isinstance(found[name], str) else None) == fields.get(name)


@pytest.mark.slow
def test_a_file_that_is_not_what_it_was_is_told(tmp_path: Path) -> None:
    corpus = tiny.tiny_corpus(tmp_path / "corpus", documents=60)
    run = RunFolder(tmp_path / "run")
    run_study(validate_config(tiny.tiny_config(corpus), "test"), run, until="selection")
    path = corpus / "prose.jsonl"
    path.write_text(path.read_text().replace("the", "THE"))
    with pytest.raises(DataError, match="changed since it was indexed"):
        mlxprune.export(run.path, tmp_path / "out", part="pool")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_slice_that_was_chosen_since_and_scores_made_elsewhere(
    tiny_run: RunFolder, tmp_path: Path, command: Any
) -> None:
    """Every end names the command that hands over the text; here it is typed."""
    corpus = tiny_run_corpus(tiny_run)
    files = sorted(corpus.glob("*.jsonl"))
    rows = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    scored = pa.table(
        {"id": [r["id"] for r in rows], "score": [float(len(r["text"])) for r in rows]}
    )
    pq.write_table(scored, tmp_path / "quality.parquet")
    asked = {
        "a": ["select", str(tiny_run.path), "--criterion", "low", "--rate", "0.2", "--out", "a"],
        "b": ["select", "quality.parquet", "--rate", "0.25", "--out", "b", "--data", str(corpus)],
    }
    for name, words in asked.items():
        done = command(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        line = next(x for x in done.stdout.splitlines() if x.startswith("the kept text: mlxprune "))
        typed = line.partition("mlxprune ")[2].split()
        done = command(*typed, "--quiet", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        kept = pq.read_table(tmp_path / name / "kept.parquet").column("id").to_pylist()
        out = tmp_path / typed[typed.index("--out") + 1]
        assert [json.loads(line)["id"] for line in lines_of(out)] == kept


@pytest.mark.slow
def test_no_value_is_lost_or_changed_on_the_way(
    odd: tuple[RunFolder, list[Path]], tmp_path: Path
) -> None:
    run, paths = odd
    rows = {p.name: [*map(json.loads, p.read_text().splitlines())] for p in paths[:3]}
    pool = pq.read_table(run.scores()).to_pydict()
    places = list(zip(pool["source"], pool["row"], strict=True))
    mlxprune.export(run.path, tmp_path / "hf", to="hf", part="pool", shuffle=3)
    table = pq.read_table(tmp_path / "hf" / "data").to_pylist()
    assert sorted(row["id"] for row in table) == sorted(pool["id"])
    by_id = {row["id"]: row for row in table}
    for (source, number), identity in zip(places, pool["id"], strict=True):
        found = by_id[identity]
        original = rows.get(source, [{}] * 400)[number]
        assert all(found[name] is not None for name in ("id", "text", "domain"))
        for name in ("body", "messages", "place"):  # none is what `text` says everywhere
            assert found[name] == original.get(name)
        if source == "chats.jsonl":
            assert found["row_domain"] == original["domain"]
            assert (json.loads(found["row_row_id"]), found["row_id"]) == (-number, number)
        if source == "texts.jsonl":
            assert json.loads(found["big"]) == original["big"]
            assert json.loads(found["n"]) == original["n"]
    for to in ("jsonl", "parquet", "scores"):
        mlxprune.export(
            run.path, tmp_path / to, to=to, part="pool", columns=["id", "text", "domain", "source"]
        )
    lines = [json.loads(line) for line in lines_of(tmp_path / "jsonl")]
    assert pq.read_table(tmp_path / "parquet").to_pylist() == [
        {name: row[name] if name != "id" else str(row[name]) for name in row} for row in lines
    ]
    assert all(None not in row.values() for row in lines)
    whole = [json.loads(line) for line in exported(run, tmp_path / "whole")]
    assert [row.get("big") for row in whole if "place" in row] == [
        rows[s][n]["big"] for s, n in places if s == "texts.jsonl"
    ]
    other = [row["other"] for row in whole if "other" in row]
    assert len(other) == sum(s == "broken.parquet" for s, _ in places)
    mlxprune.export(run.path, tmp_path / "ids", to="ids", part="pool")
    with (tmp_path / "ids" / "ids-00000.csv").open(newline="", encoding="utf-8") as file:
        assert [row[0] for row in csv.reader(file)] == ["id", *pool["id"]]
