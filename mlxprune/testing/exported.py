"""What stands in an export, by the standard library alone."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import zstandard

import mlxprune
from mlxprune.run.folder import RunFolder

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


def kept_rows(run: RunFolder, slice_name: str = "high-50") -> list[tuple[str, int]]:
    table = pq.read_table(run.selection(slice_name) / "kept.parquet").to_pydict()
    return list(zip(table["source"], table["row"], strict=True))


def tiny_run_corpus(run: RunFolder) -> Path:
    sources = json.loads((run.corpus / "sources.json").read_text())
    return Path(sources[0]["path"]).parent


def exported(run: RunFolder, out: Path) -> list[bytes]:
    mlxprune.export(run.path, out, part="pool")
    return lines_of(out)
