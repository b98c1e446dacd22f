"""Selection at size: from key, nll_sum and num_tokens to the kept keys, time and memory.

    python bench/selection.py --millions 1 10 100
    python bench/selection.py --millions --ways 10    # 10 million scores, 20 slices, one command

Columns are synthetic, written to a temporary folder and memory-mapped; every size and unit runs in
a process of its own, whose largest resident size counts the mapped pages, too. Sizes up to 10
million are checked against sorting everything.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = {"key": np.uint64, "nll_sum": np.float64, "num_tokens": np.int64}


def write(folder: Path, count: int) -> None:
    """Lognormal lengths and normal losses, in pieces."""
    files = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (count,))
        for name, dtype in COLUMNS.items()
    }
    generator = np.random.default_rng(0)
    for start in range(0, count, 1 << 22):
        part = slice(start, min(start + (1 << 22), count))
        size = part.stop - part.start
        tokens = np.maximum(1, np.exp(generator.normal(5.5, 1.2, size))).astype(np.int64)
        files["key"][part] = generator.integers(0, 2**64, size, np.uint64)
        files["num_tokens"][part] = tokens
        files["nll_sum"][part] = tokens * np.abs(generator.normal(4, 1, size))


def work(folder: str, unit: str, check: bool, answer: Any) -> None:
    from mlxprune.config.slices import Slice
    from mlxprune.data.hashing import mix
    from mlxprune.scoring.score_file import Scores
    from mlxprune.selection.selector import select_slice

    key, nll_sum, num_tokens = (np.load(Path(folder) / f"{n}.npy", mmap_mode="r") for n in COLUMNS)
    scores = Scores(key, nll_sum, num_tokens, num_tokens)
    choice = Slice(criterion="medium", rate=Decimal("0.5"), unit=unit)  # type: ignore[arg-type]
    began = time.perf_counter()
    kept = select_slice(scores, choice, 0)
    keys = key[kept.mask]
    seconds = time.perf_counter() - began
    scale = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    same = None
    if check:
        order = np.lexsort((key, mix(key, "ties 0"), nll_sum / num_tokens))
        own = np.ones(len(key), np.int64) if unit == "documents" else num_tokens[order]
        middles = 2 * np.cumsum(own) - own
        total = int(own.sum())
        if unit == "documents":
            half = (len(key) + 1) // 2
            low = (len(key) - half) // 2
            inside = np.arange(len(key))
            inside = (inside >= low) & (inside < low + half)
        else:
            inside = (2 * middles >= total) & (2 * middles < 3 * total)
        same = bool(np.array_equal(np.sort(key[order[inside]]), np.sort(keys)))
    answer.put({"seconds": seconds, "peak": peak, "kept": len(keys), "same": same})


def twenty_ways(millions: float) -> dict[str, Any]:
    """`mlxprune select` on a scores file with ids and domains: 20 slices in one command."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = round(millions * 1e6)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, count)
        columns = {n: np.load(folder / f"{n}.npy", mmap_mode="r") for n in COLUMNS}
        names = pa.array([f"domain-{n}" for n in range(20)])
        schema = pa.schema(
            [
                *((n, pa.from_numpy_dtype(d)) for n, d in COLUMNS.items()),
                ("num_bytes", pa.int64()),
                ("id", pa.string()),
                ("domain", pa.dictionary(pa.int32(), pa.string())),
            ]
        )
        path = folder / "scores.parquet"
        with pq.ParquetWriter(path, schema) as out:
            for start in range(0, count, 1 << 18):
                part = {n: np.array(c[start : start + (1 << 18)]) for n, c in columns.items()}
                size = len(part["key"])
                arrays = [pa.array(part[n]) for n in COLUMNS]
                arrays.append(pa.array(4 * part["num_tokens"]))
                arrays.append(pa.array([f"document-{start + i}" for i in range(size)]))
                codes = pa.array((part["key"] % 20).astype(np.int32))
                arrays.append(pa.DictionaryArray.from_arrays(codes, names))
                out.write_batch(pa.record_batch(arrays, schema=schema))
        command = [sys.executable, "-m", "mlxprune", "select", str(path), "--out"]
        command += [str(folder / "slices"), "--json", "--unit", "tokens"]
        for option, values in (
            ("--criterion", ("low", "medium", "high")),
            ("--rate", ("0.1", "0.2", "0.25", "0.5", "0.75", "0.9")),
            ("--band", ("0.25,0.5", "0.5,0.75")),
        ):
            for value in values:
                command += [option, value]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, check=True)
        seconds = time.perf_counter() - began
        slices = json.loads(done.stdout)["slices"]
    scale = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * scale
    return {"millions": millions, "slices": len(slices), "seconds": seconds, "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, nargs="*", default=[1, 10, 100])
    parser.add_argument("--ways", type=float, nargs="*", default=[], help="millions, 20 slices")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = []
    context = multiprocessing.get_context("spawn")
    for millions in arguments.millions:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), round(millions * 1e6))
            for unit in ("documents", "tokens"):
                answer = context.Queue()
                check = millions <= 10
                process = context.Process(target=work, args=(folder, unit, check, answer))
                process.start()
                found = answer.get()
                process.join()
                results.append({"millions": millions, "unit": unit, **found})
                if not arguments.json:
                    same = {True: "equal to sorting", False: "WRONG", None: ""}[found["same"]]
                    print(
                        f"{millions:>6g} M documents, {unit:<9} {found['seconds']:6.1f} s  "
                        f"peak {found['peak'] / 2**30:.2f} GiB  kept {found['kept']}  {same}",
                        flush=True,
                    )
    for millions in arguments.ways:
        found = twenty_ways(millions)
        results.append(found)
        if not arguments.json:
            print(
                f"{millions:>6g} M documents, {found['slices']} slices in one command: "
                f"{found['seconds']:.1f} s, peak {found['peak'] / 2**30:.2f} GiB",
                flush=True,
            )
    if arguments.json:
        print(json.dumps(results))
    if any(r.get("same") is False for r in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
