"""The self-test: proves the numbers of this installation on this machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mlxprune.diagnostics import kernel_checks
from mlxprune.diagnostics.doctor import MachineFacts, examine_machine
from mlxprune.errors import MlxpruneError, one_line
from mlxprune.records import Json
from mlxprune.tokenization.token_file import Tokens

WHOLE_RUNS = ("resume",)  # checks that take several runs of a study


def run_selftest(
    quick: bool = False, say: Callable[[str], None] = lambda line: None
) -> MachineFacts:
    """Run every check, or with ``quick`` those that take seconds; one object that can be shared: no
    host, no path, no text. ``say`` is told what is under way."""
    checks: dict[str, Callable[[], Json]] = {
        "float32_is_float32": kernel_checks.float32_is_float32,
        "kernels_against_float64": kernel_checks.head_and_attention,
        "head_widths": kernel_checks.head_widths,
        "vocabulary_edges": kernel_checks.vocabulary_edges,
        "lookup_gradient": kernel_checks.lookup_gradient,
        "gradient_against_float64": _gradient,
        "model_against_float64": _model,
        "alone_against_batch": _alone,
        "compiled_against_eager": kernel_checks.compiled_against_eager,
        "same_step_same_bytes": kernel_checks.same_step_same_bytes,
        "scores_before_and_after_training": kernel_checks.scores_before_and_after_training,
        "resume": _resume,
        "memory": _memory,
    }
    results = {}
    for name, check in checks.items():
        if quick and name in WHOLE_RUNS:
            continue
        start = time.monotonic()
        try:
            outcome = check()
        except (MlxpruneError, ArithmeticError, ValueError, RuntimeError, OSError) as error:
            outcome = {"ok": False, "error": f"{type(error).__name__}: {one_line(error)}"}
        results[name] = {**outcome, "seconds": round(time.monotonic() - start, 2)}
        say(f"{name}: {'ok' if outcome['ok'] else 'FAIL'}, {results[name]['seconds']} s")
    ok = all(result["ok"] for result in results.values())
    return msgspec.structs.replace(examine_machine(), ok=ok, checks=results)


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
    bound = kernel_checks.bound(1e-4, 5e-2)
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
    bound = kernel_checks.bound(1e-5, 2e-2)
    return {"ok": error <= bound, "relative_error": error, "bound": bound}


def _alone() -> Json:
    """A document scored alone against the same document in a batch."""
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
    bound = kernel_checks.bound(1e-5, 5e-3)
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
