"""Throw broken files at the readers: every outcome is rows, counted skips, or a DataError.

python bench/fuzz.py --seconds 10 [--seed N]
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
import lzma
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import zstandard

from mlxprune.config.data import Data
from mlxprune.data.readers import read_rows
from mlxprune.data.rows import Skip
from mlxprune.data.sources import find_sources
from mlxprune.errors import DataError

PACK = (lambda d: d, gzip.compress, zstandard.compress, lzma.compress, bz2.compress)
NAMES = (
    "a.jsonl", "a.parquet", "a.txt", "a", "a.jsonl.zst", "a.json", "a.csv", "a.tsv.gz", "a.arrow",
    "a.warc", "a.pq",
)  # fmt: skip
VALUES = ("x", "", " ", None, 5, 1e400, ["x"], {"a": 1}, "\ud800", "\u2028", "é" * 50, "\0", True)


def make(generator: random.Random) -> bytes:
    """Rows of odd values, then perhaps flipped bytes, a cut, or another codec's tail."""
    rows = []
    for _ in range(generator.randint(0, 30)):
        row = {
            generator.choice(("text", "id", "domain", "meta", "text.x")): generator.choice(VALUES)
            for _ in range(generator.randint(0, 4))
        }
        rows.append(json.dumps(row).encode() + generator.choice((b"\n", b"\r\n", b"\n\n")))
    data = bytearray(b"".join(rows))
    if generator.random() < 0.4:
        for _ in range(generator.randint(1, 8)):
            if data:
                data[generator.randrange(len(data))] = generator.randrange(256)
    data = bytearray(generator.choice(PACK)(bytes(data)))
    if generator.random() < 0.3:
        data = data[: generator.randint(0, len(data))]
    if generator.random() < 0.2:
        data += generator.choice(PACK)(b'{"text": "tail"}\n')
    if generator.random() < 0.1:
        data += generator.randbytes(generator.randint(1, 40))
    return bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    outcomes: Counter[str] = Counter()
    deadline = time.monotonic() + arguments.seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < deadline:
            name = generator.choice(NAMES)
            path = Path(folder) / name
            path.write_bytes(make(generator))
            try:
                found = find_sources(Data(paths=[str(path)]))
                outcomes["refused"] += len(found.problems)
                rows = (row for source in found.sources for row in read_rows(source))
                for row in rows:
                    kind = row.reason if isinstance(row, Skip) else "row"
                    outcomes[kind] += 1
            except DataError:
                outcomes["DataError"] += 1
            except BaseException:
                print(f"seed {arguments.seed}: {name} {path.read_bytes()!r}")
                raise
            path.unlink()
    print(f"seed {arguments.seed}:", ", ".join(f"{k} {n}" for k, n in outcomes.most_common()))


if __name__ == "__main__":
    main()
