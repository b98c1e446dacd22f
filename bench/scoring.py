"""Scoring documents: mlxprune against transformers on torch, a bucketed torch loop, and mlx_lm.

    pip install torch
    python bench/scoring.py --shape 10M --documents 2000 [--data FILES...]

Per-document perplexity of the same documents under the same random weights on the same cores. Every
round scores the next share of the documents with each contestant in turn, so that all documents are
scored once. Without --data the documents are those of `mlxprune demo`.

    ours       as `mlxprune score` works: one process a core, rows sorted into fitted lengths
    usual      transformers, batches of 16 rows in file order, padded to the longest, log_softmax
    bucketed   transformers, our rows in our batches, cross_entropy without a reduction
    mlx_lm     mlx_lm.perplexity.eval_ppl: chunks of the context length out of one stream of tokens
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from turns import Contestant, serve, summary

SHAPES = {
    "1M": {"width": 128, "layers": 4, "heads": 4, "hidden": 352, "vocab": 4096},
    "10M": {"width": 320, "layers": 6, "heads": 5, "hidden": 864, "vocab": 8192},
}
NAMES = ("ours", "usual", "bucketed", "mlx_lm")


def prepare(folder: Path, shape: str, context: int, documents: int, data: list[str]) -> None:
    """Model in Hugging Face layout, token ids and document lengths, for all contestants."""
    import mlxprune  # noqa: F401  (first, so that MLX gets its BLAS)
    from mlxprune.config.data import Data
    from mlxprune.config.schema import TrainTokenizer
    from mlxprune.data.demo_corpus import write_demo_corpus
    from mlxprune.data.readers import read_rows
    from mlxprune.data.rows import Row
    from mlxprune.data.sources import find_sources
    from mlxprune.model.architecture import Preset, full_config
    from mlxprune.model.weights import initialise_model, save_model
    from mlxprune.tokenization.sentencepiece_bpe import train_tokenizer
    from mlxprune.tokenization.tokenizer import load_tokenizer

    (folder / "tokenizer").mkdir()
    if not data:
        write_demo_corpus(folder / "corpus")
        data = [str(folder / "corpus")]
    found = find_sources(Data(paths=data)).sources
    texts = [row.text for source in found for row in read_rows(source) if isinstance(row, Row)]
    step = max(1, len(texts) // documents)
    chosen = texts[::step][:documents]
    s = SHAPES[shape]
    settings = TrainTokenizer(vocab_size=s["vocab"])
    train_tokenizer(settings, iter(chosen), os.cpu_count() or 1, folder / "tokenizer")
    tokens = load_tokenizer(folder / "tokenizer")
    ids = [np.array(found, np.uint16) for found in tokens.encode(chosen)]
    ids = [found for found in ids if len(found)]
    np.save(folder / "ids.npy", np.concatenate(ids))
    np.save(folder / "lengths.npy", [len(found) for found in ids])
    form = Preset(
        shape,
        {
            "model_type": "llama", "hidden_size": s["width"], "num_hidden_layers": s["layers"],
            "num_attention_heads": s["heads"], "num_key_value_heads": s["heads"],
            "intermediate_size": s["hidden"], "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": True,
        },
        {},
    )  # fmt: skip
    model_config = full_config(form, s["vocab"], context, tokens.prefix, tokens.end)
    save_model(initialise_model(model_config, 0), model_config, folder / "tokenizer", folder)


def rows_of(folder: Path, context: int, part: int, parts: int) -> tuple[Any, Any, Any, Any]:
    """The tokens, the documents of this part, their windows, and the batch shapes of all."""
    from mlxprune.scoring.windows import resolve_policy, windows_of
    from mlxprune.tokenization.token_file import Tokens

    lengths = np.load(folder / "lengths.npy")
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    stated = json.loads((folder / "config.json").read_text())
    tokens = Tokens(
        np.load(folder / "ids.npy", mmap_mode="r"),
        offsets,
        stated["vocab_size"],
        stated["bos_token_id"],
        stated["eos_token_id"],
    )
    policy = resolve_policy(lengths, stated, context)
    documents = np.arange(part, len(lengths), parts)
    windows, _ = windows_of(lengths[documents], policy)
    return tokens, documents, windows, policy


def contestant(name: str, folder: Path, context: int) -> None:
    """Serve one contestant: {part, parts} -> {seconds, tokens, slots, nll}."""
    sys.stdout.flush()
    if name == "ours":
        ours(folder, context)
    elif name == "mlx_lm":
        chunks(folder, context)
    else:
        torch_loop(name, folder, context)


def ours(folder: Path, context: int) -> None:
    import mlxprune  # noqa: F401
    from mlxprune.engine import backend
    from mlxprune.model.architecture import flops_per_token
    from mlxprune.model.weights import load_model
    from mlxprune.scoring.nll import score_documents

    backend.detect()
    peak = backend.peak_flops()
    if backend.detect().on_cpu:
        backend.set_threads(1)  # as in mlxprune's workers
    model, stated = load_model(folder)

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        tokens, documents, _, policy = rows_of(folder, context, question["part"], question["parts"])
        # Deal documents by length, so that both processes have the same work.
        order = np.argsort(-tokens.lengths(documents), kind="stable")
        mine = np.sort(documents[order[question["worker"] :: question["workers"]]])
        slots = waited = 0.0

        def between(_: int, all_slots: int, seconds: float) -> None:
            nonlocal slots, waited
            slots += all_slots
            waited += seconds

        began = time.perf_counter()
        found = score_documents(model, tokens, mine, policy, between)
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "tokens": int(found["num_tokens"].sum()),
            "slots": slots,
            "waited": waited,
            "nll": float(found["nll_sum"].sum()),
        }

    mean = int(np.minimum(np.load(folder / "lengths.npy"), context).mean())
    flops = flops_per_token(stated, mean)
    serve(answer, peak_flops=peak, flops_per_token=flops)


def torch_loop(name: str, folder: Path, context: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(os.cpu_count() or 1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        from mlxprune.scoring.windows import batches_of

        tokens, documents, windows, policy = rows_of(
            folder, context, question["part"], question["parts"]
        )
        spans = [
            (tokens.document(int(documents[slot])), int(first), int(stop))
            for slot, first, stop in zip(windows.slot, windows.first, windows.stop, strict=True)
        ]
        if name == "usual":
            groups = [list(range(at, min(at + 16, len(spans)))) for at in range(0, len(spans), 16)]
        else:
            groups = [rows.tolist() for _, _, rows in batches_of(windows, policy)]
        nll = np.zeros(len(documents))
        slots = 0
        began = time.perf_counter()
        with torch.inference_mode():
            for rows in groups:
                longest = max(spans[r][2] - spans[r][1] for r in rows)
                inputs = torch.full((len(rows), longest), tokens.end)
                targets = torch.full((len(rows), longest), -100)
                for i, r in enumerate(rows):
                    ids, first, stop = spans[r]
                    piece = torch.from_numpy(ids[first:stop].astype(np.int64))
                    inputs[i, 0] = int(ids[first - 1]) if first else tokens.prefix
                    inputs[i, 1 : stop - first] = piece[:-1]
                    targets[i, : stop - first] = piece
                logits = model(input_ids=inputs).logits
                if name == "usual":
                    table = torch.log_softmax(logits, dim=-1)
                    picked = table.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
                    sums = -(picked * (targets >= 0)).sum(dim=1)
                else:
                    sums = torch.nn.functional.cross_entropy(
                        logits.flatten(0, 1), targets.flatten(), reduction="none"
                    )
                    sums = sums.view(targets.shape).sum(dim=1)
                np.add.at(nll, windows.slot[rows], sums.double().numpy())
                slots += inputs.numel()
        seconds = time.perf_counter() - began
        real = int((windows.stop - windows.first).sum())
        return {"seconds": seconds, "tokens": real, "slots": slots, "nll": float(nll.sum())}

    serve(answer)


def chunks(folder: Path, context: int) -> None:
    import contextlib
    import io

    from mlxprune.engine import blas

    blas.load()  # the same BLAS; everything else is as mlx_lm has it
    import mlx.core as mx
    from mlx_lm.perplexity import eval_ppl
    from mlx_lm.utils import load_model

    model, _ = load_model(folder)

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        tokens, documents, _, _ = rows_of(folder, context, question["part"], question["parts"])
        stream = np.concatenate([tokens.document(int(d)) for d in documents])
        # Rows of context + 1 ids have as many targets as the rows of the others at full length.
        count = len(stream) // (context + 1)
        data = mx.array(stream[: count * (context + 1)].astype(np.int32))
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            eval_ppl(model, data.reshape(count, context + 1), batch_size=8)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "tokens": count * context, "slots": count * context}

    serve(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="1M")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--without", nargs="*", default=[], choices=NAMES[1:])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        contestant(arguments.serve[0], Path(arguments.serve[1]), arguments.context)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, arguments.shape, arguments.context, arguments.documents, arguments.data)
        result = race(folder, arguments)
    if arguments.json:
        print(json.dumps(result))
        return
    print(
        f"{arguments.shape}, context {arguments.context}: {result['documents']} documents, ", end=""
    )
    print(f"{result['tokens']} tokens, {arguments.rounds} rounds in turns")
    for row in result["contestants"]:
        print(
            f"  {row['name']:<9} {row['median']:>8.0f} tokens/s ({row['lowest']:.0f} to "
            f"{row['highest']:.0f})  ours is {row['ours_over_it']:.2f}x  "
            f"padding {row['padding']:.1%}"
        )
    print(
        f"  ours: utilisation {result['utilisation']:.0%} of {result['peak_gflops']:.0f} GFLOP/s, "
        f"waiting for input {result['input_wait']:.2%} of the time, {result['shapes']} shapes"
    )
    print(f"  summed negative log-likelihood against torch: {result['difference']:.1e} relative")


def race(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    workers = os.cpu_count() or 1
    base = [__file__, "--context", str(arguments.context), "--serve"]
    names = [n for n in NAMES if n not in arguments.without]
    pools = {
        name: [
            Contestant(name, [*base, name, str(folder)])
            for _ in range(workers if name == "ours" else 1)
        ]
        for name in names
    }
    rates: dict[str, list[float]] = {name: [] for name in names}
    sums: dict[str, dict[str, float]] = {name: {} for name in names}
    for part in range(arguments.rounds):
        order = names[part % len(names) :] + names[: part % len(names)]
        for name in order:
            pool = pools[name]
            began = time.perf_counter()
            for number, process in enumerate(pool):
                question = {"part": part, "parts": arguments.rounds}
                process.send({**question, "worker": number, "workers": len(pool)})
            answers = [process.wait() for process in pool]
            wall = time.perf_counter() - began
            seconds = wall if len(pool) > 1 else answers[0]["seconds"]
            rates[name].append(sum(a["tokens"] for a in answers) / seconds)
            for answer in answers:
                for key, value in answer.items():
                    sums[name][key] = sums[name].get(key, 0.0) + value
            print(f"  round {part + 1} {name} {rates[name][-1]:.0f}", file=sys.stderr, flush=True)
    facts = pools["ours"][0].facts
    for process in (p for pool in pools.values() for p in pool):
        process.close()
    rows = summary(rates, "ours")
    for row in rows:
        row["padding"] = 1 - sums[row["name"]]["tokens"] / sums[row["name"]]["slots"]
    other = next((n for n in ("bucketed", "usual") if n in names), "ours")
    lengths = np.load(folder / "lengths.npy")
    _, _, _, policy = rows_of(folder, arguments.context, 0, 1)
    return {
        "contestants": rows,
        "documents": len(lengths),
        "tokens": int(lengths.sum()),
        "utilisation": rows[0]["median"] * facts["flops_per_token"] / facts["peak_flops"],
        "peak_gflops": facts["peak_flops"] / 1e9,
        "input_wait": sums["ours"]["waited"] / sums["ours"]["seconds"],
        "shapes": len(policy.edges),
        "difference": abs(sums["ours"]["nll"] / sums[other]["nll"] - 1),
    }


if __name__ == "__main__":
    main()
