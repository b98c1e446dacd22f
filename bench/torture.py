"""Kill a run with SIGKILL at random instants until it is done, and compare every byte it left.

    python bench/torture.py --rounds 5 [--seed N]

Prints, a round: kills by stage, the targets trained over all attempts, and the bound that holds
them: planned + kills in training x checkpoint interval.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from mlxprune.config.yaml_file import write_yaml
from mlxprune.run.events import fold_log
from mlxprune.run.markers import forget
from mlxprune.testing import tiny

INTERVAL = 2048


def one_round(generator: random.Random, config_path: Path, folder: Path) -> Counter[str]:
    """Run to the end, killed about once in every stretch of work."""
    kills: Counter[str] = Counter()
    while True:
        child = tiny.start_run(config_path, folder)
        wait = generator.uniform(1.0, 6.0) if sum(kills.values()) < 8 else 600.0
        deadline = time.monotonic() + wait
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if child.poll() is not None:
            if child.returncode:
                raise SystemExit(f"the run failed with exit code {child.returncode}")
            return kills
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        state = fold_log(folder / "events")
        at = [n for n, s in state.stages.items() if s.state == "running"]
        kills[at[0] if at else "between"] += 1


def write_tasks(folder: Path, count: int) -> Path:
    """Two tasks of several units each: what a kill in the evaluation can hit."""
    draw = random.Random(0)
    folder.mkdir()
    for name in ("first", "second"):
        rows = []
        for _ in range(count):
            said = [" ".join(draw.choices(tiny.WORDS, k=20)) for _ in range(3)]
            rows.append({"query": said[0], "choices": said[1:], "gold": draw.randrange(2)})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a third of the work")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    print("seed", arguments.seed)
    generator = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        less = 3 if arguments.small else 1
        corpus = tiny.tiny_corpus(base / "corpus", documents=1500 // less)
        work = {"tokens": 40_000 // less, "checkpoint_every": INTERVAL}
        asked = {"tasks": [str(write_tasks(base / "tasks", 1500 // less))]}
        final = {**work, "branches": [0.5]}
        tree = tiny.tiny_config(corpus, reference=work, final=final, evaluation=asked)
        config_path = base / "tiny.yaml"
        config_path.write_text(write_yaml(tree))
        whole = base / "first" / "whole"
        tiny.start_run(config_path, whole).wait()
        expected, planned = tiny.artifacts_of(whole), tiny.targets_trained(whole)
        if not expected:
            raise SystemExit("the uninterrupted run left nothing")
        for number in range(arguments.rounds):
            # In a folder of its own: beside the whole run it would take over its models.
            folder = base / str(number) / "run"
            kills = one_round(generator, config_path, folder)
            found = tiny.artifacts_of(folder)
            different = [
                n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n)
            ]
            in_training = kills["reference"] + kills["final"]
            spent, bound = tiny.targets_trained(folder), planned + in_training * INTERVAL
            shown = ", ".join(f"{s} {n}" for s, n in kills.items()) or "none"
            print(
                f"kills: {shown}; targets {spent:,} of at most {bound:,}; {len(found)} files equal"
            )
            if different:
                raise SystemExit(f"bytes differ: {', '.join(sorted(different)[:5])}")
            if spent > bound:
                raise SystemExit("more targets were trained than the checkpoints allow")
            forget(folder)


if __name__ == "__main__":
    main()
