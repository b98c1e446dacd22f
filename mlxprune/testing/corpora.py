"""Corpora made of a few rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlxprune.config.data import Data
from mlxprune.data.index import Corpus, open_corpus
from mlxprune.data.indexing import build_index
from mlxprune.data.sources import find_sources


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def indexed(folder: Path, paths: list[Path], **settings: Any) -> Corpus:
    data = Data.model_validate({"paths": [str(p) for p in paths], **settings})
    target = folder / f"index-{len(list(folder.glob('index-*')))}"
    target.mkdir()
    build_index(data, find_sources(data), target)
    return open_corpus(target, data)
