"""Training steps: mlxprune against torch eager and torch.compile with a fused AdamW.

    pip install torch
    python bench/training.py --shape 10M --rounds 5

The same shape, initial weights, batches, clipping and AdamW on the same cores, in turns; targets a
second. torch.compile needs a C++ compiler; --without compiled leaves it out. The losses of the
first steps are compared, so that all do the same work.
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
from scoring import SHAPES, prepare
from turns import Contestant, serve, summary

NAMES = ("ours", "eager", "compiled")


def batch_of(folder: Path, step: int, batch: int, context: int, vocab: int) -> np.ndarray:
    ids = np.load(folder / "ids.npy", mmap_mode="r")
    start = (step * batch * (context + 1)) % (len(ids) - batch * (context + 1))
    return np.array(ids[start : start + batch * (context + 1)]).reshape(batch, -1).astype(np.int64)


def ours(folder: Path, batch: int, context: int, vocab: int) -> None:
    import mlxprune  # noqa: F401
    from mlxprune.engine import backend
    from mlxprune.engine.optimizer import make_optimizer
    from mlxprune.model.architecture import flops_per_token
    from mlxprune.model.weights import load_model

    backend.detect()
    peak = backend.peak_flops()
    model, stated = load_model(folder)
    its = make_optimizer("adamw", 1e-3, 0.1)
    its.init(model.trainable_parameters())
    step_function = backend.step_function(model, its, 1, 1.0)

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        losses = []
        began = time.perf_counter()
        for step in range(question["first"], question["stop"]):
            ids = batch_of(folder, step, batch, context, vocab).astype(np.int32)
            losses.append(step_function(ids[:, :-1], ids[:, 1:], 1e-3)()[0])
        return {"seconds": time.perf_counter() - began, "losses": losses}

    serve(answer, peak_flops=peak, flops=3 * flops_per_token(stated, context))


def torch_loop(folder: Path, batch: int, context: int, vocab: int, compiled: bool) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(os.cpu_count() or 1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    its = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True
    )
    forward: Any = torch.compile(model) if compiled else model

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        losses = []
        began = time.perf_counter()
        for step in range(question["first"], question["stop"]):
            ids = torch.from_numpy(batch_of(folder, step, batch, context, vocab))
            logits = forward(input_ids=ids[:, :-1].contiguous()).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            its.step()
            its.zero_grad(set_to_none=True)
            losses.append(float(loss))
        return {"seconds": time.perf_counter() - began, "losses": losses}

    serve(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="1M")
    parser.add_argument("--batches", nargs="*", default=["8x256", "4x512"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="a round")
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--without", nargs="*", default=[], choices=NAMES[1:])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    vocab = SHAPES[arguments.shape]["vocab"]
    if arguments.serve:
        name, folder, batch, context = arguments.serve
        if name == "ours":
            ours(Path(folder), int(batch), int(context), vocab)
        else:
            torch_loop(Path(folder), int(batch), int(context), vocab, name == "compiled")
        return
    results = []
    for form in arguments.batches:
        batch, context = (int(n) for n in form.split("x"))
        with tempfile.TemporaryDirectory() as name:
            prepare(Path(name), arguments.shape, context, 2000, arguments.data)
            results.append(race(Path(name), batch, context, arguments))
    if arguments.json:
        print(json.dumps(results))
        return
    for result in results:
        print(f"{arguments.shape}, {result['batch']}, {arguments.rounds} rounds in turns")
        for row in result["contestants"]:
            print(
                f"  {row['name']:<9} {row['median']:>8.0f} targets/s ({row['lowest']:.0f} to "
                f"{row['highest']:.0f})  ours is {row['ours_over_it']:.2f}x"
            )
        print(
            f"  ours: utilisation {result['utilisation']:.0%}; first losses against torch: "
            f"{result['difference']:.1e} relative"
        )


def race(folder: Path, batch: int, context: int, arguments: argparse.Namespace) -> dict[str, Any]:
    names = [n for n in NAMES if n not in arguments.without]
    base = [__file__, "--shape", arguments.shape, "--serve"]
    racers = {
        name: Contestant(name, [*base, name, str(folder), str(batch), str(context)])
        for name in names
    }
    first = {n: racers[n].ask({"first": 0, "stop": 3})["losses"] for n in names}  # and warm-up
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(arguments.rounds):
        steps = {"first": 3 + number * arguments.steps, "stop": 3 + (number + 1) * arguments.steps}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            seconds = racers[name].ask(steps)["seconds"]
            rates[name].append(arguments.steps * batch * context / seconds)
            print(f"  round {number + 1} {name} {rates[name][-1]:.0f}", file=sys.stderr, flush=True)
    facts = racers["ours"].facts
    for racer in racers.values():
        racer.close()
    rows = summary(rates, "ours")
    other = first[names[-1]]
    return {
        "batch": f"{batch} x {context}",
        "contestants": rows,
        "utilisation": rows[0]["median"] * facts["flops"] / facts["peak_flops"],
        "difference": max(abs(a / b - 1) for a, b in zip(first["ours"], other, strict=True)),
    }


if __name__ == "__main__":
    main()
