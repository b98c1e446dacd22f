"""Runs to export from: nine layouts, and fields that are awkward."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.pipeline.runner import run_study
from mlxprune.run.folder import RunFolder
from mlxprune.testing import layouts, tiny


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
