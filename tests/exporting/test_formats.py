"""Exports open in the tools that they are for."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import mlxprune
from mlxprune.errors import UsageError
from mlxprune.run.folder import RunFolder
from mlxprune.testing.exported import kept_rows, lines_of, unpacked


def test_a_folder_of_lines_opens_as_it_is(
    tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record beside the shards is not taken for data."""
    datasets = pytest.importorskip("datasets", reason="comes with the extra lm-eval")
    mlxprune.export(tiny_run.path, tmp_path / "out", shard_size=5_000)
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    ids = [json.loads(line)["id"] for line in lines_of(tmp_path / "out")]
    assert loaded["train"]["id"][:] == ids


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
