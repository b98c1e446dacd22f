"""For tests, ours and yours: a tiny corpus, and a Llama in NumPy float64 to hold scores against."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlxprune.config.loading import validate_config
from mlxprune.config.schema import Config

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "for",
    "that",
    "with",
    "as",
    "on",
    "by",
    "this",
    "are",
    "from",
    "be",
    "an",
    "or",
    "at",
    "which",
    "model",
    "data",
    "train",
    "token",
    "score",
    "low",
    "high",
    "rank",
    "corpus",
    "domain",
    "slice",
    "reference",
    "perplexity",
    "loss",
    "learn",
    "step",
    "part",
    "whole",
    "small",
    "large",
    "word",
    "sentence",
    "paragraph",
    "document",
]
NUMBERS = [str(n) for n in range(100)]
CODE = [
    "def f(x):",
    "    return x + 1",
    "for i in range(10):",
    "    print(i)",
    "import os",
    "x = [1, 2]",
]


SMALL_REFERENCE: dict[str, Any] = {
    "model": "pico", "tokens": 2048, "context": 64, "batch_size": 8,
}  # fmt: skip


def tiny_corpus(folder: Path, documents: int = 240, seed: int = 0) -> Path:
    """JSONL of three synthetic domains (prose, code, numbers) with ids; returns the folder."""
    generator = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[], str]] = {
        "prose": lambda: " ".join(
            generator.choice(WORDS) for _ in range(generator.randint(5, 120))
        ),
        "code": lambda: "\n".join(generator.choice(CODE) for _ in range(generator.randint(2, 30))),
        "numbers": lambda: " ".join(
            generator.choice(NUMBERS) for _ in range(generator.randint(5, 80))
        ),
    }
    for domain, make in makers.items():
        with (folder / f"{domain}.jsonl").open("w", encoding="utf-8") as out:
            for number in range(documents // len(makers)):
                record = {"id": f"{domain}-{number}", "text": make(), "domain": domain}
                out.write(json.dumps(record) + "\n")
    return folder


def tiny_config(folder: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """A configuration over ``tiny_corpus`` that runs in seconds; ``sections`` override keys."""
    tree: dict[str, Any] = {
        "name": "tiny",
        "data": {"paths": [str(folder)], "domain_key": "domain"},
        "split": {"reference": 0.3, "validation": 0.1, "test": 0.1},
        "tokenizer": {"train": {"vocab_size": 384}},
        "reference": {"model": "pico", "tokens": 4096, "context": 64, "batch_size": 8},
        "selection": {"criterion": "high", "rate": 0.5, "unit": "tokens"},
        "final": {
            "model": "pico",
            "tokens": 4096,
            "context": 64,
            "batch_size": 8,
            "seeds": [0],
            "arms": ["pruned", "random"],
        },
    }
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return tree


def short_study(**sections: Any) -> Config:
    """A configuration whose data are never read; ``sections`` override keys."""
    tree: dict[str, Any] = {"data": {"paths": ["x"]}, "reference": {"tokens": 2_000_000}}
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return validate_config(tree, "test")


ARTIFACTS = ("split", "tokenizer", "tokens", "references", "scores", "selection", "final", "eval")


def artifacts_of(run: Path) -> dict[str, bytes]:
    """Every byte that the stages of a run left, by path."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for part in ARTIFACTS
        for path in sorted((run / part).rglob("*"))
        if path.is_file()
    }


def targets_trained(run: Path) -> int:
    """Targets over all attempts, from the log; what a kill leaves unreported is under 0.5 s."""
    from mlxprune.run.event_kinds import TrainStep
    from mlxprune.run.events import read_events

    steps = (e for e in read_events(run / "events") if isinstance(e, TrainStep))
    return sum(int(step.new_targets or 0) for step in steps)


def start_run(config: Path, run: Path) -> subprocess.Popen[bytes]:
    """``mlxprune run`` in a process group of its own, to be killed."""
    command = [sys.executable, "-m", "mlxprune", "run", str(config), "--dir", str(run), "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
