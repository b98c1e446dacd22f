"""A GPU in a few minutes: are the numbers right, the same twice, and how fast against torch.

    python bench/gpu.py                 # on a CUDA card with torch and transformers
    python bench/gpu.py --tiny          # the same program on a CPU, on a model of no size

Every contestant is a process of its own on the same card, and they work in turns: mlxprune, torch
eager and torch compiled, all in bfloat16 over float32 master weights with AdamW, on the same
weights, rows and micro-batches. Utilisation is model FLOPs over those of a large matrix product,
measured by the same process in the same minute. The checks are those of ``mlxprune doctor
--selftest``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mlxprune  # noqa: F401  (before MLX: see its docstring)

sys.path.insert(0, str(Path(__file__).parent))
from turns import Contestant, serve, summary

VOCABULARY, CONTEXT = 32_768, 2048
ROWS = {"125m": {"training": 16, "scoring": 32}, "1b": {"training": 4, "scoring": 16}}
TINY = {"pico": {"training": 2, "scoring": 4}}
NAMES = ("ours", "eager", "compiled")


def rows_of(count: int, context: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets int32 [count, context], ids as frequent as in text."""
    ids = (np.random.default_rng(0).zipf(1.2, (count, context + 1)) % vocabulary).astype(np.int32)
    return ids[:, :-1].copy(), ids[:, 1:].copy()


def rate_of(work: Callable[[], Any], tokens: int, seconds: float) -> float:
    """Tokens a second over about so many seconds, after a warm-up."""
    work()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return tokens / sorted(times)[len(times) // 2]


def ours(folder: Path, what: str, rows: int, context: int, variant: str) -> None:
    import mlx.core as mx

    from mlxprune.engine import backend
    from mlxprune.engine.gpu import training_graph
    from mlxprune.engine.optimizer import make_optimizer
    from mlxprune.model.architecture import flops_per_token
    from mlxprune.model.weights import load_model

    config = json.loads((folder / "config.json").read_text())
    inputs, targets = rows_of(rows, context, config["vocab_size"])
    model, _ = load_model(folder)
    backend.limit_memory()
    work: Callable[[], Any]
    if what == "scoring":
        losses = backend.loss_function(model)
        waiting: list[Any] = []

        def work() -> None:  # two batches under way, as in a run
            waiting.append(losses(inputs, targets))
            if len(waiting) > 1:
                np.array(waiting.pop(0))

        scale = 1
    else:
        model.set_dtype(mx.float32)
        mx.eval(model.parameters())
        its = make_optimizer("adamw", 1e-4, 0.1)
        its.init(model.trainable_parameters())
        settings = backend.step_settings(1, 1.0)
        if variant:
            from dataclasses import replace

            changed = {"attention": "fused_attention_gradient", "compiled": "compiled"}[variant]
            settings = replace(settings, **{changed: True})
        step = training_graph.step_function(model, its, settings)

        def work() -> None:
            step(inputs, targets, 1e-4)()

        scale = 3

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        rate = rate_of(work, rows * context, question["seconds"])
        mx.clear_cache()
        return {"rate": rate, "peak": backend.measured_peak(), "bytes": backend.peak_memory()}

    serve(answer, flops=scale * flops_per_token(config, context))


def torch_loop(folder: Path, what: str, rows: int, context: int, compiled: bool) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    half = torch.bfloat16
    kind = half if what == "scoring" else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=kind, attn_implementation="sdpa"
    ).to(device)
    config = json.loads((folder / "config.json").read_text())
    x, y = (
        torch.from_numpy(a).long().to(device) for a in rows_of(rows, context, config["vocab_size"])
    )

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def loss_of(reduction: str) -> Any:
        logits = model(input_ids=x, use_cache=False).logits
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), y.flatten(), reduction=reduction
        )

    forward: Any = torch.compile(loss_of) if compiled else loss_of
    if what == "scoring":
        model.eval()

        def work() -> None:
            with torch.no_grad():
                forward("none").float().cpu()

    else:
        model.train()
        its = torch.optim.AdamW(
            model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
        )

        def work() -> None:
            with torch.autocast(device, half):
                loss = forward("mean")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            its.step()
            its.zero_grad(set_to_none=True)
            float(loss)
            wait()

    def peak() -> float:
        size = 8192 if device == "cuda" else 256
        a = torch.randn(size, size, device=device, dtype=half)
        return rate_of(lambda: (a @ a, wait()), 1, 0.5) * 2.0 * size**3

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        rate = rate_of(work, rows * context, question["seconds"])
        held = torch.cuda.max_memory_allocated() if device == "cuda" else 0
        return {"rate": rate, "peak": peak(), "bytes": held}

    serve(answer)


def prepare(folder: Path, model: str, vocabulary: int, context: int) -> None:
    from mlxprune.model.architecture import full_config, preset_of
    from mlxprune.model.weights import initialise_model, save_model

    config = full_config(preset_of(model), vocabulary, context, 1, 1)
    save_model(initialise_model(config, 0), config, folder, folder)


def race(model: str, what: str, rows: int, arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), model, arguments.vocabulary, arguments.context)
        base = [__file__, "--serve", name, what, str(rows), str(arguments.context)]
        names = [n for n in NAMES if n not in arguments.without]
        if what == "training" and arguments.variants:
            names += ["ours, MLX's attention", "ours, compiled"]
        rates: dict[str, list[float]] = {}
        last: dict[str, dict[str, Any]] = {}
        facts: dict[str, Any] = {}
        # Where the card holds all of them they work in turns, else one after the other.
        together = [names] if what == "scoring" or model != "1b" else [[one] for one in names]
        for group in together:
            racers: dict[str, Contestant] = {}
            for contestant in group:
                rates[contestant] = []
                try:
                    racers[contestant] = Contestant(contestant, [*base, contestant])
                except SystemExit as error:
                    print(f"  {contestant} does not start: {error}", file=sys.stderr)
            for number in range(arguments.rounds):
                order = list(racers)
                for contestant in order[number % 2 :] + order[: number % 2]:
                    try:
                        found = racers[contestant].ask({"seconds": arguments.seconds})
                    except (SystemExit, BrokenPipeError) as error:
                        print(f"  {contestant} ended: {error}", file=sys.stderr)
                        racers.pop(contestant)
                        continue
                    rates[contestant].append(found["rate"])
                    last[contestant] = found
                    print(
                        f"  {model} {what} round {number + 1} {contestant}: {found['rate']:,.0f}",
                        file=sys.stderr, flush=True,
                    )  # fmt: skip
            facts |= racers["ours"].facts if "ours" in racers else {}
            for racer in racers.values():
                racer.close()
    whole = {n: v for n, v in rates.items() if len(v) == arguments.rounds}
    table = summary(whole, "ours") if "ours" in whole else []
    for row in table:
        found = last[row["name"]]
        row["utilisation"] = row["median"] * facts["flops"] / found["peak"]
        row["attainable_tflops"] = found["peak"] / 1e12
        row["gigabytes"] = found["bytes"] / 1e9
    return {
        "model": model,
        "what": what,
        "rows": rows,
        "context": arguments.context,
        "table": table,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=None)
    parser.add_argument("--what", nargs="*", default=["scoring", "training"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="a round of a contestant")
    parser.add_argument("--budget", type=float, default=420.0, help="seconds; no race begins later")
    parser.add_argument("--without", nargs="*", default=[], choices=NAMES[1:])
    parser.add_argument("--variants", action="store_true", help="also our other ways of training")
    parser.add_argument("--no-checks", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="a model of no size, on any machine")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--serve", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        name, what, rows, context, contestant = arguments.serve
        if contestant.startswith("ours"):
            variant = contestant.rpartition(" ")[2] if " " in contestant else ""
            ours(Path(name), what, int(rows), int(context), variant)
        else:
            torch_loop(Path(name), what, int(rows), int(context), contestant == "compiled")
        return
    began = time.monotonic()
    if arguments.tiny:
        os.environ.setdefault("MLXPRUNE_FORCE_GRAPH", "bfloat16")
    arguments.context = 64 if arguments.tiny else CONTEXT
    arguments.vocabulary = 512 if arguments.tiny else VOCABULARY
    table = TINY if arguments.tiny else ROWS
    figures: dict[str, Any] = {"races": []}
    if not arguments.no_checks:
        from mlxprune.diagnostics.doctor import doctor_lines
        from mlxprune.diagnostics.selftest import run_selftest
        from mlxprune.records import plain

        tested = run_selftest(quick=True)
        figures["selftest"] = plain(tested)
        print("\n".join(doctor_lines(tested)), flush=True)
    for model in arguments.models or table:
        for what in arguments.what:
            if time.monotonic() - began > arguments.budget:
                print(f"{model} {what}: left out, the time is up")
                continue
            result = race(model, what, table[model][what], arguments)
            figures["races"].append(result)
            print(f"{model}, {what}, {result['rows']} x {result['context']}", flush=True)
            for row in result["table"]:
                print(
                    f"  {row['name']:<22} {row['median']:>10,.0f} tokens/s  utilisation "
                    f"{row['utilisation']:.0%} of {row['attainable_tflops']:,.1f} TFLOP/s, "
                    f"{row['gigabytes']:.1f} GB, ours is {row['ours_over_it']:.2f}x",
                    flush=True,
                )
            if arguments.json:
                arguments.json.write_text(json.dumps(figures, indent=1, default=str))
    print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
