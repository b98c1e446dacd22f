"""Whether two versions of the code write the same bytes and say the same things.

    PYTHONPATH=old python bench/golden.py make /tmp/old
    python bench/golden.py make /tmp/new
    python bench/golden.py compare /tmp/old /tmp/new

``make`` runs several small studies and single stages through the command line, and keeps every
artifact and every answer. The last bits of a training depend on the processor and the number of its
cores, so both have to be made on one machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PARTS = (
    "corpus", "split", "tokenizer", "tokens", "target", "cleaned", "references", "scores",
    "selection", "final", "eval",
)  # fmt: skip
WORDS = (  # noqa: SIM905
    "the of and to in model data train token score low high rank corpus domain slice loss"
).split()
# What is a time, a place or a process, and so differs from run to run.
SCRUBBED = {
    "seconds", "built_seconds", "t", "started", "attempt_started", "updated", "rate", "rates",
    "pid", "utilisation", "input_wait_share", "padding_share", "eta_seconds", "peak_memory_bytes",
    "events", "machine", "memory_bytes", "memory", "attempts", "checkpoint", "finish_seconds",
    "mtime_ns", "folder", "run", "disk_bytes", "version", "before",
}  # fmt: skip


def write_corpus(folder: Path, documents: int, seed: int, bad: bool = False) -> None:
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    makers = {
        "prose": lambda: " ".join(draw.choice(WORDS) for _ in range(draw.randint(5, 120))),
        "code": lambda: "\n".join(
            f"x{draw.randint(0, 9)} = {draw.choice(WORDS)}({draw.randint(0, 99)})"
            for _ in range(draw.randint(2, 20))
        ),
        "numbers": lambda: " ".join(str(draw.randint(0, 99)) for _ in range(draw.randint(5, 80))),
    }
    for domain, make in makers.items():
        with (folder / f"{domain}.jsonl").open("w", encoding="utf-8") as out:
            for number in range(documents):
                row = {"id": f"{domain}-{number}", "text": make(), "domain": domain}
                out.write(json.dumps(row) + "\n")
            if bad:
                out.write('{"id": "bad"}\n{"id": "empty", "text": " "}\n')


def write_tasks(folder: Path) -> None:
    draw = random.Random(5)
    folder.mkdir()

    def said() -> str:
        return " ".join(draw.choice(WORDS) for _ in range(6))

    choice = [
        {"query": said(), "choices": [said(), said()], "gold": draw.randrange(2)} for _ in range(30)
    ]
    model = [{"context": said(), "continuation": draw.choice(WORDS)} for _ in range(20)]
    for name, rows in (("choose", choice), ("finish", model)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines + "not json\n")


def configurations() -> dict[str, dict[str, Any]]:
    small = {"model": "pico", "tokens": 4096, "context": 64, "batch_size": 8}
    base: dict[str, Any] = {
        "data": {"paths": ["corpus"], "domain_key": "domain", "max_bad": 0.1},
        "split": {"reference": 0.3, "validation": 0.1, "test": 0.1},
        "tokenizer": {"train": {"vocab_size": 384}},
        "reference": small,
        "final": {**small, "seeds": [0], "arms": ["pruned", "random"]},
    }
    every = [
        "pruned",
        "random",
        "matched",
        "by-domain",
        "zlib",
        "unigram",
        "shuffled",
        "none",
        "all",
    ]
    return {
        "plain": {**base, "selection": {"criterion": "high", "rate": 0.5, "unit": "tokens"}},
        "many": {
            **{k: v for k, v in base.items() if k != "reference"},
            "references": [
                {**small, "name": "main", "snapshots": [0.5]},
                {**small, "name": "other", "seed": 7},
            ],
            "selection": {
                "rate": 0.5,
                "slices": [
                    {"criterion": "low", "unit": "tokens", "by": "domain"},
                    {"criterion": "high", "cap": {"prose": 0.6}},
                    {"criterion": "soft", "centre": 0.4},
                    {"metric": {"difference": ["main", "other"]}, "name": "apart"},
                    {"metric": "progress", "name": "learnt", "rate": 0.25},
                    {"criterion": "medium", "rule": "paper", "unit": "documents"},
                ],
            },
            "final": {
                **small, "seeds": [0, 1], "arms": every, "branches": [0.5], "tokens": 8192,
            },
            "evaluation": {
                "tasks": ["tasks"], "limit": 25, "target": ["target"], "primary": "target",
            },
        },
        "cross": {
            **base,
            "split": {"cross": 3, "validation": 0.1, "test": 0.1},
            "selection": {"criterion": "medium", "rate": 0.4, "metric": "adjusted"},
            "final": {
                **small, "passes": 2, "tokens": None, "seeds": [0, 1], "ladder": [1, 2],
                "schedule": "cosine", "arms": ["pruned", "random"],
            },
            "evaluation": {"tasks": ["tasks"], "primary": "tasks", "contamination": "remove"},
        },
    }  # fmt: skip


def say(folder: Path, name: str, *arguments: str) -> None:
    """One command; what it prints, and how it ended, goes to ``said/``."""
    done = subprocess.run(
        [sys.executable, "-m", "mlxprune", *arguments], cwd=folder, capture_output=True, text=True,
        check=False, env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
    )  # fmt: skip
    said = folder / "said"
    said.mkdir(exist_ok=True)
    (said / name).write_text(f"{done.stdout}\n--- {done.returncode}\n{plain_lines(done.stderr)}")
    print(f"{name}: {done.returncode}", flush=True)


def plain_lines(text: str) -> str:
    """Without progress, which comes when it comes, and without warnings of libraries, which name
    the line of code that called them."""
    kept = (line for line in text.splitlines() if " %  " not in line and "Warning:" not in line)
    return "\n".join(kept)


def make(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    write_corpus(folder / "corpus", 90, 0, bad=True)
    write_corpus(folder / "more", 40, 3)
    write_corpus(folder / "target", 10, 1)
    write_tasks(folder / "tasks")
    for name, tree in configurations().items():
        (folder / f"{name}.yaml").write_text(json.dumps({"name": name, **tree}))
        say(folder, f"plan-{name}.json", "plan", f"{name}.yaml", "--no-probe", "--json")
        say(folder, f"plan-{name}.txt", "plan", f"{name}.yaml", "--no-probe", "--sample")
        say(folder, f"run-{name}.json", "run", f"{name}.yaml", "--json", "--dir", f"{name}/run")
        say(folder, f"again-{name}.txt", "run", f"{name}.yaml", "--dir", f"{name}/run")
        say(folder, f"status-{name}.json", "status", f"{name}/run", "--json")
        say(folder, f"status-{name}.txt", "status", f"{name}/run")
        say(folder, f"report-{name}.json", "report", f"{name}/run", "--json")
        for identity in ("prose-1", "code-2", "numbers-3", "prose-4", "code-5", "nothing"):
            say(
                folder,
                f"explain-{name}-{identity}.json",
                "explain",
                f"{name}/run",
                identity,
                "--json",
            )
            say(folder, f"explain-{name}-{identity}.txt", "explain", f"{name}/run", identity)
        say(
            folder, f"losses-{name}.json", "explain", f"{name}/run", "prose-1", "--losses", "--json"
        )
        say(folder, f"tail-{name}.txt", "tail", f"{name}/run", "--no-follow", "-n", "2")
        say(
            folder, f"select-{name}.json", "select", f"{name}/run", "--json", "--out",
            f"out-{name}",
            "--criterion", "low", "--criterion", "high", "--rate", "0.3", "--unit", "tokens",
        )  # fmt: skip
    say(
        folder,
        "changed.txt",
        "run",
        "plain.yaml",
        "--dir",
        "plain/run",
        "--set",
        "selection.rate=0.3",
    )
    say(folder, "stability.json", "stability", "many/run", "--json")
    say(folder, "stability.txt", "stability", "many/run", "cross/run")
    model = "plain/run/references/main"
    say(
        folder,
        "score.json",
        "score",
        "--model",
        model,
        "--data",
        "more",
        "--out",
        "scored",
        "--json",
    )
    say(
        folder, "select.txt", "select", "scored/scores.parquet", "--criterion", "soft", "--centre",
        "0.3", "--rate", "0.2", "--out", "soft", "--data", "more",
    )  # fmt: skip
    say(
        folder, "train.json", "train", "--data", "more", "--out", "trained", "--model", "pico",
        "--tokens", "4096", "--context", "64", "--vocab-size", "384", "--json",
    )  # fmt: skip
    for form in ("json", "txt"):
        shown = ["--json"] if form == "json" else []
        say(
            folder, f"eval.{form}", "eval", model, "--tasks", "tasks", "--text", "target", "--out",
            "asked", *shown,
        )  # fmt: skip
    shutil.rmtree(folder / "scored" / "events", ignore_errors=True)


def scrubbed(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: "-" if k in SCRUBBED else scrubbed(v) for k, v in value.items()}
    return [scrubbed(v) for v in value] if isinstance(value, list) else value


def told(path: Path, base: Path) -> str:
    """What was said, without times and places."""
    text = path.read_text().replace(str(base), "BASE")
    head, _, rest = text.partition("\n--- ")
    if path.suffix == ".json":
        with contextlib.suppress(ValueError):
            head = json.dumps(scrubbed(json.loads(head)), indent=1, sort_keys=False)
    head = re.sub(r"\d+(\.\d+)? s\b|\d+ min \d+ s|\d\d:\d\d:\d\d|process \d+", "TIME", head)
    rest = plain_lines(rest)
    rest = re.sub(r"\d+(\.\d+)? s\b|\d+ min \d+ s|process \d+", "TIME", rest)
    head = re.sub(r"\S+=\S+|[\d.]+[kM]?/s|\(\d+ % of peak.*\)", "-", head)
    return f"{head}\n--- {rest}"


def contents(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        parts = name.split("/")
        if (
            not path.is_file()
            or "events" in parts
            or parts[0] in ("said", "corpus", "more", "target", "tasks")
        ):
            continue
        inside = parts[1] == "run" and parts[2] in PARTS if len(parts) > 2 else False
        if (
            inside
            or parts[0] in ("scored", "trained", "asked", "soft")
            or parts[0].startswith("out-")
        ):
            found[name] = stable(path).replace(str(folder).encode(), b"BASE")
    for path in sorted((folder / "said").iterdir()):
        found[f"said/{path.name}"] = told(path, folder).encode()
    return found


def stable(path: Path) -> bytes:
    """A file's bytes; of the few that say when or where they were made, the rest."""
    if path.name in ("files.json", "sources.json", "pretrained.json") or path.name in (
        "lock",
        ".lock",
    ):
        return b""
    if path.name == "eval.json":
        return json.dumps(scrubbed(json.loads(path.read_text()))).encode()
    return path.read_bytes()


def compare(old: Path, new: Path) -> int:
    before, after = contents(old), contents(new)
    different = [n for n in sorted(before.keys() | after.keys()) if before.get(n) != after.get(n)]
    for name in different:
        print(f"differs: {name}")
        if name.startswith("said/"):
            a, b = (x.get(name, b"").decode().splitlines() for x in (before, after))
            shown = [f"  - {x}\n  + {y}" for x, y in zip(a, b, strict=False) if x != y]
            print("\n".join(shown[:4]), f"\n  lines {len(a)} {len(b)}")
    print(f"{len(before)} files and answers before, {len(after)} after, {len(different)} differ")
    return bool(different)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["make", "compare"])
    parser.add_argument("folders", nargs="+", type=Path)
    given = parser.parse_args()
    if given.what == "make":
        make(given.folders[0].absolute())
    else:
        sys.exit(compare(*given.folders))


if __name__ == "__main__":
    main()
