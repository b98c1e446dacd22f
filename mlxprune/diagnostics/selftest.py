"""The self-test: proves the numbers of this installation on this machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mlxprune.diagnostics.doctor import MachineFacts, examine_machine
from mlxprune.errors import MlxpruneError, one_line
from mlxprune.records import Json
from mlxprune.tokenization.token_file import Tokens


def run_selftest() -> MachineFacts:
    """Run every check; one object that can be shared: no host, no path, no text."""
    checks: dict[str, Callable[[], Json]] = {
        "kernels_against_float64": _kernels,
        "gradient_against_float64": _gradient,
        "model_against_float64": _model,
        "alone_against_batch": _alone,
        "resume": _resume,
        "memory": _memory,
    }
    results = {}
    for name, check in checks.items():
        start = time.monotonic()
        try:
            outcome = check()
        except (MlxpruneError, ArithmeticError, ValueError, RuntimeError, OSError) as error:
            outcome = {"ok": False, "error": f"{type(error).__name__}: {one_line(error)}"}
        results[name] = {**outcome, "seconds": round(time.monotonic() - start, 2)}
    ok = all(result["ok"] for result in results.values())
    return msgspec.structs.replace(examine_machine(), ok=ok, checks=results)


def _kernels() -> Json:
    """The head's loss and gradient and attention's gradient in pieces, against NumPy float64.

    The bound is the error of MLX's own operations on the same float32 input plus a margin.
    """
    import mlx.core as mx

    from mlxprune.engine import backend
    from mlxprune.engine.gpu import loss_graph, training_graph
    from mlxprune.engine.gpu.attention import attention
    from mlxprune.testing import float64_llama

    generator = np.random.default_rng()
    hidden, weight = generator.standard_normal((300, 16)), generator.standard_normal((700, 16))
    targets = generator.integers(0, 700, 300)
    loss, slope = float64_llama.cross_entropy_and_slope(hidden @ weight.T, targets)
    true = [loss.mean(), slope @ weight / 300, slope.T @ hidden / 300]
    h, w, t = mx.array(hidden.astype(np.float32)), mx.array(weight.astype(np.float32)), targets

    def stock(h: mx.array, w: mx.array) -> mx.array:
        return loss_graph.cross_entropy(h @ w.T, mx.array(t)).mean()

    def pieces(h: mx.array, w: mx.array) -> mx.array:
        return training_graph.fused_mean(h, w, mx.array(t), rows=64)[0]

    def worst(found: list[Any], exact: list[Any]) -> float:
        return max(float(np.abs(np.array(f) - e).max()) for f, e in zip(found, exact, strict=True))

    errors = {}
    for name, function in (("head", pieces), ("stock_head", stock)):
        value, gradients = mx.value_and_grad(function, argnums=(0, 1))(h, w)
        errors[name] = worst([value, *gradients], true)
    q, c = (generator.standard_normal((2, 4, 40, 8)) for _ in range(2))
    k, v = (generator.standard_normal((2, 2, 40, 8)) for _ in range(2))
    exact = list(float64_llama.attention_and_gradients(q, k, v, c, 0.35))
    arrays = [mx.array(a.astype(np.float32)) for a in (q, k, v, c)]
    for name, attend in (
        ("attention", lambda q, k, v: attention(q, k, v, 0.35, rows=16)),
        (
            "stock_attention",
            lambda q, k, v: mx.fast.scaled_dot_product_attention(
                q, k, v, scale=0.35, mask="causal"
            ),
        ),
    ):
        outputs, gradients = mx.vjp(attend, arrays[:3], arrays[3:])
        errors[name] = worst([*outputs, *gradients], exact)
    ok = all(errors[n] <= errors[f"stock_{n}"] + 1e-5 for n in ("head", "attention"))
    return {"ok": ok, "backend": backend.detect().name, **errors}


def _gradient() -> Json:
    """The gradient of a whole model on this backend against float64 differences of the loss."""
    from mlxprune.engine import backend
    from mlxprune.testing import float64_llama

    with tempfile.TemporaryDirectory() as name:
        model, config, _, _ = _tiny(Path(name))
        weights = float64_llama.read_weights(Path(name) / "model.safetensors")
    generator = np.random.default_rng(3)
    rows = generator.integers(2, 256, (3, 33))
    gradients = backend.gradients(
        model, rows[:, :-1].astype(np.int32), rows[:, 1:].astype(np.int32)
    )
    direction = {n: generator.standard_normal(w.shape) for n, w in weights.items()}
    along = sum(float((gradients[n].astype(np.float64) * d).sum()) for n, d in direction.items())
    true = float64_llama.slope_along(weights, config, rows, direction)
    error = abs(along - true) / abs(true)
    bound = 1e-4 if backend.detect().name == "cpu" else 5e-2
    return {"ok": error <= bound, "relative_error": error, "bound": bound}


def _tiny(folder: Path) -> tuple[Any, Json, Tokens, np.ndarray]:
    """A saved random model, its config, and documents as tokens."""
    from mlxprune.model.architecture import full_config, preset_of
    from mlxprune.model.weights import initialise_model, load_model, save_model

    config = full_config(preset_of("pico"), 256, 32, 1, 1)
    save_model(initialise_model(config, 7), config, folder, folder)
    generator = np.random.default_rng(7)
    lengths = np.array([1, 2, 31, 32, 33, 64, 65, 200, 5, 5])
    ids = generator.integers(2, 256, lengths.sum()).astype(np.uint16)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = Tokens(ids, offsets, 256, 1, 1)
    model, _ = load_model(folder)
    return model, config, tokens, np.arange(len(lengths))


def _model() -> Json:
    """Whole-document scores against the float64 Llama, one window and many."""
    from mlxprune.engine import backend
    from mlxprune.scoring.nll import score_documents
    from mlxprune.scoring.windows import WindowPolicy
    from mlxprune.testing import float64_llama

    with tempfile.TemporaryDirectory() as name:
        model, config, tokens, documents = _tiny(Path(name))
        policy = WindowPolicy(32, 0, "windows", None, 256)
        part = score_documents(model, tokens, documents, policy)
        weights = float64_llama.read_weights(Path(name) / "model.safetensors")
    true = [
        float64_llama.document_nll(weights, config, tokens.document(int(d)), tokens.prefix, 32)
        for d in documents
    ]
    error = float(np.max(np.abs(part["nll_sum"] - true) / np.abs(true)))
    bound = 1e-5 if backend.detect().name == "cpu" else 2e-2
    return {"ok": error <= bound, "relative_error": error, "bound": bound}


def _alone() -> Json:
    """A document scored alone against the same document in a batch."""
    from mlxprune.engine import backend
    from mlxprune.scoring.nll import score_documents
    from mlxprune.scoring.windows import WindowPolicy

    with tempfile.TemporaryDirectory() as name:
        model, _, tokens, documents = _tiny(Path(name))
        policy = WindowPolicy(32, 0, "windows", None, 256)
        together = score_documents(model, tokens, documents, policy)["nll_sum"]
        alone = [
            score_documents(model, tokens, documents[i : i + 1], policy)["nll_sum"][0]
            for i in range(len(documents))
        ]
    error = float(np.max(np.abs(together - alone) / np.abs(together)))
    bound = 1e-6 if backend.detect().name == "cpu" else 5e-3
    return {"ok": error <= bound, "relative_error": error, "bound": bound}


def _resume() -> Json:
    """A run that is stopped in the middle of training ends with the bytes of one that is not."""
    from mlxprune.config.loading import validate_config
    from mlxprune.errors import Stopped
    from mlxprune.pipeline.runner import run_study
    from mlxprune.run.event_kinds import Event, TrainStep
    from mlxprune.run.folder import RunFolder, send_command
    from mlxprune.run.state import RunState
    from mlxprune.testing import tiny

    with tempfile.TemporaryDirectory() as name:
        corpus = tiny.tiny_corpus(Path(name) / "corpus")
        chosen = validate_config(tiny.tiny_config(corpus), "selftest")
        whole, broken = (RunFolder(Path(name) / n) for n in ("whole", "broken"))
        run_study(chosen, whole, until="score")
        asked = False

        def interrupt(event: Event, state: RunState) -> None:
            nonlocal asked
            if isinstance(event, TrainStep) and not asked:
                asked = True
                send_command(broken, "stop")

        try:
            run_study(chosen, broken, until="score", listeners=[interrupt])
            stopped = False
        except Stopped:
            stopped = True
        run_study(chosen, broken, until="score")
        same = all(
            (whole.path / part).read_bytes() == (broken.path / part).read_bytes()
            for part in ("references/main/model.safetensors", "scores/main.parquet")
        )
    return {"ok": same and stopped, "stopped_in_between": stopped, "same_bytes": same}


def _memory() -> Json:
    """Scoring holds no more than its batch: what it takes does not grow with the documents."""
    from mlxprune.engine import backend
    from mlxprune.scoring.nll import score_documents
    from mlxprune.scoring.windows import WindowPolicy

    grown = []
    with tempfile.TemporaryDirectory() as name:
        model, _, tokens, documents = _tiny(Path(name))
        policy = WindowPolicy(32, 0, "windows", None, 256)
        for times in (1, 200):  # all logits of the second would be 80 MB
            backend.reset_peak_memory()
            before = backend.peak_memory()
            score_documents(model, tokens, np.tile(documents, times), policy)
            grown.append(backend.peak_memory() - before)
    return {"ok": grown[1] <= 2 * grown[0] + (16 << 20), "bytes_taken": grown}
