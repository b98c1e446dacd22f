"""Whether the memory of training and of scoring grows: resident size of the child over minutes.

    python bench/flat.py [--minutes 4]

A study with one long training, then a pool that is scored for as long. Prints the resident size of
the child at a quarter, half, three quarters and the end of each, and the slope.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mlxprune.run.events import fold_log
from mlxprune.testing import tiny

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=4)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        corpus = tiny.tiny_corpus(base / "corpus", documents=60_000)
        tree = tiny.tiny_config(
            corpus,
            split={"reference": 0.2},
            reference={"tokens": round(1_200_000 * minutes)},
            score={"workers": 1, "batch_tokens": 512},
            final={"tokens": 4096},
        )
        (base / "t.yaml").write_text(json.dumps(tree))
        run = base / "run"
        command = [sys.executable, "-m", "mlxprune", "run", str(base / "t.yaml"), "--dir", str(run)]
        child = subprocess.Popen([*command, "-q", "--until", "score"],
                                 env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=base)  # fmt: skip
        held: dict[str, list[tuple[float, float]]] = {"reference": [], "score": []}
        while child.poll() is None:
            time.sleep(0.5)
            stages = fold_log(run / "events").stages
            for stage, points in held.items():
                if stages[stage].state == "running" and stages[stage].done:
                    sizes = [p.memory_info().rss for p in _children(child.pid)]
                    if sizes:
                        points.append((time.monotonic(), max(sizes) / 1e6))
        for stage, points in held.items():
            at, size = np.array(points).T
            steady = at > at[0] + 0.2 * (at[-1] - at[0])
            slope = np.polyfit(at[steady] / 60, size[steady], 1)[0]
            quarters = [size[round(share * (len(size) - 1))] for share in (0.25, 0.5, 0.75, 1)]
            print(
                f"{stage}: {at[-1] - at[0]:.0f} s, MB at quarters "
                f"{', '.join(f'{s:.0f}' for s in quarters)}, slope {slope:+.2f} MB a minute"
            )


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


if __name__ == "__main__":
    main()
