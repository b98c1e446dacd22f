"""Doctor: what this machine and installation are, and a self-test that proves the numbers."""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import blas, work
from mlxprune.errors import MlxpruneError, one_line

MATMUL_SIZE = 2048
SLOW_MATMUL_SHARE = 0.5


def examine() -> dict[str, Any]:
    """Facts about machine and installation, and what is wrong with them."""
    import psutil

    facts: dict[str, Any] = {
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": work.versions(),
        "memory_bytes": psutil.virtual_memory().total,
        "free_disk_bytes": shutil.disk_usage(Path.cwd()).free,
    }
    loaded = blas.load()
    facts["blas"] = {"library": _short(loaded.library), "how": loaded.how, "fast": loaded.fast}
    problems = []
    try:
        from mlxprune import backend

        device = backend.detect()
        facts["backend"] = {
            "name": device.name,
            "device": device.device,
            "dtype": str(device.compute_dtype),
            "memory_for_batches": device.memory_bytes,
        }
        facts["matmul"] = matmul_speed()
        share = facts["matmul"]["mlx_gflops"] / facts["matmul"]["numpy_gflops"]
        if share < SLOW_MATMUL_SHARE:
            problems.append(
                f"MLX multiplies matrices at {share:.2f} of NumPy's speed: "
                "pip install scipy-openblas32, and import mlxprune before mlx"
            )
    except ImportError as error:
        problems.append(f"MLX does not load ({one_line(error)}): pip install 'mlx[cpu]' on Linux")
    facts["problems"] = problems
    return facts


def _short(library: str) -> str:
    """A path without the folders above the package: nothing of the user's home is shown."""
    parts = Path(library).parts
    return "/".join(parts[-3:]) if len(parts) > 3 else library


def matmul_speed(size: int = MATMUL_SIZE) -> dict[str, float]:
    """GFLOP/s of a float32 product through MLX and through NumPy, medians of five, in turns."""
    import mlx.core as mx
    import threadpoolctl

    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    x, y = mx.array(a), mx.array(b)
    taken: dict[str, list[float]] = {"mlx": [], "numpy": []}
    with threadpoolctl.threadpool_limits(work.cores(), user_api="blas"):
        for _ in range(6):
            for name, product in (("mlx", lambda: mx.eval(x @ y)), ("numpy", lambda: a @ b)):
                start = time.perf_counter()
                product()
                taken[name].append(time.perf_counter() - start)
    return {f"{n}_gflops": 2e-9 * size**3 / sorted(t[1:])[2] for n, t in taken.items()}


def selftest() -> dict[str, Any]:
    """Run every check; one object that can be shared: no host, no path, no text."""
    checks: dict[str, Callable[[], dict[str, Any]]] = {
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
            found = check()
        except (MlxpruneError, ArithmeticError, ValueError, RuntimeError, OSError) as error:
            found = {"ok": False, "error": f"{type(error).__name__}: {one_line(error)}"}
        results[name] = {**found, "seconds": round(time.monotonic() - start, 2)}
    return {"ok": all(r["ok"] for r in results.values()), "checks": results, **examine()}


def _kernels() -> dict[str, Any]:
    """The head's loss and gradient and attention's gradient in pieces, against NumPy float64.

    The bound is the error of MLX's own operations on the same float32 input plus a margin.
    """
    import mlx.core as mx

    from mlxprune import backend, graph, testing

    generator = np.random.default_rng()
    hidden, weight = generator.standard_normal((300, 16)), generator.standard_normal((700, 16))
    targets = generator.integers(0, 700, 300)
    loss, slope = testing.cross_entropy_and_slope(hidden @ weight.T, targets)
    true = [loss.mean(), slope @ weight / 300, slope.T @ hidden / 300]
    h, w, t = mx.array(hidden.astype(np.float32)), mx.array(weight.astype(np.float32)), targets

    def stock(h: mx.array, w: mx.array) -> mx.array:
        return graph.cross_entropy(h @ w.T, mx.array(t)).mean()

    def pieces(h: mx.array, w: mx.array) -> mx.array:
        return graph.fused_mean(h, w, mx.array(t), rows=64)[0]

    def worst(found: list[Any], exact: list[Any]) -> float:
        return max(float(np.abs(np.array(f) - e).max()) for f, e in zip(found, exact, strict=True))

    errors = {}
    for name, function in (("head", pieces), ("stock_head", stock)):
        value, gradients = mx.value_and_grad(function, argnums=(0, 1))(h, w)
        errors[name] = worst([value, *gradients], true)
    q, c = (generator.standard_normal((2, 4, 40, 8)) for _ in range(2))
    k, v = (generator.standard_normal((2, 2, 40, 8)) for _ in range(2))
    exact = list(testing.attention_and_gradients(q, k, v, c, 0.35))
    arrays = [mx.array(a.astype(np.float32)) for a in (q, k, v, c)]
    for name, attend in (
        ("attention", lambda q, k, v: graph.attention(q, k, v, 0.35, rows=16)),
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


def _gradient() -> dict[str, Any]:
    """The gradient of a whole model on this backend against float64 differences of the loss."""
    from mlxprune import backend, testing

    with tempfile.TemporaryDirectory() as name:
        model, config, _, _ = _tiny(Path(name))
        weights = testing.read_weights(Path(name) / "model.safetensors")
    generator = np.random.default_rng(3)
    rows = generator.integers(2, 256, (3, 33))
    found = backend.gradients(model, rows[:, :-1].astype(np.int32), rows[:, 1:].astype(np.int32))
    direction = {n: generator.standard_normal(w.shape) for n, w in weights.items()}
    along = sum(float((found[n].astype(np.float64) * d).sum()) for n, d in direction.items())
    true = testing.slope_along(weights, config, rows, direction)
    error = abs(along - true) / abs(true)
    bound = 1e-4 if backend.detect().name == "cpu" else 5e-2
    return {"ok": error <= bound, "relative_error": error, "bound": bound}


def _tiny(folder: Path) -> tuple[Any, dict[str, Any], Any, np.ndarray]:
    """A saved random model, its config, and documents as tokens."""
    from mlxprune import model as models
    from mlxprune import tokens as tokens_module

    config = models.full_config(models.shape_of("pico"), 256, 32, 1, 1)
    models.save(models.initialise(config, 7), config, folder, folder)
    generator = np.random.default_rng(7)
    lengths = np.array([1, 2, 31, 32, 33, 64, 65, 200, 5, 5])
    ids = generator.integers(2, 256, lengths.sum()).astype(np.uint16)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = tokens_module.Tokens(ids, offsets, 256, 1, 1)
    model, _ = models.load(folder)
    return model, config, tokens, np.arange(len(lengths))


def _model() -> dict[str, Any]:
    """Whole-document scores against the float64 Llama, one window and many."""
    from mlxprune import backend, score, testing

    with tempfile.TemporaryDirectory() as name:
        model, config, tokens, documents = _tiny(Path(name))
        policy = score.Policy(32, 0, "windows", None, 256)
        part = score.score_documents(model, tokens, documents, policy)
        weights = testing.read_weights(Path(name) / "model.safetensors")
    true = [
        testing.document_nll(weights, config, tokens.document(int(d)), tokens.prefix, 32)
        for d in documents
    ]
    error = float(np.max(np.abs(part["nll_sum"] - true) / np.abs(true)))
    bound = 1e-5 if backend.detect().name == "cpu" else 2e-2
    return {"ok": error <= bound, "relative_error": error, "bound": bound}


def _alone() -> dict[str, Any]:
    """A document scored alone against the same document in a batch."""
    from mlxprune import backend, score

    with tempfile.TemporaryDirectory() as name:
        model, _, tokens, documents = _tiny(Path(name))
        policy = score.Policy(32, 0, "windows", None, 256)
        together = score.score_documents(model, tokens, documents, policy)["nll_sum"]
        alone = [
            score.score_documents(model, tokens, documents[i : i + 1], policy)["nll_sum"][0]
            for i in range(len(documents))
        ]
    error = float(np.max(np.abs(together - alone) / np.abs(together)))
    bound = 1e-6 if backend.detect().name == "cpu" else 5e-3
    return {"ok": error <= bound, "relative_error": error, "bound": bound}


def _resume() -> dict[str, Any]:
    """A run that is stopped in the middle of training ends with the bytes of one that is not."""
    from mlxprune import config as configs
    from mlxprune import pipeline, runs, testing
    from mlxprune.errors import Stopped

    with tempfile.TemporaryDirectory() as name:
        corpus = testing.tiny_corpus(Path(name) / "corpus")
        chosen = configs.validate(testing.tiny_config(corpus), "selftest")
        whole, broken = (runs.RunFolder(Path(name) / n) for n in ("whole", "broken"))
        pipeline.run(chosen, whole, until="score")
        asked = False

        def interrupt(event: dict[str, Any], state: dict[str, Any]) -> None:
            nonlocal asked
            if event["kind"] == "train.step" and not asked:
                asked = True
                runs.send_command(broken, "stop")

        try:
            pipeline.run(chosen, broken, until="score", listeners=[interrupt])
            stopped = False
        except Stopped:
            stopped = True
        pipeline.run(chosen, broken, until="score")
        same = all(
            (whole.path / part).read_bytes() == (broken.path / part).read_bytes()
            for part in ("references/main/model.safetensors", "scores/main.parquet")
        )
    return {"ok": same and stopped, "stopped_in_between": stopped, "same_bytes": same}


def _memory() -> dict[str, Any]:
    """Scoring holds no more than its batch: what it takes does not grow with the documents."""
    from mlxprune import backend, score

    grown = []
    with tempfile.TemporaryDirectory() as name:
        model, _, tokens, documents = _tiny(Path(name))
        policy = score.Policy(32, 0, "windows", None, 256)
        for times in (1, 200):  # all logits of the second would be 80 MB
            backend.reset_peak_memory()
            before = backend.peak_memory()
            score.score_documents(model, tokens, np.tile(documents, times), policy)
            grown.append(backend.peak_memory() - before)
    return {"ok": grown[1] <= 2 * grown[0] + (16 << 20), "bytes_taken": grown}


def lines(facts: dict[str, Any]) -> list[str]:
    """The facts for people."""
    shown = [
        f"python     {facts['python']} on {facts['platform']}",
        f"memory     {facts['memory_bytes'] / 2**30:.1f} GiB",
        f"disk       {facts['free_disk_bytes'] / 1e9:.0f} GB free",
        "packages   " + ", ".join(f"{n} {v}" for n, v in facts["packages"].items()),
    ]
    if "backend" in facts:
        device = facts["backend"]
        shown.append(f"device     {device['name']}: {device['device']}, {device['dtype']}")
    state = "fast" if facts["blas"]["fast"] else "SLOW"
    shown.append(f"blas       {state}: {facts['blas']['library']} ({facts['blas']['how']})")
    if "matmul" in facts:
        speed = facts["matmul"]
        shown.append(
            f"matmul     {speed['mlx_gflops']:.0f} GFLOP/s through MLX, "
            f"{speed['numpy_gflops']:.0f} through NumPy"
        )
    for name, check in facts.get("checks", {}).items():
        detail = ", ".join(f"{k} {v}" for k, v in check.items() if k not in ("ok", "seconds"))
        shown.append(f"{'ok  ' if check['ok'] else 'FAIL'}       {name}: {detail}")
    shown += [f"problem    {p}" for p in facts["problems"]]
    if not facts["problems"] and facts.get("ok", True):
        shown.append("all well")
    return shown
