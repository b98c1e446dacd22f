"""What is shared says nothing of texts, nor of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import mlxprune
from mlxprune.run.folder import RunFolder
from mlxprune.testing.exported import tiny_run_corpus


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


@pytest.mark.slow
def test_what_is_shared_names_no_folder(odd: tuple[RunFolder, list[Path]], tmp_path: Path) -> None:
    """Whatever its name looks like in YAML, JSON, HTML and a shell."""
    import html

    from mlxprune.experiment.private import without_folders

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
