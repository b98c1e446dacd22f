"""Tasks for tests: their files, a tokenizer of bytes, and prompts by the protocol alone."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlxprune.evaluation import requests
from mlxprune.evaluation.requests import TaskRequests
from mlxprune.evaluation.tasks import find_tasks
from mlxprune.tokenization.tokenizer import Tokenizer

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
Rows = list[dict[str, Any]]


def write_tasks(folder: Path, seed: int, count: int = 60) -> Path:
    """A task of every kind: `cloze`, `choose` (categories, 2 shots), `pairs`."""
    draw = random.Random(seed)

    def text(low: int = 1, high: int = 8) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))

    rows: dict[str, list[dict[str, Any]]] = {"cloze": [], "choose": [], "pairs": []}
    for _ in range(count):
        rows["cloze"].append({"context": text(), "continuation": text(1, 2)})
        choices = [text(1, 3) for _ in range(3)]
        told = {"query": text(), "choices": choices, "gold": draw.randrange(3)}
        rows["choose"].append({**told, "category": draw.choice("ab")})
        lead = text()
        told = {"context_options": [f"{lead} {text(1, 2)}", f"{lead} {text(1, 2)}"]}
        rows["pairs"].append({**told, "continuation": text(1, 3), "gold": draw.randrange(2)})
    folder.mkdir(parents=True, exist_ok=True)
    for name, listed in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    (folder / "tasks.yaml").write_text("choose: {shots: 2, by_category: true}\n")
    return folder


def letters() -> Tokenizer:
    """A tokenizer of bytes; " a" is not one token, so no space is added."""

    def encode(texts: list[str]) -> list[list[int]]:
        return [[b + 2 for b in text.encode()] for text in texts]

    return Tokenizer(Path(), "bytes", 258, 1, 1, encode, lambda ids: "")


def prepared(folder: Path, limit: int | None = None, context: int = 400) -> TaskRequests:
    return requests.prepare_requests(find_tasks([str(folder)], None), letters(), context, limit, 0)


def by_the_book(
    rows: Rows, kind: str, shots: int, delimiter: str, by_category: bool
) -> Iterator[tuple[dict[str, Any], str, list[str], list[str]]]:
    """(row, examples, contexts, answers) of every item, from research/paper.md 3.4 alone."""

    def parts(row: dict[str, Any]) -> tuple[list[str], list[str], int]:
        if kind == "language_modeling":
            return [row["context"]], [row["continuation"]], 0
        if kind == "multiple_choice":
            return [row["query"]] * len(row["choices"]), row["choices"], row["gold"]
        return (
            row["context_options"],
            [row["continuation"]] * len(row["context_options"]),
            row["gold"],
        )

    rows = [{k: v.strip() if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    groups = [rows]
    if by_category:
        names = sorted({row["category"] for row in rows})
        groups = [[row for row in rows if row["category"] == name] for name in names]
    for group in groups:
        lottery = random.Random(1234)
        for number, row in enumerate(group):
            said = ""
            if shots:
                wanted = min(len(group) - 1, shots)
                chosen = set(lottery.sample(range(len(group)), wanted))
                if number in chosen:
                    chosen.remove(number)
                    while len(chosen) < min(wanted, len(group) - 1):
                        other = lottery.choice(range(len(group)))
                        if other != number and other not in chosen:
                            chosen.add(other)
                for other in chosen:
                    contexts, answers, gold = parts(group[other])
                    said += "\n" if said else ""
                    said += contexts[gold] + delimiter + answers[gold]
            contexts, answers, _ = parts(row)
            lead = "\n" if said else ""
            yield row, said, [lead + c + delimiter.rstrip() for c in contexts], answers
