"""Exports are checked by a reader that shares no code with what writes them: the standard library
and the tools that read them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import mlxprune
from mlxprune.config.loading import validate_config
from mlxprune.data import original_rows, output_file
from mlxprune.errors import DataError, UsageError
from mlxprune.exporting import order
from mlxprune.pipeline.runner import run_study
from mlxprune.run.folder import RunFolder
from mlxprune.testing import layouts, tiny

UNPACK: dict[str, Any] = {
    ".zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    ".gz": gzip.decompress, ".xz": lzma.decompress, ".bz2": bz2.decompress,
}  # fmt: skip


def unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return UNPACK[path.suffix](data) if path.suffix in UNPACK else data  # type: ignore[no-any-return]


def lines_of(folder: Path) -> list[bytes]:
    """Every line of the shards of an export, in order of their names."""
    files = sorted(p for p in folder.rglob("*.jsonl*") if p.is_file())
    return [line for path in files for line in unpacked(path).splitlines(keepends=True)]


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


@pytest.fixture(scope="session")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunFolder, list[Path]]]:
    """A run over nine files of nine layouts, each with keys of its own, up to the selection."""
    folder = tmp_path_factory.mktemp("nine")
    made = layouts.write_layouts(folder / "data", rows=40)
    entries = [{"path": str(m.path), "text_key": m.text} for m in made]
    tree = tiny.tiny_config(folder)
    tree["data"] = {"paths": entries, "domain_key": "file"}
    run = RunFolder(folder / "run")
    run_study(validate_config(tree, "test"), run, until="selection")
    yield run, [m.path for m in made]


def kept_rows(run: RunFolder, slice_name: str = "high-50") -> list[tuple[str, int]]:
    table = pq.read_table(run.selection(slice_name) / "kept.parquet").to_pydict()
    return list(zip(table["source"], table["row"], strict=True))


def test_rows_of_nine_layouts_come_out_as_they_stand(
    nine: tuple[RunFolder, list[Path]], tmp_path: Path
) -> None:
    run, paths = nine
    folder = paths[0].parent
    mlxprune.export(run.path, tmp_path / "out", shard_size=20_000)
    found = lines_of(tmp_path / "out")
    known = {p.relative_to(folder).as_posix(): rows_in(p) for p in data_files(paths)}
    expected = [known[source][row] for source, row in kept_rows(run)]
    assert len(found) == len(expected) >= 100
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


def test_a_folder_of_lines_opens_as_it_is(
    tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record beside the shards is not taken for data."""
    datasets = pytest.importorskip("datasets", reason="comes with the extra lm-eval")
    mlxprune.export(tiny_run.path, tmp_path / "out", shard_size=5_000)
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    ids = [json.loads(line)["id"] for line in lines_of(tmp_path / "out")]
    assert loaded["train"]["id"][:] == ids


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


def test_hf_is_a_dataset_with_a_card(
    nine: tuple[RunFolder, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a folder of that name was read before: the library keeps what it knows of one."""
    datasets = pytest.importorskip("datasets", reason="comes with the extra lm-eval")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    run, _ = nine
    out = tmp_path / "set"
    for part in ("kept", "dropped"):
        mlxprune.export(run.path, out, to="hf", part=part, shard_size=20_000)
        loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
        ids = [row["id"] for row in loaded]
        assert (
            len(set(ids)) == len(ids) == json.loads((out / ".export.json").read_text())["documents"]
        )
        assert {"id", "text", "domain", "messages"} <= set(loaded.column_names)
        assert all(isinstance(text, str) and text for text in loaded["text"])
        card = (out / "README.md").read_text()
        assert f"{len(ids):,} documents" in card
        assert "mlxprune export" in card
        out.rename(tmp_path / part)


def test_mlx_lm_is_what_its_trainer_reads(tiny_run: RunFolder, tmp_path: Path) -> None:
    from types import SimpleNamespace

    from mlx_lm.tuner.datasets import load_local_dataset
    from transformers import AutoTokenizer

    mlxprune.export(tiny_run.path, tmp_path / "out", to="mlx-lm")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"train.jsonl", "valid.jsonl", "test.jsonl", ".export.json"}
    tokenizer = AutoTokenizer.from_pretrained(tiny_run.final("high-50-s0"))
    train, valid, test = load_local_dataset(tmp_path / "out", tokenizer, SimpleNamespace())
    assert len(train) == len(kept_rows(tiny_run))
    assert min(len(valid), len(test)) >= 20


@pytest.mark.slow
def test_mlx_lm_trains_our_model_on_it(tiny_run: RunFolder, tmp_path: Path, command: Any) -> None:
    import subprocess
    import sys

    mlxprune.export(tiny_run.path, tmp_path / "out", to="mlx-lm")
    options = {
        "model": tiny_run.final("high-50-s0"), "data": tmp_path / "out", "iters": 2,
        "batch-size": 2, "num-layers": 1, "max-seq-length": 64, "val-batches": 1,
        "adapter-path": tmp_path / "adapters", "steps-per-report": 1,
    }  # fmt: skip
    words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    done = subprocess.run(
        [sys.executable, "-m", "mlx_lm", "lora", "--train", *words],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "adapters" / "adapters.safetensors").exists()


def test_dolma_attributes_stand_beside_their_documents(tiny_run: RunFolder, tmp_path: Path) -> None:
    mlxprune.export(tiny_run.path, tmp_path / "out", to="dolma", shard_size=10_000)
    documents = sorted((tmp_path / "out" / "documents").iterdir())
    assert len(documents) > 1
    scores = pq.read_table(tiny_run.scores()).to_pydict()
    perplexity = dict(zip(scores["id"], scores["perplexity"], strict=True))
    count = 0
    for path in documents:
        beside = Path(str(path).replace("/documents/", "/attributes/mlxprune/"))
        pairs = zip(unpacked(path).splitlines(), unpacked(beside).splitlines(), strict=True)
        for document, attribute in ((json.loads(a), json.loads(b)) for a, b in pairs):
            assert document["id"] == attribute["id"]
            assert isinstance(document["text"], str)
            ((start, end, value),) = attribute["attributes"]["mlxprune__mlxprune__perplexity"]
            assert (start, end) == (0, len(document["text"]))
            assert value == perplexity[document["id"]]
            count += 1
    assert count == len(perplexity)


def test_datatrove_reads_rows_and_figures(tiny_run: RunFolder, tmp_path: Path) -> None:
    readers = pytest.importorskip("datatrove.pipeline.readers", reason="pip install datatrove")
    mlxprune.export(tiny_run.path, tmp_path / "lines")
    mlxprune.export(tiny_run.path, tmp_path / "scores", to="scores")
    lines = [*readers.JsonlReader(str(tmp_path / "lines"), glob_pattern="*.zst").run()]
    assert [d.id for d in lines] == [json.loads(x)["id"] for x in lines_of(tmp_path / "lines")]
    table = [*readers.ParquetReader(str(tmp_path / "scores"), glob_pattern="*.parquet").run()]
    scores = pq.read_table(tiny_run.scores()).to_pydict()
    known = dict(zip(scores["id"], scores["perplexity"], strict=True))
    assert {d.id: d.metadata["perplexity"] for d in table} == known
    kept = {d.id for d in table if d.metadata["kept"]}
    assert kept == {d.id for d in lines}


def test_data_juicer_finds_stats_in_every_row(tiny_run: RunFolder, tmp_path: Path) -> None:
    mlxprune.export(tiny_run.path, tmp_path / "out", to="data-juicer")
    scores = pq.read_table(tiny_run.scores()).to_pydict()
    tokens = dict(zip(scores["id"], scores["num_tokens"], strict=True))
    rows = [json.loads(line) for line in lines_of(tmp_path / "out")]
    assert {row["id"]: row["__dj__stats__"]["num_token"] for row in rows} == tokens
    assert all(row["__dj__stats__"]["text_len"] == len(row["text"]) for row in rows)


def test_ids_and_chosen_columns(tiny_run: RunFolder, tmp_path: Path) -> None:
    mlxprune.export(tiny_run.path, tmp_path / "ids", to="ids", compress="gzip")
    (path,) = (tmp_path / "ids").glob("*.csv.gz")
    rows = list(csv.reader(io.StringIO(unpacked(path).decode())))
    assert rows[0] == ["id", "source", "row"]
    assert [(row[1], int(row[2])) for row in rows[1:]] == kept_rows(tiny_run)
    chosen = ["domain", "id", "perplexity", "rank"]
    mlxprune.export(tiny_run.path, tmp_path / "some", columns=chosen, compress="none")
    found = [json.loads(line) for line in lines_of(tmp_path / "some")]
    assert [*found[0]] == chosen
    table = pq.read_table(tiny_run.selection("high-50") / "kept.parquet").to_pydict()
    assert [row["rank"] for row in found] == table["rank"]
    with pytest.raises(UsageError, match="no column is called 'nosuch'"):
        mlxprune.export(tiny_run.path, tmp_path / "x", columns=["nosuch"])
    with pytest.raises(UsageError, match="only documents of the pool"):
        mlxprune.export(tiny_run.path, tmp_path / "y", part="test", columns=["perplexity"])


def test_a_bundle_says_nothing_of_texts_or_of_this_machine(
    tiny_run: RunFolder, tmp_path: Path
) -> None:
    import socket

    mlxprune.export(tiny_run.path, tmp_path / "out", to="bundle")
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert {"report.html", "report.json", "config.yaml", "machine.json"} <= {p.name for p in files}
    private = [str(tiny_run.path), str(tiny_run.path.parent), str(Path.home()) + "/", "prose-1"]
    private += [str(p) for p in tiny_run.path.parents[:3] if len(p.parts) > 2]
    texts = [json.loads(line)["text"][:40] for line in
             (tiny_run_corpus(tiny_run) / "prose.jsonl").read_text().splitlines()]  # fmt: skip
    for path in files:
        data = path.read_bytes()
        for word in [*private, *texts, f'"{socket.gethostname()}"']:
            assert word.encode() not in data, (path.name, word)
    scores = pq.read_table(tmp_path / "out" / "scores" / "main.parquet")
    assert "id" not in scores.column_names
    assert scores.column("key").to_pylist() == (
        pq.read_table(tiny_run.scores()).column("key").to_pylist()
    )


def tiny_run_corpus(run: RunFolder) -> Path:
    sources = json.loads((run.corpus / "sources.json").read_text())
    return Path(sources[0]["path"]).parent


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
    begun = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cut.partial").glob("part-*.zst")}
    mlxprune.export(tiny_run.path, tmp_path / "cut", **options)
    found = {p.name: p.read_bytes() for p in sorted((tmp_path / "cut").iterdir())}
    assert found == whole
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


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, list[Path]]:
    """Files whose fields are awkward, in a folder whose name is."""
    name = "a long folder's name & many words of it, again and again"
    folder = tmp_path_factory.mktemp("odd") / name
    folder.mkdir()
    words = [" ".join(tiny.WORDS[i % 9 : i % 9 + 20]) + f" {i}" for i in range(400)]
    texts = [
        {"text": w, "id": f"a\r{i}", "place": i, "big": 2**70 + i, "n": 2**53 + 1 + 2 * i,
         **({"body": f"other {i}"} if i > 290 else {})}
        for i, w in enumerate(words)
    ]  # fmt: skip
    chats = [
        {"messages": json.dumps([{"role": "user", "content": w}, {"role": "it", "content": "so"}]),
         "row_id": i, "id": -i, "number": f"c{i}", "n": 0.5, "domain": f"own{i}"}
        for i, w in enumerate(words)
    ]  # fmt: skip
    bodies = [{"body": w, "note": {"x": i}} for i, w in enumerate(words)]
    for stem, rows in (("texts", texts), ("chats", chats), ("bodies", bodies)):
        (folder / f"{stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = pa.array([b"fine"] * 399 + [b"\xff\xfe"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 400, raw.buffers())
    pq.write_table(pa.table({"text": words, "other": broken}), folder / "broken.parquet")
    entries = [
        {"path": str(folder / "texts.jsonl"), "domain": "one"},
        {"path": str(folder / "chats.jsonl"), "text_key": "messages", "id_key": "number",
         "domain": "two"},
        {"path": str(folder / "bodies.jsonl"), "text_key": "body"},
        {"path": str(folder / "broken.parquet")},
    ]  # fmt: skip
    tree = tiny.tiny_config(folder)
    tree["data"] = {"paths": entries, "domain_key": "file"}
    run = RunFolder(folder / "run")
    run_study(validate_config(tree, "test"), run, until="selection")
    return run, [Path(str(entry["path"])) for entry in entries]


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


def exported(run: RunFolder, out: Path) -> list[bytes]:
    mlxprune.export(run.path, out, part="pool")
    return lines_of(out)


@pytest.mark.slow
def test_what_is_shared_names_no_folder(odd: tuple[RunFolder, list[Path]], tmp_path: Path) -> None:
    """Whatever its name looks like in YAML, JSON, HTML and a shell."""
    import html

    from mlxprune.exporting.private import without_folders

    run, paths = odd
    mlxprune.export(run.path, tmp_path / "out", to="bundle")
    mlxprune.export(run.path, tmp_path / "hf", to="hf")
    texts = [p for p in tmp_path.rglob("*") if p.suffix in (".md", ".json", ".yaml", ".html")]
    for path in texts:
        plain = " ".join(html.unescape(path.read_text()).split())
        assert "long folder" not in plain, path.name
        assert str(paths[0].parents[1]) not in plain, path.name
    assert "texts.jsonl" in (tmp_path / "out" / "config.yaml").read_text()
    kept = "see https://example.com/data/a and ~/data/b, data/data/c"
    assert without_folders(f"{kept}, /data/x.jsonl", ["/data"]) == f"{kept}, x.jsonl"
