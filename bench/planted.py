"""Planted truth: a quarter of a corpus is spoilt, and what each criterion does about it is told.

    python bench/planted.py                       # the demo's corpus, 2 MB, pico, three seeds
    python bench/planted.py --megabytes 1 --targets 100k --seeds 0 1

A quarter of the documents of the demo is replaced, in equal parts, by the same words shuffled,
by the same document with a third of its characters at random, and by templates that differ in a
number. Slices are low, medium, high, and an oracle: documents drawn at random from those that were
left alone. Models are held against each other on documents that were set apart before, all clean
(evaluation.primary: target). Printed: how much of each kind a slice keeps, against what it keeps of
all, and each slice's difference from random. Nothing here is asserted: it is reported as it is.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import tempfile
from pathlib import Path

from mlxprune.config.loading import validate_config
from mlxprune.data.demo_corpus import write_demo_corpus
from mlxprune.pipeline.runner import run_study
from mlxprune.run.folder import RunFolder

KINDS = ("shuffled", "noise", "template")
SPOILT = 0.25
HELD_OUT = 0.08  # of the documents, for the target, before anything is spoilt


def spoil(kind: str, text: str, number: int, generator: random.Random) -> str:
    if kind == "shuffled":
        words = text.split()
        generator.shuffle(words)
        return " ".join(words)
    if kind == "noise":
        letters = string.ascii_letters + string.digits + "     "
        return "".join(generator.choice(letters) if generator.random() < 1 / 3 else c for c in text)
    line = f"Item {number}: this page is no longer available. Return to the start page, or search. "
    return line * max(1, len(text) // len(line))


def write_corpus(folder: Path, size: int) -> dict[str, int]:
    """clean.jsonl, the three kinds, and target/ beside it; documents by kind."""
    generator = random.Random(0)
    write_demo_corpus(folder / "demo", size // 7)
    rows = [
        json.loads(line)
        for path in sorted((folder / "demo").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    generator.shuffle(rows)
    held = int(HELD_OUT * len(rows))
    (folder / "target").mkdir(parents=True)
    (folder / "corpus").mkdir()
    with (folder / "target" / "clean.jsonl").open("w", encoding="utf-8") as out:
        for row in rows[:held]:
            out.write(json.dumps({"text": row["text"], "quality": row.get("domain", "all")}) + "\n")
    counts = dict.fromkeys(("clean", *KINDS), 0)
    with (folder / "corpus" / "all.jsonl").open("w", encoding="utf-8") as out:
        for number, row in enumerate(rows[held:]):
            kind, text = "clean", row["text"]
            if generator.random() < SPOILT:
                kind = generator.choice(KINDS)
                text = spoil(kind, text, number, generator)
            counts[kind] += 1
            out.write(json.dumps({"id": str(number), "text": text, "quality": kind}) + "\n")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=2.0)
    parser.add_argument("--targets", default="200k", help="of every final model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep", help="a folder to work in, which stays")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.keep or temporary)
        counts = write_corpus(folder, int(1e6 * arguments.megabytes))
        spoilt = dict.fromkeys(KINDS, 0)
        slices = [{"criterion": c, "rate": 0.5} for c in ("low", "medium", "high")]
        oracle = {"name": "oracle", "criterion": "soft", "centre": 0.5, "spread": 100, "rate": 0.5}
        tree = {
            "name": "planted",
            "data": {"paths": [str(folder / "corpus")], "domain_key": "quality"},
            "tokenizer": {"train": {"vocab_size": 2048}},
            "reference": {"model": "pico", "tokens": "400k", "context": 256},
            "selection": {"slices": [*slices, {**oracle, "cap": spoilt}]},
            "final": {
                "model": "pico", "context": 256, "tokens": arguments.targets,
                "arms": ["pruned", "random"], "seeds": arguments.seeds,
            },
            "evaluation": {"primary": "target", "target": [str(folder / "target")]},
        }  # fmt: skip
        result = run_study(validate_config(tree, "planted"), RunFolder(folder / "run"))
    print(f"documents: {', '.join(f'{kind} {count}' for kind, count in counts.items())}")
    print(f"{'slice':<10} {'of all':>7} {'clean':>7} {'shuffled':>9} {'noise':>7} {'template':>9}"
          "   minus random, bits per byte of clean text")  # fmt: skip
    verdicts = {row.arm: row for row in result.comparisons if row.main}
    for name, manifest in (result.slices or {}).items():
        rate = {r.domain: r.kept_tokens / max(r.tokens, 1) for r in manifest.domains or []}
        whole = (manifest.kept_tokens or 0) / (manifest.pool_tokens or 1)
        told = ""
        if name in verdicts:
            row = verdicts[name]
            low, high = row.interval
            told = f"{row.difference:+.4f} ({low:+.4f} to {high:+.4f}) {row.verdict}"
        print(
            f"{name:<10} {whole:7.1%} {rate.get('clean', 0):7.1%} {rate.get('shuffled', 0):9.1%} "
            f"{rate.get('noise', 0):7.1%} {rate.get('template', 0):9.1%}   {told}"
        )


if __name__ == "__main__":
    main()
