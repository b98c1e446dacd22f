"""Indexing: how fast files become an index, against a plain loop or another checkout, in turns.

    python bench/indexing.py [--megabytes 400] [--files 1] [--against CHECKOUT]

The plain loop parses every line and hashes its text on one core: what any index has to do at least.
Both read the same JSON Lines, made of the demo's documents; memory is the peak of the process and
of the largest of its children.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from turns import Contestant, serve, summary


def write_corpus(folder: Path, megabytes: float, files: int) -> list[str]:
    """Documents of the demo again and again, each with a number of its own."""
    from mlxprune.data.demo_corpus import write_demo_corpus

    write_demo_corpus(folder / "demo")
    lines = [
        json.loads(line)
        for path in sorted((folder / "demo").glob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]
    paths, number = [], 0
    for file in range(files):
        path, size = folder / f"part-{file:05d}.jsonl", 0
        with path.open("wb") as out:
            while size < megabytes * 1e6 / files:
                row = lines[number % len(lines)]
                made = {**row, "id": number, "text": f"{number} {row['text']}"}
                size += out.write(json.dumps(made).encode() + b"\n")
                number += 1
        paths.append(str(path))
    shutil.rmtree(folder / "demo")
    return paths


def index(paths: list[str]) -> None:
    """By this checkout, or by one that had another interface."""
    from mlxprune.data.indexing import build_index
    from mlxprune.data.sources import find_sources

    with tempfile.TemporaryDirectory() as out:
        try:
            from mlxprune.config.data import Data
        except ImportError:
            from mlxprune.config.schema import Data  # type: ignore[attr-defined, no-redef]

            data = Data(paths=paths)
            sources, left_out = find_sources(data.paths)  # type: ignore[misc, arg-type]
            build_index(data, sources, left_out, Path(out))  # type: ignore[call-arg, arg-type]
            return
        data = Data.model_validate({"paths": paths})
        build_index(data, find_sources(data), Path(out))


def loop(paths: list[str]) -> None:
    import orjson

    for path in paths:
        with Path(path).open("rb") as file:
            for line in file:
                hashlib.blake2b(orjson.loads(line)["text"].encode(), digest_size=8).digest()


def answer(question: dict[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    (loop if question["loop"] else index)(question["paths"])
    seconds = time.perf_counter() - began
    peaks = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, "peaks": [peak * unit for peak in peaks]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=400)
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another checkout of mlxprune")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(answer)
        return
    with tempfile.TemporaryDirectory() as name:
        paths = write_corpus(Path(name), arguments.megabytes, arguments.files)
        size = sum(Path(path).stat().st_size for path in paths)
        program = str(Path(__file__).resolve())
        contestants = [Contestant("ours", [program, "--serve"])]
        contestants.append(Contestant("a plain loop", [program, "--serve"]))
        if arguments.against:
            first = [str(arguments.against.resolve()), str(Path(program).parent)]
            code = f"import sys; sys.path[:0] = {first!r}; "
            code += f"sys.argv = [{program!r}, '--serve']; import runpy; "
            code += f"runpy.run_path({program!r}, run_name='__main__')"
            contestants.append(Contestant("the other checkout", ["-c", code]))
        rates: dict[str, list[float]] = {c.name: [] for c in contestants}
        peaks: dict[str, list[int]] = {}
        for _ in range(arguments.rounds):
            for contestant in contestants:
                asked = {"paths": paths, "loop": contestant.name == "a plain loop"}
                found = contestant.ask(asked)
                rates[contestant.name].append(size / found["seconds"])
                peaks[contestant.name] = found["peaks"]
        for contestant in contestants:
            contestant.close()
    print(f"{size / 1e6:,.0f} MB of JSON Lines in {arguments.files} files")
    for row in summary(rates, "ours"):
        own, child = (peak / 1e6 for peak in peaks[row["name"]])
        memory = f"memory {own:,.0f} MB" + (f" and {child:,.0f} MB in a child" if child else "")
        over = "" if row["name"] == "ours" else f"; ours is {row['ours_over_it']:.2f} times as fast"
        print(f"{row['name']:<20} {row['median'] / 1e6:>7.1f} MB/s  {memory}{over}")


if __name__ == "__main__":
    main()
