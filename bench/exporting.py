"""Exporting: rows out of a corpus as zstd, against zstd alone on the same bytes, in turns.

    python bench/exporting.py [--megabytes 100] [--rounds 5] [--keep 0.5]

What is exported is a share of the rows of JSON Lines, plain and under zstd; every row is parsed and
its text held against the index on the way. zstd alone compresses the bytes of the export at the
same level, from memory, in the same process.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import zstandard
from indexing import write_corpus

import mlxprune
from mlxprune.config.data import Data
from mlxprune.data.index import open_corpus
from mlxprune.data.indexing import build_index
from mlxprune.data.output_file import ZSTD_LEVEL
from mlxprune.data.sources import find_sources
from mlxprune.scoring.nll import PART_DTYPE
from mlxprune.scoring.score_file import write_scores

CHUNK = 4 << 20


def scored(folder: Path, paths: list[str], keep: float) -> Path:
    """A folder as ``mlxprune score`` leaves it, with scores for a share of the documents."""
    data = Data.model_validate({"paths": paths})
    (folder / "corpus").mkdir(parents=True)
    build_index(data, find_sources(data), folder / "corpus")
    corpus = open_corpus(folder / "corpus", data)
    chosen = np.flatnonzero(np.random.default_rng(0).random(len(corpus)) < keep)
    rows = np.ones(len(chosen), PART_DTYPE)
    write_scores(folder / "scores.parquet", corpus, chosen, rows, np.ones((2, 1)), {})
    return folder


def zstd_alone(data: bytes, out: Path) -> float:
    began = time.perf_counter()
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
    with out.open("wb") as file, compressor.stream_writer(file, closefd=False) as writer:
        for at in range(0, len(data), CHUNK):
            writer.write(data[at : at + CHUNK])
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=float, default=0.5, help="share of the rows")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        plain = write_corpus(work, arguments.megabytes, 1)
        packed = work / "packed.jsonl.zst"
        with Path(plain[0]).open("rb") as source, packed.open("wb") as target:
            zstandard.ZstdCompressor(level=ZSTD_LEVEL).copy_stream(source, target)
        for name, paths in (("plain", plain), ("zstd", [str(packed)])):
            folder = scored(work / name, paths, arguments.keep)
            mlxprune.export(folder, work / "same", compress="none", part="pool")
            data = b"".join(p.read_bytes() for p in sorted((work / "same").glob("part-*")))
            shutil.rmtree(work / "same")
            times: dict[str, list[float]] = {"export": [], "zstd alone": []}
            for _ in range(arguments.rounds):
                began = time.perf_counter()
                mlxprune.export(folder, work / "out", part="pool")
                times["export"].append(time.perf_counter() - began)
                shutil.rmtree(work / "out")
                times["zstd alone"].append(zstd_alone(data, work / "alone.zst"))
            medians = {key: statistics.median(values) for key, values in times.items()}
            rates = {key: len(data) / 1e6 / value for key, value in medians.items()}
            ratio = medians["zstd alone"] / medians["export"]
            result[name] = {"megabytes": len(data) / 1e6, "ratio": ratio, **rates}
            if not arguments.json:
                print(
                    f"rows of {name} JSON Lines, {len(data) / 1e6:.1f} MB out: "
                    f"export {rates['export']:.1f} MB/s, zstd alone {rates['zstd alone']:.1f}; "
                    f"export has {ratio:.2f} of its rate"
                )
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
