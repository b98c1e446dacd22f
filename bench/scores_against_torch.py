"""Scores of a run against an independent computation with transformers on torch.

    pip install torch
    python bench/scores_against_torch.py MODEL SCORES.parquet DATA.jsonl... --documents 500

MODEL and SCORES are a run's references/main and scores/main.parquet, or what `mlxprune score` read
and wrote. Imports nothing from mlxprune. Reads the texts itself (plain JSON Lines), encodes them
with the saved tokenizer through transformers, loads the model with AutoModelForCausalLM, and works
out each document alone, window by window. Also compares logits of torch and of mlx_lm.load.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def document_nll(model: torch.nn.Module, ids: list[int], prefix: int, context: int) -> float:
    """Sum of -ln p over all ids; windows of ``context`` targets, positions restart in each."""
    total = 0.0
    for start in range(0, len(ids), context):
        targets = ids[start : start + context]
        before = ids[start - 1] if start else prefix
        inputs = torch.tensor([[before, *targets[:-1]]])
        with torch.no_grad():
            table = torch.log_softmax(model(inputs).logits[0].double(), dim=-1)
        total -= float(table[torch.arange(len(targets)), torch.tensor(targets)].sum())
    return total


def choose(lengths: np.ndarray, context: int, count: int) -> np.ndarray:
    """The shortest and the longest, all around one and two windows, the rest at random."""
    order = np.argsort(lengths, kind="stable")
    near = [
        np.flatnonzero(lengths == n)[:4]
        for n in (1, context - 1, context, context + 1, 2 * context)
    ]
    fixed = np.concatenate([order[:20], order[-10:], *near])
    rest = np.random.default_rng(0).permutation(len(lengths))
    return np.array(list(dict.fromkeys([*fixed.tolist(), *rest.tolist()])))[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("scores", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--documents", type=int, default=500)
    arguments = parser.parse_args()
    folder, scores_path = arguments.model, arguments.scores
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    meta = {k.decode(): v.decode() for k, v in pq.read_schema(scores_path).metadata.items()}
    context, prefix = int(meta["policy.context"]), int(meta["prefix"])
    table = pq.read_table(scores_path, columns=["id", "nll_sum", "num_tokens"]).to_pydict()
    texts = {}
    for path in arguments.data:
        for line in path.open(encoding="utf-8"):
            row = json.loads(line)
            texts[str(row["id"])] = row["text"]
    chosen = choose(np.array(table["num_tokens"]), context, arguments.documents)
    worst, wrong, kinds = (
        0.0,
        0,
        {"one token": 0, "one window": 0, "one more": 0, "long": 0, "not ASCII": 0},
    )
    for at in chosen.tolist():
        text = texts[table["id"][at]]
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        wrong += len(ids) != table["num_tokens"][at]
        true = document_nll(model, ids, prefix, context)
        worst = max(worst, abs(table["nll_sum"][at] - true) / abs(true))
        kinds["one token"] += len(ids) == 1
        kinds["one window"] += len(ids) == context
        kinds["one more"] += len(ids) == context + 1
        kinds["long"] += len(ids) > 10 * context
        kinds["not ASCII"] += not text.isascii()
    print(f"{len(chosen)} documents: {', '.join(f'{k} {n}' for k, n in kinds.items())}")
    print(f"num_tokens different: {wrong}")
    print(f"nll_sum, largest relative difference: {worst:.2e} (asked for: 1e-4)")
    logits = logit_difference(folder, model)
    print(f"logits, torch against mlx_lm.load, largest difference: {logits:.2e}")


def logit_difference(folder: Path, model: torch.nn.Module) -> float:
    import mlx.core as mx
    from mlx_lm import load

    ours, _ = load(str(folder))
    ids = np.random.default_rng(1).integers(2, model.config.vocab_size, (2, 64))
    with torch.no_grad():
        theirs = model(torch.tensor(ids)).logits.numpy()
    return float(np.abs(np.array(ours(mx.array(ids))) - theirs).max())


if __name__ == "__main__":
    main()
