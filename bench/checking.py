"""What the checksums cost: a study with them and one without, in turns.

    python bench/checking.py [--rounds 5] [--documents 6000]

The other one is the same package with the hash of a file taken out, so that nothing is read back.
Prints the ratio of the medians.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from torture_faults import Plant, planted

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
WITHOUT = Plant(
    "no checksums",
    "mlxprune/checksums.py",
    """        found = FileSum(stamp[0], list(_piece_sums(file, stamp[0], WHOLE).values()))
""",
    """        found = FileSum(stamp[0], [])
""",
    "",
)


def main() -> None:
    from mlxprune.config.yaml_file import write_yaml
    from mlxprune.testing import tiny

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=6000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        corpus = tiny.tiny_corpus(base / "corpus", documents=asked.documents)
        work = {"model": "nano", "tokens": 40_000}
        tree = tiny.tiny_config(corpus, reference=work, final=work)
        path = base / "tiny.yaml"
        path.write_text(write_yaml(tree))
        places = {"with": ROOT, "without": planted(WITHOUT, base / "package")}
        seconds: dict[str, list[float]] = {kind: [] for kind in places}
        again: dict[str, list[float]] = {kind: [] for kind in places}
        for number in range(asked.rounds):
            for kind, place in places.items():
                run = base / f"{kind}-{number}" / "run"
                command = [sys.executable, "-m", "mlxprune", "run", str(path), "-q"]
                command += ["--dir", str(run)]
                environment = {**os.environ, "PYTHONPATH": str(place)}
                for times in (seconds, again):
                    began = time.monotonic()
                    subprocess.run(
                        command, check=True, env=environment, cwd=base, stdout=subprocess.DEVNULL
                    )
                    times[kind].append(time.monotonic() - began)
                shutil.rmtree(run.parent)
        for what, times in (("a study", seconds), ("a start that finds all done", again)):
            ratio = statistics.median(times["with"]) / statistics.median(times["without"])
            pairs = [a / b for a, b in zip(times["with"], times["without"], strict=True)]
            print(
                f"{what}: with checksums {ratio:.3f} of without "
                f"(pairs {min(pairs):.3f} to {max(pairs):.3f}, {asked.rounds} rounds)"
            )


if __name__ == "__main__":
    main()
