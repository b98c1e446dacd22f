"""Answering items of tasks: mlxprune against lm-eval with transformers on torch.

    pip install torch lm-eval[hf]
    python bench/answering.py --shape 10M [--gauntlet DIR --tasks arc_easy winogrande]

The same items as the same token ids, under the same random weights, on the same cores, marked by
the same rule (lowest mean negative log-likelihood a token, greedy match). Every round asks both in
turns. Without --gauntlet the items are made of the text of `mlxprune demo`: four sentences to
choose from, four letters, a word to fill in (language modelling), and schemas.

    ours     as `mlxprune eval` works: contexts shared by the choices, no padded position
    lm_eval  HFLM._loglikelihood_tokens, float32, --batch-size rows at a time, longest first
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scoring import SHAPES
from turns import Contestant, serve, summary

NAMES = ("ours", "lm_eval")
SHOTS = 10


def texts_of(corpus: Path) -> list[str]:
    return [
        json.loads(line)["text"]
        for path in sorted(corpus.rglob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def write_tasks(folder: Path, texts: list[str], items: int) -> None:
    """Four tasks of the demo's text, in the three line formats."""
    words = [w for text in texts for w in text.split()]
    draw = random.Random(0)

    def some(low: int, high: int) -> str:
        count = draw.randint(low, high)
        at = draw.randrange(len(words) - count)
        return " ".join(words[at : at + count])

    rows: dict[str, list[dict[str, Any]]] = {
        "sentences": [],
        "letters": [],
        "cloze": [],
        "pairs": [],
    }
    for _ in range(items):
        choices = [some(5, 15) for _ in range(4)]
        gold = draw.randrange(4)
        query = f"Question: {some(15, 40)}?"
        rows["sentences"].append({"query": query, "choices": choices, "gold": gold})
        listed = " ".join(f"{letter}. {c}" for letter, c in zip("ABCD", choices, strict=True))
        lettered = {"query": f"{query} {listed}", "choices": list("ABCD"), "gold": gold}
        rows["letters"].append(lettered)
        rows["cloze"].append({"context": some(30, 90), "continuation": some(1, 3)})
        lead = some(8, 20)
        options = [f"{lead} {some(1, 2)}", f"{lead} {some(1, 2)}"]
        rows["pairs"].append({"context_options": options, "continuation": some(3, 8), "gold": 0})
    for name, listed_rows in rows.items():
        lines = "".join(json.dumps(row) + "\n" for row in listed_rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    settings = f"sentences: {{shots: {SHOTS}}}\nletters: {{shots: {SHOTS}}}\n"
    (folder / "tasks.yaml").write_text(settings)


def prepare(folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Model, tasks, and their token ids for both contestants; returns the names of the tasks."""
    import mlxprune  # noqa: F401  (first, so that MLX gets its BLAS)
    from mlxprune.config.schema import TrainTokenizer
    from mlxprune.data.demo_corpus import write_demo_corpus
    from mlxprune.evaluation import requests
    from mlxprune.evaluation.tasks import FoundTasks, find_tasks
    from mlxprune.model.architecture import Preset, full_config
    from mlxprune.model.weights import initialise_model, save_model
    from mlxprune.tokenization.sentencepiece_bpe import train_tokenizer
    from mlxprune.tokenization.tokenizer import load_tokenizer

    (folder / "tokenizer").mkdir()
    (folder / "tasks").mkdir()
    write_demo_corpus(folder / "corpus")
    texts = texts_of(folder / "corpus")
    write_tasks(folder / "tasks", texts, arguments.items)
    s = SHAPES[arguments.shape]
    settings = TrainTokenizer(vocab_size=s["vocab"])
    train_tokenizer(settings, iter(texts), os.cpu_count() or 1, folder / "tokenizer")
    tokens = load_tokenizer(folder / "tokenizer")
    form = Preset(
        arguments.shape,
        {
            "model_type": "llama", "hidden_size": s["width"], "num_hidden_layers": s["layers"],
            "num_attention_heads": s["heads"], "num_key_value_heads": s["heads"],
            "intermediate_size": s["hidden"], "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": True,
        },
        {},
    )  # fmt: skip
    context = arguments.context
    model_config = full_config(form, s["vocab"], context, tokens.prefix, tokens.end)
    save_model(initialise_model(model_config, 0), model_config, folder / "tokenizer", folder)
    names = arguments.tasks or [str(folder / "tasks")]
    found = find_tasks(names, arguments.gauntlet)
    for task in found.tasks:
        one = FoundTasks([task], {})
        made = requests.prepare_requests(one, tokens, context, arguments.items, 0)
        with (folder / f"{task.label}.json").open("w") as out:
            json.dump(_rows(made), out)
    return [task.label for task in found.tasks]


def _rows(made: Any) -> list[Any]:
    """[item, choice, context ids, answer ids] of every choice, from the shared prefixes."""
    rows = []
    for shared in made.prefixes:
        suffixes = np.split(
            shared.ids[shared.prefix_length :], np.cumsum(shared.suffix_lengths)[:-1]
        )
        for place, choice in enumerate(np.unique(shared.choice).tolist()):
            answer = shared.targets[shared.choice == choice].tolist()
            inputs = shared.ids[: shared.prefix_length].tolist()
            inputs += suffixes[place].tolist() if shared.suffix_lengths else []
            rows.append([shared.item, choice, inputs[: len(inputs) + 1 - len(answer)], answer])
    return rows


def ours(folder: Path) -> None:
    import mlxprune  # noqa: F401
    from mlxprune.engine import backend
    from mlxprune.engine.shared_prefix import batch_shared_prefixes, shared_prefixes_of
    from mlxprune.model.weights import load_model

    model, _ = load_model(folder)
    asking = backend.answer_function(model)
    tokens = backend.detect().answer_tokens_per_batch

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        by_item: dict[int, list[Any]] = {}
        for row in part_of(folder, question):
            by_item.setdefault(row[0], []).append(row)
        began = time.perf_counter()
        grown = [
            shared
            for item, rows in by_item.items()
            for shared in shared_prefixes_of(item, *zip(*((r[2], r[3]) for r in rows), strict=True))
        ]
        sums: dict[tuple[int, int], tuple[float, bool]] = {}
        for batch in batch_shared_prefixes(grown, tokens):
            some = [grown[n] for n in batch]
            for shared, (losses, hits) in zip(some, asking(some), strict=True):
                for choice in np.unique(shared.choice).tolist():
                    mine = shared.choice == choice
                    sums[shared.item, choice] = (float(losses[mine].sum()), bool(hits[mine].all()))
        seconds = time.perf_counter() - began
        return {"seconds": seconds, **marked(by_item, sums)}

    serve(answer)


def lm_eval(folder: Path, batch_size: int) -> None:
    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(os.cpu_count() or 1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device="cpu")

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        by_item: dict[int, list[Any]] = {}
        rows = part_of(folder, question)
        for row in rows:
            by_item.setdefault(row[0], []).append(row)
        asked = [((f"{r[0]}", f"{r[1]}"), r[2], r[3]) for r in rows]
        began = time.perf_counter()
        found = harness._loglikelihood_tokens(asked, disable_tqdm=True)
        seconds = time.perf_counter() - began
        sums = {(r[0], r[1]): (-f[0], bool(f[1])) for r, f in zip(rows, found, strict=True)}
        return {"seconds": seconds, **marked(by_item, sums)}

    serve(answer)


def part_of(folder: Path, question: dict[str, Any]) -> list[Any]:
    rows = json.loads((folder / f"{question['task']}.json").read_text())
    return [row for row in rows if row[0] % question["parts"] == question["part"]]


def marked(by_item: dict[int, list[Any]], sums: dict[tuple[int, int], Any]) -> dict[str, Any]:
    """What is chosen of every item, by mean NLL a token or the greedy match, and all sums."""
    chosen, nll = [], []
    for item, rows in by_item.items():
        mean = [sums[item, row[1]][0] / len(row[3]) for row in rows]
        nll += [sums[item, row[1]][0] for row in rows]
        chosen.append(int(np.argmin(mean)) if len(rows) > 1 else int(sums[item, 0][1]))
    return {"items": len(by_item), "chosen": chosen, "nll": nll}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="1M")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--items", type=int, default=60, help="of every task")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4, help="of lm-eval")
    parser.add_argument("--gauntlet")
    parser.add_argument("--tasks", nargs="*")
    parser.add_argument("--without", nargs="*", default=[], choices=NAMES[1:])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        name, folder = arguments.serve[0], Path(arguments.serve[1])
        ours(folder) if name == "ours" else lm_eval(folder, arguments.batch_size)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        labels = prepare(folder, arguments)
        result = race(folder, labels, arguments)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{arguments.shape}, context {arguments.context}, {arguments.rounds} rounds in turns")
    for label, told in result.items():
        for row in told["contestants"]:
            print(
                f"  {label:<24} {row['name']:<8} {row['median']:>8.2f} items/s "
                f"({row['lowest']:.2f} to {row['highest']:.2f})  ours is {row['ours_over_it']:.2f}x"
            )
        if "different" in told:
            print(
                f"  {'':<24} {told['items']} items, {told['different']} answered differently, NLL "
                f"within {told['largest']:.1e} relative"
            )


def race(folder: Path, labels: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    base = [__file__, "--batch-size", str(arguments.batch_size), "--serve"]
    names = [n for n in NAMES if n not in arguments.without]
    processes = {name: Contestant(name, [*base, name, str(folder)]) for name in names}
    result: dict[str, Any] = {}
    for label in labels:
        rates: dict[str, list[float]] = {name: [] for name in names}
        answers: dict[str, list[Any]] = {name: [] for name in names}
        for part in range(arguments.rounds):
            for name in names[part % len(names) :] + names[: part % len(names)]:
                question = {"task": label, "part": part, "parts": arguments.rounds}
                answer = processes[name].ask(question)
                rates[name].append(answer["items"] / answer["seconds"])
                answers[name].append(answer)
                rate = f"{rates[name][-1]:.2f} items/s"
                print(f"  {label} round {part + 1} {name} {rate}", file=sys.stderr, flush=True)
        told: dict[str, Any] = {"contestants": summary(rates, "ours")}
        if len(names) > 1:
            mine, theirs = (
                {k: [v for a in answers[n] for v in a[k]] for k in ("chosen", "nll")} for n in names
            )
            pairs = zip(mine["chosen"], theirs["chosen"], strict=True)
            told["items"] = len(mine["chosen"])
            told["different"] = sum(a != b for a, b in pairs)
            told["largest"] = max(
                abs(a / b - 1) for a, b in zip(mine["nll"], theirs["nll"], strict=True)
            )
        result[label] = told
    for process in processes.values():
        process.close()
    return result


if __name__ == "__main__":
    main()
