"""Whether the live histogram is a fair sample of the pool at every look that was fixed beforehand.

    python bench/fair_sample.py [DATA] [--seeds 20] [--workers 1 2 4] [--model FOLDER]

One model scores the same documents in the order of every seed. At a look, with n of N documents in
finished units and D the Kolmogorov-Smirnov distance of their histogram to the last one, the figure
is sqrt(n) D / sqrt(1 - n/N): a random sample stays below 1.63 in 99 % of looks. A look with no
document counts as a miss once two seconds and a hundredth of the work are done.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import mlxprune  # noqa: F401  (first, so that MLX gets its BLAS)
from mlxprune.commands.single_stages import data_config
from mlxprune.run.event_kinds import Event, Progress
from mlxprune.run.state import RunState
from mlxprune.standalone.score import score_data

LOOKS = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97)
SECONDS = 2.0
LIMIT, SHARE = 1.63, 0.95


class Looks:
    """The histogram as it stands when a share of the work is done: a listener of the log."""

    def __init__(self) -> None:
        self.found: list[tuple[float, float, np.ndarray]] = []  # share, seconds, counts
        self.began: float | None = None

    def __call__(self, event: Event, state: RunState) -> None:
        if not isinstance(event, Progress) or event.stage != "score" or not event.total:
            return
        now = time.monotonic()
        self.began = self.began or now
        share = (event.done or 0) / event.total
        while len(self.found) < len(LOOKS) and share >= LOOKS[len(self.found)]:
            held = state.histogram
            counts = np.array(held.documents if held and held.documents else [0])
            self.found.append((share, now - self.began, counts))


def looked(arguments: argparse.Namespace, model: str, seed: int, workers: int) -> dict[str, Any]:
    looks = Looks()
    last: list[Any] = []
    config = data_config(
        [arguments.data], "text", "id", "auto", score={"workers": workers}, seed=seed
    )
    with tempfile.TemporaryDirectory() as name:
        score_data(config, model, Path(name), [looks, lambda event, state: last.append(state)])
    whole = np.array(last[-1].histogram.documents, np.float64)
    total = whole.sum()
    figures, shares, misses = [], [], 0
    for share, seconds, counts in looks.found:
        n = counts.sum()
        if not n:
            misses += seconds > SECONDS and share > LOOKS[0]
            continue
        if n >= total:
            continue
        apart = np.abs(np.cumsum(counts) / n - np.cumsum(whole) / total).max()
        figures.append(float(np.sqrt(n) * apart / np.sqrt(1 - n / total)))
        shares.append(float(n / total))
    return {"figures": figures, "shares": shares, "empty": misses, "documents": int(total)}


def trained(data: str, folder: Path) -> str:
    command = [sys.executable, "-m", "mlxprune", "train", data, "--data", data, "--out"]
    command += [str(folder), "--model", "pico", "--tokens", "300k", "--vocab-size", "2048"]
    subprocess.run([*command, "--context", "256", "--quiet"], check=True)
    return str(next(p.parent for p in folder.rglob("config.json")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", help="files of documents; the demo's without")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--model", help="a folder; a small one is trained without")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.data is None:
            from mlxprune.data.demo_corpus import write_demo_corpus

            write_demo_corpus(Path(name) / "corpus")
            arguments.data = str(Path(name) / "corpus")
        model = arguments.model or trained(arguments.data, Path(name) / "model")
        rows = {}
        for workers in arguments.workers:
            found = [looked(arguments, model, seed, workers) for seed in range(arguments.seeds)]
            figures = np.array([f for one in found for f in one["figures"]])
            empty = sum(one["empty"] for one in found)
            fair = int((figures <= LIMIT).sum())
            rows[workers] = {
                "looks": len(figures) + empty,
                "fair": fair / max(1, len(figures) + empty),
                "largest": float(figures.max(initial=0.0)),
                "median": float(np.median(figures)),
                "empty": empty,
                "first_share": float(np.median([one["shares"][0] for one in found])),
                "documents": found[0]["documents"],
            }
            if not arguments.json:
                told = rows[workers]
                print(
                    f"{workers} workers: {100 * told['fair']:.1f} % of {told['looks']} looks fair "
                    f"(limit {100 * SHARE:.0f} %), median {told['median']:.2f}, largest "
                    f"{told['largest']:.2f}, {empty} empty, first look at "
                    f"{100 * told['first_share']:.1f} % of {told['documents']:,} documents",
                    flush=True,
                )
    if arguments.json:
        print(json.dumps(rows))
    return 0 if all(row["fair"] >= SHARE for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
